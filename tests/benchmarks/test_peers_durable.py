from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from benchmarks.load import Load
from benchmarks.peers.durable import CheckpointedLearner, Store
from benchmarks.peers.engines import BARE, ENGINES, STREAMS
from benchmarks.peers.kafka_streams import find_javac
from benchmarks.peers.work import Work
from schemas.errors import BrokerError
from schemas.settings import Settings

Events = tuple[list[bytes], list[bytes]]


@pytest.fixture(scope="module")
def events() -> Events:
    load = Load(Settings(), 30)
    return [m.value or b"" for m in load.experiences()], [m.value or b"" for m in load.feedback(0, 90)]


def test_what_is_stored_joins_as_what_is_in_memory_does(events: Events, tmp_path: Path) -> None:
    experiences, feedback = events
    stored, memory = Work(Store(tmp_path).kept_of), Work()
    for work in (stored, memory):
        work.arrived(experiences)
    expected, found = (
        [(one.feedback_id, one.known, one.rewards) for one in work.judged([*feedback, *feedback[:30]])]
        for work in (memory, stored)
    )
    assert len(expected) == 90
    assert found == expected


def test_a_store_is_made_anew_of_its_changes_alone(events: Events, tmp_path: Path) -> None:
    experiences, feedback = events
    store = Store(tmp_path)
    work = Work(store.kept_of)
    work.arrived(experiences)
    work.judged(feedback[:60])
    changes = store.take()
    work.judged(feedback[60:75])  # in RocksDB, and never acknowledged
    del work, store
    again = Work(Store(tmp_path, changes).kept_of)
    assert again.arrived(experiences) == []
    assert [one.feedback_id for one in again.judged(feedback)] == [f"judgement-{number}" for number in range(60, 90)]


def test_changes_are_told_once(events: Events, tmp_path: Path) -> None:
    store = Store(tmp_path)
    Work(store.kept_of).arrived(events[0])
    assert len(store.take()) == 30
    assert store.take() == []


def test_a_learner_goes_on_from_its_checkpoint(events: Events, tmp_path: Path) -> None:
    experiences, feedback = events
    first = CheckpointedLearner(tmp_path)
    work = Work(learner=first)
    work.arrive(experiences)
    for value in feedback:
        work.judge([value])  # a step each, where it is not held out
    assert first.learner.step >= 50
    first.close()
    second = CheckpointedLearner(tmp_path)
    assert second.learner.step == 50
    work = Work(learner=second)
    work.arrived(experiences)
    (update,) = work.judge(feedback[:1])
    assert orjson.loads(update[1])["scorer_step"] == 51


def test_kafka_streams_is_left_out_with_a_word_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(BrokerError, match="no javac of Java 17 or newer; install a JDK"):
        find_javac()
    assert ENGINES[STREAMS].missing == "no javac of Java 17 or newer; install a JDK"
    assert ENGINES[BARE].missing is None
