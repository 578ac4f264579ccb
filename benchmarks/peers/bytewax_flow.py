"""The work on Bytewax: batches are gathered under one key. Its recovery store takes offsets and state every second.

`durable`: the join is a stateful step by experience, and the learner is kept.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeAlias

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import KeyedStream
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.peers.deployment import Deployment
from benchmarks.peers.durable import CheckpointedLearner, Stored
from benchmarks.peers.work import AT_ONCE, Joined, Work, join_experience, join_feedback

Message: TypeAlias = KafkaSourceMessage[bytes, bytes]
Update: TypeAlias = KafkaSinkMessage[bytes, bytes]
State = dict[str, bytes]


def in_batches(stream: Stream[Any]) -> KeyedStream[list[Any]]:
    """Return up to 500, or what comes in 20 ms, at once."""
    return op.collect("gather", op.key_on("one", stream, lambda _: "all"), timedelta(milliseconds=20), AT_ONCE)


def in_memory(of: Deployment, messages: Stream[Message]) -> Stream[Update]:
    """Join and learn what was gathered."""
    work = Work()

    def learn(gathered: tuple[str, list[Message]]) -> list[Update]:
        _, messages = gathered
        arrived = work.arrive([message.value for message in messages if message.topic == of.inputs[0]])
        judged = work.judge([message.value for message in messages if message.topic == of.inputs[1]])
        return [KafkaSinkMessage(key, value) for key, value in (*arrived, *judged)]

    return op.flat_map("learn", in_batches(messages), learn)


def durable(of: Deployment, messages: Stream[Message]) -> Stream[Update]:
    """Join one by one, with the state of each experience, and learn what was gathered."""
    learner = CheckpointedLearner(of.folder / "scorer")

    def join(state: State | None, message: Message) -> tuple[State, list[Joined]]:
        values = state or {}
        kept = Stored(values.get, values.__setitem__)
        process = join_experience if message.topic == of.inputs[0] else join_feedback
        one = process(message.value, lambda _: kept)
        return values, [] if one is None else [one]

    def learn(gathered: tuple[str, list[Joined]]) -> list[Update]:
        return [KafkaSinkMessage(key, value) for key, value in learner.learn(gathered[1])]

    keyed = op.key_on("by-experience", messages, lambda message: message.key.decode())
    joined = op.key_rm("joined", op.stateful_flat_map("join", keyed, join))
    return op.flat_map("learn", in_batches(joined), learn)


def build(of: Deployment) -> Dataflow:
    """Return the flow."""
    flow = Dataflow("peer")
    messages = op.input("in", flow, KafkaSource([of.bootstrap], of.inputs, batch_size=AT_ONCE))
    updates = (durable if "durable" in of.options else in_memory)(of, messages)
    config = {"acks": "all", "linger.ms": "2", "partitioner": "murmur2"}
    op.output("out", updates, KafkaSink([of.bootstrap], of.outputs, config))
    return flow


def main(of: Deployment) -> None:
    """Run until it is ended."""
    recovery = of.folder / "recovery"
    if not recovery.exists():
        recovery.mkdir()
        init_db_dir(recovery, 1)
    cli_main(build(of), epoch_interval=timedelta(seconds=1), recovery_config=RecoveryConfig(recovery))


if __name__ == "__main__":
    main(Deployment.from_arguments())
