"""What the trace agent counts and hands on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from schemas.events import Trace
from schemas.settings import Settings
from streams import topics
from streams.kafka.publisher import partition_for
from streams.transport.batch import RecordBatch
from tests.streams.offline import offline_app, record


def trace(number: int, **fields: Any) -> Trace:
    values = {
        "trace_id": f"t{number}",
        "timestamp": 1.0,
        "kind": "user_query",
        "prompt": "question",
        "thinking": "let me see",
        "response": "answer",
        "model": "a-model",
    }
    return Trace.model_validate({**values, **fields})


def test_a_repeated_trace_is_counted_and_handed_on_once(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": str(tmp_path), "topics": {"partitions": 1}})
    assert partition_for(b"t1", 1) == 0
    with offline_app(settings, "traces") as (app, kept):
        traces = [trace(1), trace(1), trace(2, thinking=None)]
        first = [record(one.to_json(), offset) for offset, one in enumerate(traces)]
        again = [record(one.to_json(), offset) for offset, one in enumerate(traces, start=3)]
        agent = app.agents_of_ours.traces
        assert agent is not None
        for records in (first, again):
            asyncio.run(agent.process(RecordBatch(settings.topic(topics.TRACES), 0, records)))
        counts = app.services.metrics.totals()[topics.TRACES]
        agent.forget()
        assert counts == {"stored": 2, "duplicate_trace": 4, "excellent": 1, "no_thinking": 1}
        assert len(kept.values(settings.topic(topics.ELIGIBLE_TRACES))) == 1
