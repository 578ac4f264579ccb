"""Maps the recorded Qwen reasoning traces to trace events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.events import Trace

FILES = ("qwen3-8b__think-on.jsonl", "qwen3-8b__think-off.jsonl")
_START = datetime(2026, 1, 1, tzinfo=UTC)


def load_traces(folder: Path) -> list[Trace]:
    """Return the traces of both files, each id made of file and item.

    Raises:
        OSError: a file is missing.
    """
    items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
    prompts = {item["id"]: item["prompt"] for item in items}
    rows = [
        (Path(name).stem, json.loads(line))
        for name in FILES
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    ]
    return [_trace(file, row, prompts[row["item_id"]], number) for number, (file, row) in enumerate(rows)]


def _trace(file: str, row: dict[str, Any], prompt: str, number: int) -> Trace:
    return Trace(
        trace_id=f"{file}/{row['item_id']}",
        timestamp=_START + timedelta(seconds=number),
        kind=row["type"],
        prompt=prompt,
        thinking=row["thinking"] or None,
        response=row["content"],
        model=row["model"],
        input_tokens=row["prompt_eval_count"],
        output_tokens=row["eval_count"],
        latency_seconds=row["wall_s"],
        stop_reason=row["done_reason"],
    )
