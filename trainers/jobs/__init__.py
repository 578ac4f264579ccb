"""Training jobs: when one starts, what it trains on, and the processes that train.

`accumulate` finds the runs of examples that start a job, `snapshot` freezes a run's dataset and plans the job,
`validate` checks the dataset against the rules in effect.

`dpo` and `sft` are the processes; what they share is `process`: `work` checks and prepares, `base_model`, `lora` and
`chat_template` make the policy, `formats` and `encode` make text and tokens of examples, `heldout` parts them,
`progress` reports and keeps checkpoints, `judge` and `gate` decide on the result, `lineage` says what it was made of.
None of these is ever imported by a worker: they bring transformers, TRL and PEFT with them.
"""
