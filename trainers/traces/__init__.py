"""Tier 3: reasoning traces.

`suitability` says which traces can be trained on, `store` writes and reads them.
"""
