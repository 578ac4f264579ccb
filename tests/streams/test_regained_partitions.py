"""What agents derive from their tables is derived anew once tables are recovered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import Settings
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
    tmp_path: Path, role: Role, agent: str, derived: str, value: Any
) -> None:
    with offline_app(Settings(data_dir=str(tmp_path)), role) as (app, _):
        held = getattr(app.agents_of_ours, agent)
        setattr(held, derived, value)
        asyncio.run(app.on_rebalance_complete.send())
        assert not getattr(held, derived)
