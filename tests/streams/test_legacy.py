"""Traces of the replaced system: seen in both forms that it wrote, whatever it called the fields."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Trace
from streams.history.legacy import old_traces
from trainers.traces.store import TraceStore


def found(folder: Path) -> tuple[list[Trace], Counter[str]]:
    stored, skipped = old_traces(TraceStore(folder))
    return [one.trace for one in stored], skipped


def test_the_audits_failure_traces_of_the_replaced_system_are_seen_in_both_forms(tmp_path: Path) -> None:
    """The old reader looked for `*.json` only, while the old writer appended to `traces.jsonl`."""
    first = {
        "prompt": "What are the current vibration levels for pump 001?",
        "thinking": "The operator asks ...",
        "response": "2.1 mm/s",
        "claude_time": 14.9,
        "input_tokens": 140,
        "output_tokens": 504,
    }
    second = {"trace_id": "t2", "user_prompt": "Select", "response": "{}", "usage": {"input_tokens": 12837}}
    (tmp_path / "traces.jsonl").write_text(json.dumps(first) + "\n\n" + json.dumps(second))
    (tmp_path / "single.json").write_text(json.dumps({"query": "q", "answer": "a", "latency_ms": 1500}, indent=1))
    (tmp_path / "again.json").write_text(json.dumps(first))
    traces, skipped = found(tmp_path)
    assert [(one.prompt[:6], one.response, one.thinking) for one in traces] == [
        ("What a", "2.1 mm/s", "The operator asks ..."),
        ("Select", "{}", None),
        ("q", "a", None),
    ]
    assert [one.latency_seconds for one in traces] == [14.9, None, 1.5]
    assert [(one.input_tokens, one.output_tokens) for one in traces] == [(140, 504), (12837, None), (None, None)]
    assert traces[1].trace_id == "t2"
    assert skipped == {}


def test_an_old_trace_without_id_and_time_gets_them_from_its_content_and_file(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({"prompt": "p", "response": "r"}) + "\n" + json.dumps({"response": "r", "prompt": "p"}))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (before,) = found(tmp_path)[0]
    assert before.timestamp == datetime.fromtimestamp(1_700_000_000, UTC)
    assert before.trace_id.startswith("legacy-")
    path.unlink()
    (tmp_path / "moved.json").write_text(json.dumps({"prompt": "p", "response": "r"}))
    assert [one.trace_id for one in found(tmp_path)[0]] == [before.trace_id]


@pytest.mark.parametrize("fields", [{"prompt": "p"}, {"response": "r"}, {"prompt": 3, "response": "r"}, [1]])
def test_an_old_trace_without_prompt_or_response_is_counted(tmp_path: Path, fields: Any) -> None:
    (tmp_path / "traces.jsonl").write_text(json.dumps(fields))
    assert found(tmp_path) == ([], {"traces.jsonl": 1})
