"""The work on FastStream with batch subscribers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import uvloop
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaPublishMessage

from benchmarks.peers.work import AT_ONCE, Deployment, Work


async def _raw(message: Any) -> Any:
    return message.body


def build(of: Deployment) -> FastStream:
    """Return the app."""
    work = Work()
    broker = KafkaBroker(of.bootstrap, acks="all", linger_ms=2, max_batch_size=2**20, logger=None)

    def subscribe(topic: str, process: Callable[[list[bytes]], list[tuple[bytes, bytes]]]) -> None:
        @broker.subscriber(
            topic,
            batch=True,
            max_records=AT_ONCE,
            batch_timeout_ms=20,
            fetch_max_wait_ms=20,
            group_id=of.group + topic,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            session_timeout_ms=45_000,
            decoder=_raw,
        )
        async def handle(messages: list[bytes]) -> None:
            updates = process(messages)
            if updates:
                await broker.publish_batch(
                    *(KafkaPublishMessage(value, key=key) for key, value in updates), topic=of.outputs
                )

    for topic, process in zip(of.inputs, (work.arrive, work.judge), strict=True):
        subscribe(topic, process)
    return FastStream(broker)


if __name__ == "__main__":
    uvloop.run(build(Deployment.from_arguments()).run())
