"""What agents derive from their tables is derived anew once tables are recovered."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from schemas.settings import Settings
from streams.agents.pairs import PairAgent
from streams.topics import Role
from tests.streams.offline import offline_app


@pytest.mark.parametrize(
    ("role", "agent", "derived", "value"),
    [
        ("pairs", "pairs", "_matchers", {0: "of before"}),
        ("pairs", "dpo", "_book", "of before"),
        ("traces", "sft", "_book", "of before"),
        ("join", "join", "_expiry", {0: "of before"}),
        ("join", "join", "_memories", {0: "of before"}),
    ],
)
def test_what_was_read_of_a_table_before_its_recovery_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role, agent: str, derived: str, value: Any
) -> None:
    with offline_app(Settings(data_dir=str(tmp_path)), role) as (app, _):
        held = getattr(app.agents_of_ours, agent)
        setattr(held, derived, value)
        monkeypatch.setattr(app.consumer, "assignment", lambda: set[TP]())
        asyncio.run(app.on_rebalance_complete.send())
        assert not getattr(held, derived)


def test_a_table_is_read_beside_the_loop_and_what_was_read_is_not_kept_where_partitions_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def reading(self: PairAgent, partition: int) -> str:
        assert goes_on.wait(30)
        return f"of {partition}"

    monkeypatch.setattr(PairAgent, "_derived", reading)
    with offline_app(Settings(data_dir=str(tmp_path)), "pairs") as (app, _):
        pairs = app.agents_of_ours.pairs
        assert pairs is not None

        async def load(*partitions: int, moved: bool) -> None:
            goes_on.clear()
            loading = asyncio.create_task(pairs.load(partitions))
            await asyncio.sleep(0)  # this very line would not be reached before the reading's end
            if moved:
                pairs.forget()
            goes_on.set()
            await loading

        asyncio.run(load(0, 3, moved=False))
        assert pairs._matchers == {0: "of 0", 3: "of 3"}
        asyncio.run(load(1, moved=True))
        assert pairs._matchers == {}
