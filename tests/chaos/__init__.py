"""Faults in a running deployment on Apache Kafka, and whether every produced id had its effects exactly once.

`python -m tests.chaos` (`make chaos`) runs rounds: events are published while a fault happens, then everything is
waited for. `run` draws the faults from a seed, `faults` and `process_faults` do them to what `stage` holds, `brokers`
and `proxy` are the cluster that can be killed and cut off, `fleet` keeps workers and trainer running as a supervisor
would, `load` publishes and remembers, `watch` follows the score updates, and `verify` compares what went in with all
that came out.
"""
