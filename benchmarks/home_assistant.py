"""The home_assistant rows as events: real runs of voice assistants, judged good or bad."""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.events import Device, Experience, Feedback, Intent, Widget

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "home_assistant" / "assist-2025.4.3.csv.gz"
"""Where the rows are, beside the project; never copied into it."""

START = datetime(2025, 4, 3, tzinfo=UTC)
_RAW_CALL = "raw_tool_call"


@dataclass(frozen=True, slots=True)
class Row:
    """One run: a query, what the assistant did and said, and whether that was right."""

    number: int
    """Position in the file, from 0; the synthetic clock's second."""
    experience_id: str
    """Model and task."""
    query: str
    categories: tuple[str, ...]
    tool_call: str
    response: str
    good: bool
    model: str

    @property
    def withheld(self) -> bool:
        """One query in five is not streamed as feedback, chosen by the MD5 of its text."""
        return int(hashlib.md5(self.query.encode(), usedforsecurity=False).hexdigest(), 16) % 5 == 0


def load_rows(path: Path = DATA) -> list[Row]:
    """Return the rows in file order.

    Raises:
        FileNotFoundError: the data is not there.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [
            Row(
                number=number,
                experience_id=f"{raw['model_id']}/{raw['task_id']}",
                query=raw["text"],
                categories=tuple(part.strip() for part in raw["category"].split(",") if part.strip()),
                tool_call=raw["tool_call"].strip(),
                response=raw["response"],
                good=raw["label"] == "Good",
                model=raw["model_id"],
            )
            for number, raw in enumerate(csv.DictReader(file))
        ]


def _parsed(call: str) -> tuple[str, dict[str, Any]] | None:
    """Return name and arguments of a tool call; None where the text is no Python dict."""
    try:
        value = ast.literal_eval(call)
    except (ValueError, SyntaxError):
        return None
    return str(value["tool_name"]), dict(value["tool_args"])


def _domains_of(arguments: dict[str, Any]) -> list[str]:
    found = arguments.get("domain") or []
    return [str(domain) for domain in (found if isinstance(found, list) else [found])]


def to_experience(row: Row) -> Experience:
    """Return the row as an experience: at most one widget, its type the tool's name, its text the arguments."""
    plan: tuple[Widget, ...] = ()
    devices: list[str] = []
    if row.tool_call:
        call = _parsed(row.tool_call)
        if call is None:
            plan = (Widget(widget_id="w0", widget_type=_RAW_CALL, text=row.tool_call),)
        else:
            tool, arguments = call
            devices = _domains_of(arguments)
            # In one order: who names the arguments in another one says nothing else.
            text = ", ".join(f"{name}: {value}" for name, value in sorted(arguments.items()))
            plan = (Widget(widget_id="w0", widget_type=tool, text=text, params=arguments),)
    return Experience(
        experience_id=row.experience_id,
        timestamp=START + timedelta(seconds=row.number),
        query=row.query,
        intent=Intent(
            type=row.categories[0], domains=row.categories, devices=tuple(Device(type=name) for name in devices if name)
        ),
        widget_plan=plan,
        voice_reply=row.response or None,
        source_model=row.model,
    )


def to_feedback(row: Row) -> Feedback:
    """Return the row's label as an evaluator's judgement."""
    return Feedback(
        feedback_id=f"{row.experience_id}/judged",
        experience_id=row.experience_id,
        timestamp=START + timedelta(seconds=row.number),
        source="evaluator",
        reward=1.0 if row.good else -1.0,
        evaluation_confidence=1.0,
    )
