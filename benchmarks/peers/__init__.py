"""The same work on other engines, and what the machine gives at most.

For each feedback (experience known, embeddings supplied): consume, validate, join, deduplicate, learn, publish the
score update, commit. `work` is that work without an engine; `bare`, `faststream_batch`, `quix` and `bytewax_flow` are
engines as their own users would write it, in memory or, with the option `durable`, with state that outlives the
process (`durable`); `learners` are what users would have instead of our learner; `kafka_streams` joins and
deduplicates alone; `two_hops` is the work on bare aiokafka with a topic between join and scorer, as ours has it;
`floor` only fetches and decodes; our worker without Tier 2 runs `--roles join,scorer`.

`engines` has them in groups and says what each guarantees, `running` is one engine's processes, `measure` measures it,
`kills` kills it and `effects` says what that led to, `compare` runs all in turn, `report` has the tables.

The peers' packages' pins clash with ours, so they have an environment of their own: `requirements.txt`, made by `make
bench-peers`. Every peer makes the topics that it needs, under its deployment's prefix.
"""
