"""The work on Quix Streams: a sink that learns what was gathered for a commit.

`durable`: the join is a stateful step, its state in Quix' RocksDB with a changelog, and the learner is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer
from quixstreams import Application, State
from quixstreams.sinks import BatchingSink, SinkBatch

from benchmarks.peers.deployment import Deployment
from benchmarks.peers.durable import CheckpointedLearner, Stored
from benchmarks.peers.work import AT_ONCE, Joined, KeptOf, Messages, Work, join_experience, join_feedback


class WorkSink(BatchingSink):  # type: ignore[misc]
    """Does the work on a batch and publishes what comes of it, before the offsets are committed."""

    def __init__(self, producer: Producer, topic: str, process: Callable[[list[Any]], Messages]) -> None:
        super().__init__()
        self._producer, self._topic, self._process = producer, topic, process

    def write(self, batch: SinkBatch) -> None:
        """Take one partition's records."""
        for key, value in self._process([item.value for item in batch]):
            self._producer.produce(self._topic, value, key)
        self._producer.flush()


def join(tagged: tuple[Callable[[bytes, KeptOf], Joined | None], bytes], state: State) -> Joined | None:
    """Join one record with what is in the state of its key, which is the experience's id."""
    process, value = tagged
    kept = Stored(state.get_bytes, state.set_bytes)
    return process(value, lambda _: kept)


def main(of: Deployment) -> None:
    """Run until it is ended."""
    durable = "durable" in of.options
    app = Application(
        broker_address=of.bootstrap,
        consumer_group=of.group,
        auto_offset_reset="earliest",
        commit_every=AT_ONCE,
        commit_interval=0.02,
        consumer_poll_timeout=0.02,
        consumer_extra_config={"session.timeout.ms": of.session_ms},
        auto_create_topics=durable,
        state_dir=of.folder / "state",
        loglevel="WARNING",
    )
    producer = Producer({"bootstrap.servers": of.bootstrap, "acks": "all", "linger.ms": 2, "partitioner": "murmur2"})
    topics = [app.topic(name, value_deserializer="bytes", key_deserializer="bytes") for name in of.inputs]
    arrived, judged = (app.dataframe(topic) for topic in topics)
    if durable:
        work = Work(learner=CheckpointedLearner(of.folder / "scorer"))
        arrived = arrived.apply(lambda value: (join_experience, value))
        judged = judged.apply(lambda value: (join_feedback, value))
        joined = arrived.concat(judged).apply(join, stateful=True).filter(lambda one: one is not None)
        joined.sink(WorkSink(producer, of.outputs, work.learn))
    else:
        work = Work()
        for frame, process in ((arrived, work.arrive), (judged, work.judge)):
            frame.sink(WorkSink(producer, of.outputs, process))
    app.run()


if __name__ == "__main__":
    main(Deployment.from_arguments())
