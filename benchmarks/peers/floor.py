"""What the machine gives at most: fetch and decode, nothing else; one record tells that all feedback was seen."""

from __future__ import annotations

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.peers.deployment import Deployment
from schemas.events import Experience, Feedback


async def main(of: Deployment) -> None:
    """Run until it is ended."""
    seen = dict.fromkeys(of.inputs, 0)
    consumer = AIOKafkaConsumer(
        *of.inputs,
        bootstrap_servers=of.bootstrap,
        group_id=of.group,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        session_timeout_ms=of.session_ms,
    )
    producer = AIOKafkaProducer(bootstrap_servers=of.bootstrap)
    async with consumer, producer:
        while True:
            for tp, records in (await consumer.getmany(timeout_ms=100)).items():
                model = Experience if tp.topic == of.inputs[0] else Feedback
                for record in records:
                    model.from_json(record.value)
                seen[tp.topic] += len(records)
                await producer.send(of.outputs, b"%d" % seen[tp.topic], tp.topic.encode())


if __name__ == "__main__":
    uvloop.run(main(Deployment.from_arguments()))
