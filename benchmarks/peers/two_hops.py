"""The work on aiokafka alone, in two processes with a topic between them: one joins, the other learns.

What any pipeline takes whose scorer reads a topic, and nothing else of what Tierstream does: no state that outlives the
process, no log of steps, no pairs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterable

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from msgspec.structs import replace

from benchmarks.peers.work import AT_ONCE, Deployment, Work
from schemas.records import ScorerEntry

Messages = Iterable[tuple[bytes, bytes]]
BETWEEN = "scorer-entries"
LEARN = "learn"


def joining(work: Work, of: Deployment) -> Callable[[str, list[bytes]], Messages]:
    """Return what makes entries of events; features travel with arrivals only."""

    def process(topic: str, values: list[bytes]) -> Messages:
        entries = work.arrived(values) if topic == of.inputs[0] else work.judged(values)
        return [(entry.experience_id.encode(), entry.encode()) for _, entry in entries]

    return process


def learning(work: Work) -> Callable[[str, list[bytes]], Messages]:
    """Return what makes score updates of entries."""
    features: dict[str, bytes] = {}

    def process(_: str, values: list[bytes]) -> Messages:
        entries = []
        for value in values:
            entry = ScorerEntry.decode(value)
            if entry.kind == "arrived":
                features[entry.experience_id] = entry.features
            entries.append((entry.origin.offset, replace(entry, features=features[entry.experience_id])))
        return work.learn(entries)

    return process


async def run(of: Deployment, topics: list[str], to: str, process: Callable[[str, list[bytes]], Messages]) -> None:
    """Take from `topics`, publish to `to`, and commit, until it is ended."""
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=of.bootstrap,
        group_id=f"{of.group}-{to}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        session_timeout_ms=45_000,
    )
    producer = AIOKafkaProducer(bootstrap_servers=of.bootstrap, acks="all", linger_ms=2, max_batch_size=2**20)
    async with consumer, producer:
        while True:
            fetched = await consumer.getmany(timeout_ms=100, max_records=AT_ONCE)
            sent = []
            for tp, records in fetched.items():
                for key, value in process(tp.topic, [record.value for record in records]):
                    sent.append(await producer.send(to, value, key))
            await asyncio.gather(*sent)
            if fetched:
                await consumer.commit()


def main() -> None:
    """Run both processes; the second ends with the first."""
    if sys.argv[-1] == LEARN:
        sys.argv.pop()
        of = Deployment.from_arguments()
        uvloop.run(run(of, [of.topic(BETWEEN)], of.outputs, learning(Work())))
        return
    of = Deployment.from_arguments()
    with subprocess.Popen([sys.executable, "-m", "benchmarks.peers.two_hops", *sys.argv[1:], LEARN]) as learner:
        try:
            uvloop.run(run(of, of.inputs, of.topic(BETWEEN), joining(Work(), of)))
        finally:
            learner.kill()


if __name__ == "__main__":
    main()
