"""Where a partition begins, and what is committed of it before its first record."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP

from streams.transport.driver import Consumer

PLACE = TP("log", 0)


def placed(committed: int | None, start: int | None, policy: int = 0) -> int | None:
    """Place a partition; return what is to be committed of it before anything was delivered."""

    async def committed_offset(tp: TP) -> int | None:
        return committed

    async def start_offset(tp: TP, offset: int | None) -> int | None:
        assert offset == committed
        return start

    async def place(tp: TP, offset: int | None) -> int:
        return policy if offset is None else offset

    consumer = SimpleNamespace(
        app=SimpleNamespace(consumer_generation_id=1),
        assignment=lambda: {PLACE},
        _thread=SimpleNamespace(committed_offset=committed_offset, place=place),
        _options=SimpleNamespace(start_offset=start_offset),
        _ledgers={},
    )
    asyncio.run(Consumer._place(consumer, PLACE))
    offset: int | None = consumer._ledgers[PLACE].committable(None)
    return offset


@pytest.mark.parametrize("committed", [None, 8])
def test_what_the_start_offset_passes_over_is_committed(committed: int | None) -> None:
    assert placed(committed, start=28) == 28


@pytest.mark.parametrize(("committed", "start", "policy"), [(None, None, 5), (None, 0, 0), (28, 28, 0)])
def test_nothing_is_committed_where_nothing_is_passed_over(
    committed: int | None, start: int | None, policy: int
) -> None:
    assert placed(committed, start, policy) is None
