"""The work on aiokafka alone; `durable`: with a RocksDB and an acknowledged changelog, and a learner that is kept."""

from __future__ import annotations

import asyncio

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.peers.deployment import Deployment
from benchmarks.peers.durable import CHANGELOG, CheckpointedLearner, Store
from benchmarks.peers.work import AT_ONCE, Work


def clients(of: Deployment, topics: list[str], group: str) -> tuple[AIOKafkaConsumer, AIOKafkaProducer]:
    """Return a consumer of `topics` and a producer, to be opened; `two_hops` has one pair for each of its processes."""
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=of.bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        session_timeout_ms=of.session_ms,
    )
    producer = AIOKafkaProducer(bootstrap_servers=of.bootstrap, acks="all", linger_ms=2, max_batch_size=2**20)
    return consumer, producer


async def main(of: Deployment) -> None:
    """Run until it is ended."""
    store = await Store.open(of) if "durable" in of.options else None
    work = Work() if store is None else Work(store.kept_of, CheckpointedLearner(of.folder / "scorer"))
    consumer, producer = clients(of, of.inputs, of.group)
    async with consumer, producer:
        while True:
            fetched = await consumer.getmany(timeout_ms=100, max_records=AT_ONCE)
            sent = []
            for tp, records in fetched.items():
                process = work.arrive if tp.topic == of.inputs[0] else work.judge
                for key, value in process([record.value for record in records]):
                    sent.append(await producer.send(of.outputs, value, key))
            await asyncio.gather(*sent)
            if store is not None:
                changes = store.take()
                await asyncio.gather(*[await producer.send(of.topic(CHANGELOG), value, key) for key, value in changes])
            if fetched:
                await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main(Deployment.from_arguments()))
