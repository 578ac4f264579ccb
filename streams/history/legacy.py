"""Traces that the replaced system left in the data directory come in through the stream, like all others."""

from __future__ import annotations

import logging
from pathlib import Path

from schemas.settings import Settings
from streams import topics
from streams.kafka.options import client_options
from streams.kafka.publisher import Outgoing, Publisher, partition_for
from trainers.traces.store import TraceStore

log = logging.getLogger("tierstream")


async def import_legacy_traces(settings: Settings) -> int:
    """Publish the traces of old files that are not in the store yet; return how many.

    Their ids do not change, so that a second import, or one that was cut short, does no harm.
    """
    store = TraceStore(Path(settings.data_dir) / "traces")
    legacy = {trace.trace_id: trace for trace in store.legacy()}
    stored = {s.trace.trace_id for s in store.read() if s.partition is not None} if legacy else set()
    topic, partitions = settings.topic(topics.TRACES), settings.topics.partitions
    messages = []
    for trace_id, trace in legacy.items():
        if trace_id not in stored:
            key = trace_id.encode()
            messages.append(Outgoing(topic, partition_for(key, partitions), key, trace.to_json()))
    if messages:
        publisher = Publisher(client_options(settings))
        await publisher.start()
        try:
            await publisher.publish(messages)
        finally:
            await publisher.stop()
        log.info("%d traces of the replaced system were found and taken in", len(messages))
    return len(messages)
