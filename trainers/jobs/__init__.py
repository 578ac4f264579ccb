"""Training jobs: when one starts and what it trains on.

`accumulate` finds the runs of examples that start a job, `snapshot` freezes a run's dataset and plans the job,
`validate` is the job's own process: it checks the dataset against the rules in effect.
"""
