"""A worker of the live tests, run as a process of its own: it notes every record that it was given.

Arguments: a JSON object, see `Spec`. Each record is one line of the output file, `topic partition offset value`,
written before the batch is acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

import faust
from faust.types import TP

from streams.transport import TransportOptions
from streams.transport.flow import FlowingApp


class Spec(TypedDict, total=False):
    """What the worker is to do."""

    bootstrap: str
    group: str
    scheme: str
    topics: list[str]
    batched: bool
    batch_records: int
    fetch_max_wait_ms: int
    output: str
    datadir: str
    table: bool
    partitions: int
    store: str
    body_seconds: float
    in_flight: int
    begun: str
    gate: str
    start_offsets: dict[str, int]
    bound_file: str
    session_seconds: float
    latencies: str


def build(spec: Spec) -> faust.App:
    """Build the app that `spec` describes."""
    app = FlowingApp(
        spec["group"],
        broker=f"{spec.get('scheme', 'kafkabatch')}://{spec['bootstrap']}",
        store=spec.get("store", "memory://"),
        datadir=spec["datadir"],
        topic_disable_leader=True,
        topic_partitions=spec.get("partitions", 2),
        broker_session_timeout=spec.get("session_seconds", 6.0),
        broker_heartbeat_interval=spec.get("session_seconds", 6.0) / 6,
        broker_commit_interval=0.5,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    bound_file = spec.get("bound_file")
    starts = spec.get("start_offsets", {})

    def bound(_tp: TP) -> int | None:
        return int(Path(bound_file).read_text()) if bound_file else None

    async def start_offset(tp: TP, committed: int | None) -> int | None:
        offset: int | None = starts.get(f"{tp.topic}/{tp.partition}", committed)
        return offset

    app.transport_options = TransportOptions(
        batch_topics=frozenset(spec["topics"]) if spec.get("batched", True) else frozenset(),
        batch_records=spec.get("batch_records", 500),
        in_flight=dict.fromkeys(spec["topics"], spec.get("in_flight", 1)),
        fetch_max_wait_ms=spec.get("fetch_max_wait_ms", 20),
        durable_through=bound,
        start_offset=start_offset,
    )
    channel = app.topic(
        *spec["topics"],
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        allow_empty=True,
    )
    counts: Any = None
    if spec.get("table"):
        counts = app.Table("counts", default=int, partitions=spec.get("partitions", 2), key_type=str, value_type=int)
    output = os.open(spec["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    latencies = os.open(spec["latencies"], os.O_WRONLY | os.O_APPEND | os.O_CREAT) if "latencies" in spec else None

    in_flight = spec.get("in_flight", 1)
    at_once = in_flight * spec.get("partitions", 2) if in_flight > 1 else 1

    @app.agent(channel, name="note-records", concurrency=at_once)
    async def note(stream: Any) -> None:
        async for batch in stream:
            if spec.get("batched", True):
                records = [(batch.topic, batch.partition, r.offset, r.value) for r in batch.records]
                stamps = [r.timestamp for r in batch.records]
            else:
                message = stream.current_event.message
                records = [(message.topic, message.partition, message.offset, message.value)]
                stamps = [int(message.timestamp * 1000)]
            if "begun" in spec:
                begin(spec, *records[0][1:3])
                await asyncio.to_thread(wait_for, Path(spec["gate"]))
            if counts is not None:
                for topic, partition, _, _ in records:
                    counts[f"{topic}/{partition}"] += 1
            if spec.get("body_seconds"):
                await asyncio.sleep(spec["body_seconds"])
            lines = "".join(f"{t} {p} {o} {v.decode()[:40]}\n" for t, p, o, v in records)
            if counts is not None:
                key = f"{records[0][0]}/{records[0][1]}"
                lines = lines.replace("\n", f" count={counts[key]}\n")
            os.write(output, lines.encode())
            if latencies is not None:
                now = time.time() * 1000
                os.write(latencies, "".join(f"{now - stamp:.1f}\n" for stamp in stamps).encode())

    return app


def begin(spec: Spec, partition: int, offset: int) -> None:
    with Path(spec["begun"]).open("a") as begun:
        begun.write(f"{partition} {offset}\n")


def wait_for(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.02)


if __name__ == "__main__":
    spec: Spec = json.loads(sys.argv[1])
    app = build(spec)
    app.Worker(loglevel="INFO").execute_from_commandline()
