"""Pydantic models of every event, internal record and setting.

`base` holds the two model families (tolerant events, strict settings), `vectors` the embedding field,
`events` the public contract of the topics, `records` what travels between our own agents,
`settings` every setting, and `config` the loader that says where each value came from.
Imports the standard library and pydantic only.
"""
