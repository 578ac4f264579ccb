"""The same work on other engines, and what the machine gives at most.

For each feedback (experience known, embeddings supplied): consume, validate, join, deduplicate, learn, publish the
score update, commit. `work` is that work without an engine; `bare`, `faststream_batch`, `quix` and `bytewax_flow` are
engines as their own users would write it; `two_hops` is that on bare aiokafka with a topic between join and scorer, as
ours has it; `floor` only fetches and decodes; `without_pairs` is our worker without Tier 2.
`engines` says what each guarantees, `measure` measures one, `compare` runs all in turn, `report` has the tables.

The engines keep their state in memory, log no step and pair nothing: Tierstream does more. Their packages' pins clash
with ours, so they have an environment of their own: `requirements.txt`, made by `make bench-peers`.
"""
