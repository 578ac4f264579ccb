"""The work on aiokafka alone, in two processes with a topic between them: one joins, the other learns.

What any pipeline takes whose scorer reads a topic, and nothing else of what Tierstream does: no state that outlives the
process, no pairs. With `acknowledged` the broker also gets what durable state needs of it: a change for each feedback,
once the entries are acknowledged, and a step's record, before the step. Both are waited for, neither is ever read.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterable

import msgspec
import uvloop
from msgspec.structs import replace

from benchmarks.peers.bare import clients
from benchmarks.peers.deployment import Deployment
from benchmarks.peers.work import AT_ONCE, Joined, Work

Messages = Iterable[tuple[bytes, bytes]]
BETWEEN, CHANGES, STEPS = "hop-joined", "hop-changes", "hop-steps"
CHANGE_BYTES, STEP_BYTES = 300, 100
LEARN, ACKNOWLEDGED = "learn", "acknowledged"
_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Joined).decode


def joining(work: Work, of: Deployment) -> Callable[[str, list[bytes]], Messages]:
    """Return what makes entries of events; features travel with arrivals only."""

    def process(topic: str, values: list[bytes]) -> Messages:
        if topic == of.inputs[0]:
            joined = work.arrived(values)
        else:
            joined = [replace(one, known=replace(one.known, features=b"")) for one in work.judged(values)]
        return [(one.experience_id.encode(), _encode(one)) for one in joined]

    return process


def learning(work: Work) -> Callable[[str, list[bytes]], Messages]:
    """Return what makes score updates of entries."""
    features: dict[str, bytes] = {}

    def process(_: str, values: list[bytes]) -> Messages:
        entries = []
        for value in values:
            entry = _decode(value)
            if entry.feedback_id is None:
                features[entry.experience_id] = entry.known.features
            entries.append(replace(entry, known=replace(entry.known, features=features[entry.experience_id])))
        return work.learn(entries)

    return process


async def run(
    of: Deployment,
    topics: list[str],
    to: str,
    process: Callable[[str, list[bytes]], Messages],
    changes: str | None = None,
    steps: str | None = None,
) -> None:
    """Take from `topics`, publish to `to`, and commit, until it is ended.

    Args:
        of: names the topics and the group.
        topics: to take from.
        to: topic of what comes of it.
        process: the work on one partition's records.
        changes: topic of a change for each record, after what comes of it; None for none.
        steps: topic of a record for each batch, before the work on it; None for none.
    """
    consumer, producer = clients(of, topics, f"{of.group}-{to}")
    async with consumer, producer:
        while True:
            fetched = await consumer.getmany(timeout_ms=100, max_records=AT_ONCE)
            if fetched and steps is not None:
                await producer.send_and_wait(steps, bytes(STEP_BYTES))
            sent = []
            for tp, records in fetched.items():
                for key, value in process(tp.topic, [record.value for record in records]):
                    sent.append(await producer.send(to, value, key))
            await asyncio.gather(*sent)
            if changes is not None:
                keys = [record.key for records in fetched.values() for record in records]
                await asyncio.gather(*[await producer.send(changes, bytes(CHANGE_BYTES), key) for key in keys])
            if fetched:
                await consumer.commit()


def main() -> None:
    """Run both processes; the second ends with the first, however that ends."""
    of = Deployment.from_arguments()
    asyncio.run(of.create_topics(BETWEEN, STEPS, partitions=1))
    asyncio.run(of.create_topics(CHANGES))
    acknowledged = ACKNOWLEDGED in of.options
    if LEARN in of.options:
        steps = of.topic(STEPS) if acknowledged else None
        uvloop.run(run(of, [of.topic(BETWEEN)], of.outputs, learning(Work()), steps=steps))
        return
    changes = of.topic(CHANGES) if acknowledged else None
    with subprocess.Popen([sys.executable, *sys.orig_argv[1:], LEARN]) as learner:
        try:
            uvloop.run(run(of, of.inputs, of.topic(BETWEEN), joining(Work(), of), changes=changes))
        finally:
            learner.kill()


if __name__ == "__main__":
    main()
