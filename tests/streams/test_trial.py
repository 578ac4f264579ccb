"""A version that passed its gate answers a share of the queries, and what people say of it decides, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from schemas.errors import VersionError
from schemas.events import Candidate, ModelVersion
from schemas.settings import Settings
from schemas.versions import BASES
from streams.audit.outcome import outcome_of, trial_in_words
from streams.worker import rollback
from tests.effects.outcome import BEFORE, IN_USE, LINE, add, judged, made, registry
from trainers import promotion
from trainers.serving import job_variables, put_into_use, settings_of
from trainers.versions import VersionStore

NEXT = "dpo-c3"
SHARE = 0.1


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(rollback, "publish_now", AsyncMock())
    serving = {"rollback_when_worse": True, "candidate_share": SHARE, "candidate_judgements": 100}
    return Settings.model_validate({"data_dir": str(tmp_path), "serving": serving})


@pytest.fixture
def store(settings: Settings) -> VersionStore:
    """A registry with a version in use and one that is tried."""
    found = registry(settings.data_dir)
    made(found, NEXT)
    put_into_use(settings.serving, found, NEXT, "passed")
    return found


def history(store: VersionStore) -> list[tuple[str, str]]:
    return [(one.action, one.version) for one in store.in_use(LINE).history[2:]]


def look(settings: Settings, rewards: dict[str, float], count: int = 200) -> None:
    seen = outcome_of(settings, judged(rewards, count))

    async def several() -> None:
        await asyncio.gather(*(rollback.settle_trials(settings, seen) for _ in range(4)))

    asyncio.run(several())


def test_a_jobs_process_has_a_version_tried_first_and_a_person_puts_it_into_use_at_once(settings: Settings) -> None:
    store = registry(settings.data_dir)
    for version in (NEXT, "dpo-d4"):
        made(store, version)
    put_into_use(settings_of(job_variables(settings.serving)), store, NEXT, "passed")
    used = store.in_use(LINE)
    assert (used.version, used.candidate.version, used.candidate.share) == (IN_USE, NEXT, SHARE)
    put_into_use(settings.serving, store, NEXT, "passed")  # a job that is taken up again
    assert history(store) == [("tried", NEXT)]
    promotion.promote(settings, "dpo-d4", "by hand")
    assert (store.in_use(LINE).version, store.in_use(LINE).candidate) == ("dpo-d4", None)


def test_consumers_hear_what_stays_in_use_and_what_is_tried_beside_it(store: VersionStore) -> None:
    event = store.event(store.in_use(LINE).history[-1])
    assert (event.version, event.path) == (IN_USE, f"models/dpo/{IN_USE}")
    assert event.candidate == Candidate(version=NEXT, path=f"models/dpo/{NEXT}", share=SHARE)
    assert event.reason == "tried: passed"
    assert ModelVersion.from_json(event.to_json()) == event


def test_a_query_is_always_answered_by_the_same_version_and_the_candidate_has_its_share(store: VersionStore) -> None:
    event = store.event(store.in_use(LINE).history[-1])
    queries = [f"how is pump {number}" for number in range(20_000)]
    mine = {query for query in queries if event.answering(query) == NEXT}
    assert mine == {query for query in queries if event.answering(query) == NEXT}
    assert len(mine) / len(queries) == pytest.approx(SHARE, abs=0.01)
    other = event.model_copy(update={"candidate": Candidate(version="dpo-d4", path="", share=SHARE)})
    theirs = {query for query in queries if other.answering(query) == "dpo-d4"}
    assert len(mine & theirs) / len(mine) == pytest.approx(SHARE, abs=0.05)


def test_one_that_is_not_worse_after_enough_judgements_is_put_into_use_once(
    settings: Settings, store: VersionStore
) -> None:
    look(settings, {IN_USE: 0.3, NEXT: 0.3}, count=99)
    assert store.in_use(LINE).candidate is not None
    look(settings, {IN_USE: 0.3, NEXT: 0.3}, count=100)
    assert history(store) == [("tried", NEXT), ("promoted", NEXT)]
    assert store.in_use(LINE).history[-1].reason == (
        f"not worse: {NEXT}, tried on 10% of the queries beside {IN_USE}: +0.00 [-0.04, +0.04], "
        "100 answers against 100 that the same sources judged"
    )
    assert store.one_before(LINE) == IN_USE


def test_one_that_is_worse_goes_back_once_before_it_was_in_use(settings: Settings, store: VersionStore) -> None:
    look(settings, {IN_USE: 0.5, NEXT: 0.2}, count=60)
    assert history(store) == [("tried", NEXT), ("rolled back", IN_USE)]
    used = store.in_use(LINE)
    assert (used.version, used.candidate, used.history[-1].previous) == (IN_USE, None, NEXT)
    assert used.history[-1].reason.startswith(
        f"judged worse: {NEXT}, tried on 10% of the queries beside {IN_USE}: -0.30"
    )
    assert store.event(used.history[-1]).candidate is None
    assert store.one_before(LINE) == BEFORE


def test_the_next_version_is_tried_instead_and_a_look_from_before_ends_no_other_trial(
    settings: Settings, store: VersionStore
) -> None:
    seen = outcome_of(settings, judged({IN_USE: 0.5, NEXT: 0.2}))
    made(store, "dpo-d4")
    put_into_use(settings.serving, store, "dpo-d4", "passed")
    asyncio.run(rollback.settle_trials(settings, seen))
    assert history(store) == [("tried", NEXT), ("tried", "dpo-d4")]
    with pytest.raises(VersionError, match=f"{NEXT} is not tried by now"):
        store.settle(LINE, NEXT, "late", take=True)


def test_a_rollback_by_hand_ends_a_trial_and_what_was_in_use_stays(settings: Settings, store: VersionStore) -> None:
    event = promotion.rollback(settings, LINE)
    assert (event.version, store.in_use(LINE).version, store.in_use(LINE).candidate) == (IN_USE, IN_USE, None)
    assert promotion.rollback(settings, LINE).version == BEFORE


def test_a_version_in_use_that_is_worse_than_the_one_before_goes_back_during_a_trial_too(
    settings: Settings, store: VersionStore
) -> None:
    asyncio.run(rollback.roll_back_worse(settings, outcome_of(settings, judged({BEFORE: 0.4, IN_USE: 0.1}))))
    assert history(store) == [("tried", NEXT), ("rolled back", BEFORE)]


def test_the_base_model_stays_in_use_beside_the_first_version(settings: Settings) -> None:
    store = VersionStore(settings.data_dir)
    made(store, NEXT)
    put_into_use(settings.serving, store, NEXT, "passed")
    event = store.event(store.in_use(LINE).history[-1])
    assert (event.version, event.path, event.candidate.version) == (BASES[LINE], "", NEXT)
    look(settings, {BASES[LINE]: 0.5, NEXT: 0.0})
    assert (store.in_use(LINE).version, store.in_use(LINE).candidate) == (None, None)


def test_without_judgements_the_trial_is_told_and_goes_on(settings: Settings, store: VersionStore) -> None:
    [line] = [one for one in outcome_of(settings, judged({}))["lines"] if one["line"] == LINE]
    assert (line["candidate"], line["settled"]) == (NEXT, None)
    assert trial_in_words(line) == (
        f"{NEXT}, tried on 10% of the queries beside {IN_USE}: too few judged answers to compare"
    )
    add(store, "dpo-d4")
    assert store.in_use(LINE).candidate is None
