"""The work on FastStream with batch subscribers.

`durable`: with a RocksDB and an acknowledged changelog, and a learner that is kept; the name of a learner of
`learners`: with that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvloop
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaPublishMessage

from benchmarks.peers.deployment import Deployment
from benchmarks.peers.durable import CHANGELOG, CheckpointedLearner, Store
from benchmarks.peers.work import AT_ONCE, Learner, Messages, Work

CHANGES = 100
"""At most in one batch of the changelog, which FastStream puts on one partition whatever the keys."""


async def _raw(message: Any) -> Any:
    return message.body


def build(of: Deployment, work: Work, store: Store | None) -> FastStream:
    """Return the app."""
    broker = KafkaBroker(of.bootstrap, acks="all", linger_ms=2, max_batch_size=2**20, logger=None)

    async def publish(topic: str, messages: Messages) -> None:
        if messages:
            await broker.publish_batch(*(KafkaPublishMessage(value, key=key) for key, value in messages), topic=topic)

    def subscribe(topic: str, process: Callable[[list[bytes]], Messages]) -> None:
        @broker.subscriber(
            topic,
            batch=True,
            max_records=AT_ONCE,
            batch_timeout_ms=20,
            fetch_max_wait_ms=20,
            group_id=of.group + topic,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            session_timeout_ms=of.session_ms,
            decoder=_raw,
        )
        async def handle(messages: list[bytes]) -> None:
            updates = process(messages)
            changes = store.take() if store is not None else []
            await publish(of.outputs, updates)
            # An arrival's change has its features: 500 of them are no batch that the producer takes.
            parts = [changes[start : start + CHANGES] for start in range(0, len(changes), CHANGES)]
            await asyncio.gather(*(publish(of.topic(CHANGELOG), part) for part in parts))

    for topic, process in zip(of.inputs, (work.arrive, work.judge), strict=True):
        subscribe(topic, process)
    return FastStream(broker)


def learner_of(of: Deployment) -> Learner | None:
    """Return the learner that was asked for, None for ours in memory."""
    if "durable" in of.options:
        return CheckpointedLearner(of.folder / "scorer")
    if of.options:
        from benchmarks.peers.learners import LEARNERS

        (name,) = of.options
        return LEARNERS[name]()
    return None


async def main(of: Deployment) -> None:
    """Run until it is ended."""
    store = await Store.open(of) if "durable" in of.options else None
    work = Work(None if store is None else store.kept_of, learner_of(of))
    await build(of, work, store).run()


if __name__ == "__main__":
    uvloop.run(main(Deployment.from_arguments()))
