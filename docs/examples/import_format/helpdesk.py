"""A format of one's own for `tierstream import`: a help desk's tickets, one JSON object a line; to copy from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streams.imports.found import Call, Format, Found, LeftOut, Record, Score, reading


def of_ticket(record: Record, ticket: Mapping[str, Any]) -> Iterator[Found]:
    """Yield what a ticket holds. One that lacks a field (`KeyError`) is named as bad, and costs no other."""
    if not ticket.get("answered"):
        yield LeftOut(record.where, "open_ticket")
        return
    name = f"ticket-{ticket['number']}"
    fields = {
        "trace_id": name,  # from the source, so that a second import adds nothing
        "timestamp": ticket["at"],
        "kind": "ticket",
        "prompt": ticket["asked"],
        "response": ticket["answered"],
        "model": ticket.get("model", "unknown"),
    }
    yield Call(record.where, fields, record.value, name=ticket.get("product"))
    if "stars" in ticket:
        yield Score(record.where, f"{name}-stars", (name,), (ticket["stars"] - 1) / 4, ticket["at"])


FORMAT = Format(
    "helpdesk",
    "tickets of our help desk (JSONL), with their stars",
    reading(of_ticket),
    lambda value: {"number", "asked"} <= value.keys(),
)
