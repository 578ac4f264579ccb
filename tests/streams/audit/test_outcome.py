"""Rewards by version as they are told, beside the registry's names."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.settings import Settings
from schemas.versions import BASES
from streams.audit.outcome import SHOWN, in_words, outcome_of, verdict
from tests.effects.outcome import BEFORE, IN_USE, LINE, judged, registry
from trainers.outcome import OutcomeMonitor


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=str(tmp_path))


def test_the_version_in_use_comes_first_then_the_one_before_and_who_is_unknown_is_said(settings: Settings) -> None:
    registry(settings.data_dir)
    monitor = judged({"gpt-x": 1.0, BEFORE: 0.5, IN_USE: 0.25}, count=40)
    told = outcome_of(settings, monitor)
    names = [(one["version"], one["known"], one["in_use"], one["answers"]) for one in told["versions"]]
    assert names == [(IN_USE, True, True, 40), (BEFORE, True, False, 40), ("gpt-x", False, False, 40)]
    assert told["versions"][0]["sources"]["user"]["reward"] == 0.25
    [line] = [one for one in told["lines"] if one["line"] == LINE]
    assert (line["version"], line["before"], line["worse"], line["returned"]) == (IN_USE, BEFORE, True, False)
    assert verdict(line).startswith(f"{IN_USE} is judged worse than {BEFORE}, which was in use before, by 0.25 [")
    assert verdict(line).endswith("]: 40 answers against 40 that the same sources judged")


def test_without_versions_the_base_model_is_in_use_and_there_is_nothing_before_it(settings: Settings) -> None:
    told = outcome_of(settings, judged({BASES[LINE]: 0.5}, count=1))
    assert [(one["version"], one["known"], one["in_use"]) for one in told["versions"]] == [(BASES[LINE], True, True)]
    assert all(line["before"] is None and not line["worse"] for line in told["lines"])


def test_no_more_versions_are_told_than_can_be_read_and_those_needed_are_kept(settings: Settings) -> None:
    registry(settings.data_dir)
    monitor = judged({BEFORE: 0.5, IN_USE: 0.5, **{f"old-{number}": 0.0 for number in range(30)}}, count=1)
    told = [one["version"] for one in outcome_of(settings, monitor)["versions"]]
    assert told == [IN_USE, BEFORE, *(f"old-{number}" for number in range(29, 29 - SHOWN, -1))]
    assert monitor.kept == {IN_USE, BEFORE, *(base for line, base in BASES.items() if line != LINE)}


def test_rewards_are_told_in_words() -> None:
    assert in_words(OutcomeMonitor().rewards("nobody")) == "no answer judged"
    rewards = {"answers": 1212, "reward": 0.314, "low": 0.221, "high": 0.4}
    assert in_words(rewards) == "+0.31 [+0.22, +0.40] of 1,212 answers"
