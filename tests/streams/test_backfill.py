"""Files of events: what is read, and how a bad line is named."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Iterable
from typing import Any

from streams.history.backfill import Recorded, from_lines
from streams.kafka.log_range import TimeRange

EXPERIENCE = {
    "experience_id": "e1",
    "timestamp": 1,
    "query": "q",
    "intent": {"type": "status"},
    "widget_plan": [{"widget_id": "w", "widget_type": "gauge"}],
}


def read(lines: Iterable[bytes]) -> list[Recorded]:
    async def run() -> list[Recorded]:
        return [found async for found in from_lines(lines, "experiences", TimeRange())]

    return asyncio.run(run())


def line(**fields: Any) -> bytes:
    return json.dumps({**EXPERIENCE, **fields}).encode()


def test_a_vector_beyond_the_bound_is_refused_by_its_line() -> None:
    int8 = base64.b64encode(struct.pack("<384f", *range(-128, 128), *range(128))).decode()
    good, bad = read([line(), line(query_embedding=int8)])
    assert good.event is not None
    assert (bad.where, bad.event) == ("line 2", None)
    assert bad.reason == (
        "query_embedding: embedding has length 1,445, 1,000 at most can be used: is it float32, little-endian?"
    )


def test_a_byte_order_mark_at_a_files_start_is_no_part_of_its_first_line() -> None:
    assert [found.event is not None for found in read([b"\xef\xbb\xbf" + line() + b"\r\n", line() + b"\r\n"])] == [
        True
    ] * 2
    assert read([b"\xef\xbb\xbf\r\n"]) == []


def test_half_a_character_is_named_as_such() -> None:
    [bad] = read([b'{"experience_id": "\\ud800"}'])
    assert bad.reason == "half of a surrogate pair is no character: at line 1 column 26"
    [bad] = read([b'{"experience_id": "\\ud800'])
    assert "surrogate" not in bad.reason
