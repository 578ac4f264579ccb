from __future__ import annotations

import orjson
import pytest

from benchmarks.load import Load
from benchmarks.peers.work import Work
from schemas.events import ScoreUpdate
from schemas.settings import Settings


@pytest.fixture(scope="module")
def events() -> tuple[list[bytes], list[bytes]]:
    load = Load(Settings(), 30)
    experiences = [message.value or b"" for message in load.experiences()]
    return experiences, [message.value or b"" for message in load.feedback(0, 90)]


def test_every_feedback_is_scored_once(events: tuple[list[bytes], list[bytes]]) -> None:
    experiences, feedback = events
    work = Work()
    assert len(work.arrive([*experiences, experiences[0]])) == 30
    updates = [ScoreUpdate.from_json(value) for _, value in work.judge([*feedback, *feedback[:20]])]
    assert [update.feedback_id for update in updates] == [f"judgement-{number}" for number in range(90)]
    assert {update.reason for update in updates} == {"feedback_learned", "feedback_held_out"}
    assert all(len(update.items) == 4 for update in updates)


def test_what_is_invalid_or_of_no_known_experience_is_passed_over(events: tuple[list[bytes], list[bytes]]) -> None:
    experiences, feedback = events
    work = Work()
    work.arrive([b"no JSON", experiences[0]])
    updates = work.judge([b"no JSON", feedback[0], feedback[1]])
    assert [orjson.loads(value)["experience_id"] for _, value in updates] == ["answer-0"]


def test_a_judgement_that_is_older_than_the_one_that_counts_changes_nothing(
    events: tuple[list[bytes], list[bytes]],
) -> None:
    experiences, feedback = events
    work = Work()
    work.arrive(experiences)
    older, newer = feedback[0], feedback[60]  # of one source about one experience
    assert len(work.judge([newer])) == 1
    assert work.judge([older]) == []
