"""The work on Bytewax: batches are gathered under one key. Offsets go into its recovery store every second."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.peers.work import AT_ONCE, Deployment, Work

Message = KafkaSourceMessage[bytes, bytes]


def build(of: Deployment) -> Dataflow:
    """Return the flow."""
    work = Work()

    def learn(gathered: tuple[str, list[Message]]) -> list[KafkaSinkMessage[bytes, bytes]]:
        _, messages = gathered
        arrived = work.arrive([message.value for message in messages if message.topic == of.inputs[0]])
        judged = work.judge([message.value for message in messages if message.topic == of.inputs[1]])
        return [KafkaSinkMessage(key, value) for key, value in (*arrived, *judged)]

    flow = Dataflow("peer")
    messages = op.input("in", flow, KafkaSource([of.bootstrap], of.inputs, batch_size=AT_ONCE))
    keyed = op.key_on("one", messages, lambda _: "all")
    gathered = op.collect("gather", keyed, timedelta(milliseconds=20), AT_ONCE)
    updates = op.flat_map("learn", gathered, learn)
    config = {"acks": "all", "linger.ms": "2", "partitioner": "murmur2"}
    op.output("out", updates, KafkaSink([of.bootstrap], of.outputs, config))
    return flow


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        init_db_dir(Path(folder), 1)
        cli_main(
            build(Deployment.from_arguments()),
            epoch_interval=timedelta(seconds=1),
            recovery_config=RecoveryConfig(Path(folder)),
        )
