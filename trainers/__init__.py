"""The learners, pure decisions and training jobs: torch and files, no Kafka.

`files` writes atomically, `reward` blends judgements, `scorer` is Tier 1, `pairs` Tier 2,
`traces` Tier 3, `jobs` the thresholds, snapshots and job processes. Imports `schemas` only.
"""
