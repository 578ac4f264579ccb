"""A worse version goes out of use once, whoever looks, and only where the settings and no person say otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from schemas.settings import Settings
from streams.audit.outcome import outcome_of
from streams.worker import rollback
from tests.effects.outcome import BEFORE, IN_USE, LINE, add, judged, registry
from trainers.versions import VersionStore

NEXT = "dpo-c3"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(rollback, "publish_now", AsyncMock())
    return Settings.model_validate({"data_dir": str(tmp_path), "serving": {"rollback_when_worse": True}})


def history(store: VersionStore) -> list[tuple[str, str]]:
    return [(one.action, one.version) for one in store.in_use(LINE).history]


def test_workers_that_see_the_same_roll_back_once_and_not_further(settings: Settings) -> None:
    store, monitor = registry(settings.data_dir), judged({BEFORE: 0.4, IN_USE: 0.1})
    seen = outcome_of(settings, monitor)

    async def both() -> None:
        await asyncio.gather(*(rollback.roll_back_worse(settings, seen) for _ in range(4)))
        await rollback.roll_back_worse(settings, outcome_of(settings, monitor))

    asyncio.run(both())
    assert history(store) == [("promoted", BEFORE), ("promoted", IN_USE), ("rolled back", BEFORE)]
    reason = store.in_use(LINE).history[-1].reason
    assert reason.startswith(f"{IN_USE} is judged worse than {BEFORE}, which was in use before, by 0.30 [")


def test_a_version_that_came_into_use_since_the_look_stays(settings: Settings) -> None:
    store, monitor = registry(settings.data_dir), judged({BEFORE: 0.4, IN_USE: 0.1})
    seen = outcome_of(settings, monitor)
    add(store, NEXT)
    asyncio.run(rollback.roll_back_worse(settings, seen))
    assert history(store)[-1] == ("promoted", NEXT)


def test_one_that_was_put_into_use_again_by_a_person_stays(settings: Settings) -> None:
    store, monitor = registry(settings.data_dir), judged({BEFORE: 0.4, IN_USE: 0.1})
    asyncio.run(rollback.roll_back_worse(settings, outcome_of(settings, monitor)))
    store.promote(IN_USE, "the judges were wrong")
    again = outcome_of(settings, monitor)
    [line] = [one for one in again["lines"] if one["line"] == LINE]
    assert (line["worse"], line["returned"]) == (True, True)
    asyncio.run(rollback.roll_back_worse(settings, again))
    assert history(store)[-1] == ("promoted", IN_USE)


def test_what_cannot_be_gone_back_to_is_said_and_the_worker_goes_on(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    store, monitor = registry(settings.data_dir), judged({BEFORE: 0.4, IN_USE: 0.1})
    (Path(settings.data_dir) / "models" / "dpo" / BEFORE / "weights").write_text("other")
    asyncio.run(rollback.roll_back_worse(settings, outcome_of(settings, monitor)))
    assert history(store)[-1] == ("promoted", IN_USE)
    assert f"{IN_USE} is not rolled back: " in caplog.text
    assert "has changed since it was added" in caplog.text
