"""The stream processor: transport, topology, agents, worker, command line and the embedded broker.

Imports `trainers` and `schemas`; never torch directly.
"""
