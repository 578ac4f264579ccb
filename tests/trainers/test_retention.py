"""What may be deleted, and what never is."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from schemas.settings import RetentionSettings, Settings
from schemas.versions import VersionRecord
from trainers.files import temporary_path, write_atomically
from trainers.retention import GRACE_SECONDS, Superfluous, remove, superfluous, unused
from trainers.versions import VersionStore

DAY = 86400.0
NOW = 100 * DAY


def make_job(folder: Path, name: str, state: str | None = "finished", days: float = 30.0) -> Path:
    job = folder / "jobs" / name
    (job / "checkpoints" / "step-1").mkdir(parents=True)
    (job / "dataset.jsonl").write_text("{}\n")
    (job / "lock").touch()
    if state is not None:
        (job / "result.json").write_text(json.dumps({"state": state}))
        os.utime(job / "result.json", (NOW - days * DAY, NOW - days * DAY))
    return job


def version(name: str, days: float, parent: str | None = None, job: str | None = None) -> VersionRecord:
    fields = {"tier": "dpo", "version": f"dpo-{name}", "created_at": NOW - days * DAY, "reason": "r", "job_id": job}
    return VersionRecord.model_validate({**fields, "parent_version": parent and f"dpo-{parent}"})


def add(folder: Path, record: VersionRecord) -> Path:
    store = VersionStore(folder)
    with store.staging(record.version) as staging:
        (staging / "weights").write_text(record.version)
        store.add(record, staging)
    return store.folder(record.version)


def found(folder: Path, **retention: Any) -> dict[str, str]:
    settings = Settings(data_dir=str(folder), retention=RetentionSettings.model_validate(retention))
    return {str(one.path.relative_to(folder)): one.reason for one in superfluous(settings, NOW)}


def test_by_default_only_the_checkpoints_of_jobs_that_ended_well_a_week_ago_go(tmp_path: Path) -> None:
    for name, state, days in [
        ("dpo-old", "finished", 8.0),
        ("dpo-checked", "validated", 8.0),
        ("dpo-new", "finished", 6.0),
        ("dpo-failed", "failed", 99.0),
        ("dpo-running", None, 99.0),
        ("dpo-strange", "?", 99.0),
    ]:
        make_job(tmp_path, name, state, days)
    for number in range(20):
        add(tmp_path, version(str(number), 90 - number))
    reason = "checkpoints of a job that has ended"
    assert found(tmp_path) == {"jobs/dpo-checked/checkpoints": reason, "jobs/dpo-old/checkpoints": reason}
    assert found(tmp_path, job_checkpoints="forever") == {}


def test_old_jobs_go_where_that_is_set_unless_a_version_was_trained_by_them(tmp_path: Path) -> None:
    for name in ("dpo-a", "dpo-b"):
        make_job(tmp_path, name)
    add(tmp_path, version("1", 30, job="dpo-b"))
    assert found(tmp_path, jobs="20d", job_checkpoints="forever") == {"jobs/dpo-a": "a job that has ended"}
    assert found(tmp_path, jobs="31d", job_checkpoints="forever") == {}


def names(records: list[VersionRecord]) -> list[str]:
    return [record.version for record in records]


def test_what_is_or_was_in_use_or_continued_from_stays() -> None:
    records = [version("1", 9), version("2", 8, "1"), version("3", 7), version("4", 6, "3"), version("5", 5)]
    none = RetentionSettings(versions=0)
    assert names(unused(records, ["dpo-2"], none, NOW)) == ["dpo-3", "dpo-4", "dpo-5"]
    assert names(unused(records, [], RetentionSettings(versions=1), NOW)) == ["dpo-1", "dpo-2", "dpo-3", "dpo-4"]
    assert names(unused(records, [], RetentionSettings(versions=2), NOW)) == ["dpo-1", "dpo-2"], "4 continues from 3"
    assert names(unused([version("1", 0.5)], [], none, NOW)) == [], "it may be about to be promoted"


@given(data=st.data())
@hypothesis_settings(deadline=None)
def test_no_choice_breaks_what_refers_to_it(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    parents = [data.draw(st.none() | st.integers(0, n - 1)) if n else None for n in range(count)]
    ages = sorted(data.draw(st.lists(st.floats(0, 50), min_size=count, max_size=count)), reverse=True)
    records = [version(str(n), ages[n], None if parent is None else str(parent)) for n, parent in enumerate(parents)]
    used = data.draw(st.sets(st.sampled_from(names(records))))
    keep = data.draw(st.integers(0, 5))
    gone = set(names(unused(records, used, RetentionSettings(versions=keep), NOW)))
    assert not gone & used
    for record in records:
        if record.version not in gone:
            assert record.parent_version not in gone
        else:
            assert NOW - record.created_at.timestamp() > GRACE_SECONDS
    assert len(set(names(records)) - gone) >= min(keep, count)


def test_a_version_in_use_survives_pruning_on_disk(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    add(tmp_path, version("1", 30))
    add(tmp_path, version("2", 29))
    store.promote("dpo-1", "first")
    settings = Settings(data_dir=str(tmp_path), retention=RetentionSettings(versions=0))
    assert [one.path.name for one in remove(superfluous(settings, NOW))] == ["dpo-2"]
    assert names(store.versions("policy")) == ["dpo-1"]
    assert store.verified("dpo-1").is_dir()
    assert sorted(path.name for path in (tmp_path / "models" / "dpo").iterdir() if path.is_dir()) == ["dpo-1"]


def test_a_job_that_somebody_holds_is_left(tmp_path: Path) -> None:
    job = make_job(tmp_path, "dpo-a")
    item = Superfluous(job, "r", job / "lock")
    with (job / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert list(remove([item])) == []
    assert list(remove([item])) == [item]
    assert list((tmp_path / "jobs").iterdir()) == []
    assert list(remove([item])) == [], "twice is once"


@pytest.mark.parametrize(
    "name", ["models/dpo/.staging-dpo-1-x", "jobs/.pruned-dpo-1", "jobs/dpo-1/.pruned-checkpoints"]
)
def test_what_a_crash_left_goes_after_a_day(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    os.utime(folder, (NOW - DAY / 2, NOW - DAY / 2))
    assert found(tmp_path) == {}
    os.utime(folder, (NOW - 2 * DAY, NOW - 2 * DAY))
    assert found(tmp_path) == {name: "left over from a crash"}


@pytest.mark.parametrize(
    "folder",
    ["", "scorer", "scorer/checkpoints", "jobs/dpo-1", "models/scorer", "models/dpo/dpo-1", "state"],
)
def test_a_write_that_a_kill_cut_off_goes_after_an_hour(tmp_path: Path, folder: str) -> None:
    target = tmp_path / folder / "content.json"
    write_atomically(target, b"old")
    # As `write_atomically` does it up to the rename, by a process that is killed then.
    cut_off = temporary_path(target)
    cut_off.write_bytes(b"half of ne")
    os.utime(cut_off, (NOW - 1800, NOW - 1800))
    assert found(tmp_path) == {}, "it may still be under way"
    os.utime(cut_off, (NOW - 3601, NOW - 3601))
    name = str(cut_off.relative_to(tmp_path))
    assert found(tmp_path) == {name: "a write that a crash cut off"}
    settings = Settings(data_dir=str(tmp_path))
    assert [str(one.path) for one in remove(superfluous(settings, NOW))] == [str(cut_off)]
    assert found(tmp_path) == {}
    assert [path.name for path in target.parent.iterdir()] == ["content.json"]
    assert target.read_bytes() == b"old"


def test_a_write_of_a_version_before_goes_too_and_files_of_others_stay(tmp_path: Path) -> None:
    of_others = [tmp_path / "notes.tmp", tmp_path / ".notes.tmp", tmp_path / "scorer" / ".mine.txt.tmp"]
    before = tmp_path / "scorer" / ".paused.json.4711.tmp"
    for path in [*of_others, before]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (NOW - DAY, NOW - DAY))
    assert list(found(tmp_path)) == ["scorer/.paused.json.4711.tmp"]


def test_a_write_that_ends_while_it_is_looked_at_is_no_failure(tmp_path: Path) -> None:
    path = temporary_path(tmp_path / "x")
    path.touch()
    os.utime(path, (NOW - DAY, NOW - DAY))
    items = superfluous(Settings(data_dir=str(tmp_path)), NOW)
    path.unlink()
    assert list(remove(items)) == []
