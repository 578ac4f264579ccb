"""The work on Quix Streams: a sink that learns what was gathered for a commit."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Producer
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from benchmarks.peers.work import AT_ONCE, Deployment, Work


class WorkSink(BatchingSink):  # type: ignore[misc]
    """Does the work on a batch and publishes what comes of it, before the offsets are committed."""

    def __init__(
        self, producer: Producer, topic: str, process: Callable[[list[bytes]], list[tuple[bytes, bytes]]]
    ) -> None:
        super().__init__()
        self._producer, self._topic, self._process = producer, topic, process

    def write(self, batch: SinkBatch) -> None:
        """Take one partition's records."""
        for key, value in self._process([item.value for item in batch]):
            self._producer.produce(self._topic, value, key)
        self._producer.flush()


def main(of: Deployment) -> None:
    """Run until it is ended."""
    work = Work()
    app = Application(
        broker_address=of.bootstrap,
        consumer_group=of.group,
        auto_offset_reset="earliest",
        commit_every=AT_ONCE,
        commit_interval=0.02,
        consumer_poll_timeout=0.02,
        auto_create_topics=False,
        loglevel="WARNING",
    )
    producer = Producer({"bootstrap.servers": of.bootstrap, "acks": "all", "linger.ms": 2, "partitioner": "murmur2"})
    for topic, process in zip(of.inputs, (work.arrive, work.judge), strict=True):
        source = app.topic(topic, value_deserializer="bytes", key_deserializer="bytes")
        app.dataframe(source).sink(WorkSink(producer, of.outputs, process))
    app.run()


if __name__ == "__main__":
    main(Deployment.from_arguments())
