"""Wherever a name that came from outside becomes a path, the path stays in the data directory, or there is none."""

from __future__ import annotations

import asyncio
import string
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from schemas.errors import JobError, TierstreamError, VersionError
from schemas.events import DeadLetter, Trace, TrainingJob
from schemas.settings import Settings, TopicsSettings
from schemas.versions import VersionRecord
from streams.history.dead_letter_queue import Letter, RetriedLog
from streams.kafka.dead_letters import dead_letter
from streams.training.runner import Attempts, JobRunner
from trainers.jobs.snapshot import job_folder, write_dataset, write_job
from trainers.traces.store import TraceStore
from trainers.versions import VersionStore

LEADING_OUT = (
    "..",
    "../../outside",
    "/outside",
    "dpo-1/../../../outside",
    "dpo-..",
    "dpo-/../../../outside",
    "dpo-1\x00",
    "dpo-1\n",
    "\x00",
    "",
    ".",
    "~",
    "C:\\outside",
    "dpo-\udcff",
    "dpo-" + "x" * 4092,
    "dpo-" + "../" * 1364,
)
NAMES = st.one_of(
    st.sampled_from(LEADING_OUT),
    st.text(alphabet=string.ascii_lowercase + "-./\\\x00\n~ ", max_size=40),
    st.lists(st.sampled_from(["..", ".", "/", "dpo-1", "jobs", "\x00", "a" * 300]), max_size=8).map("/".join),
    st.text(max_size=300),
)


@contextmanager
def data_dir() -> Iterator[Path]:
    """Give a data directory, and see that beside it and above it nothing was written."""
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer) / "deep" / "data"
        inner.mkdir(parents=True)
        yield inner
        beside = [path for path in Path(outer).rglob("*") if not path.is_relative_to(inner) and path != inner.parent]
        assert beside == []
        assert not [path for path in inner.rglob("*") if path.is_symlink()]


def job(name: str, **changes: Any) -> TrainingJob:
    fields = {"tier": "dpo", "dataset_path": "x", "dataset_sha256": "0", "base_model": "m", "example_count": 1}
    return TrainingJob.model_validate({"job_id": name, **fields, "settings": {}, "requested_at": 1, **changes})


def write_a_dataset(folder: Path, name: str) -> None:
    write_dataset(folder, name, [b"{}"])


def write_a_job(folder: Path, name: str) -> None:
    write_job(folder, job(name))


def run_a_job(folder: Path, name: str) -> None:
    async def publish(_: object) -> None:
        return None

    asyncio.run(JobRunner(job(name), folder, lambda *_: ["true"], Attempts(1, 0.0), publish).run())


def stage_a_version(folder: Path, name: str) -> None:
    with VersionStore(folder).staging(name) as staging:
        (staging / "weights").touch()


def add_a_version(folder: Path, name: str) -> None:
    store = VersionStore(folder)
    record = VersionRecord.model_validate({"tier": "dpo", "version": name, "created_at": 1, "reason": "r"})
    with store.staging(name) as staging:
        store.add(record, staging)


def promote_a_version(folder: Path, name: str) -> None:
    VersionStore(folder).promote(name, "r")


def roll_back_to_a_version(folder: Path, name: str) -> None:
    VersionStore(folder).rollback("policy", name, "r")


def store_a_trace(folder: Path, name: str) -> None:
    fields = {"timestamp": 1, "kind": name, "prompt": "p", "response": "r", "model": name}
    with TraceStore(folder / "traces").open_writer(0) as writer:
        writer.append([(0, Trace.model_validate({"trace_id": name, **fields}))])


def note_a_retried_letter(folder: Path, prefix: str) -> None:
    topics = TopicsSettings(prefix=prefix)
    content: DeadLetter = dead_letter("t", 0, 0, None, b"v", "r", "e")
    RetriedLog(Settings(data_dir=str(folder), topics=topics)).add(Letter(0, content))


PLACES: tuple[Callable[[Path, str], None], ...] = (
    write_a_dataset,
    write_a_job,
    stage_a_version,
    add_a_version,
    promote_a_version,
    roll_back_to_a_version,
    store_a_trace,
    note_a_retried_letter,
)


@pytest.mark.parametrize("place", PLACES)
@given(name=NAMES)
def test_no_name_leads_out(place: Callable[[Path, str], None], name: str) -> None:
    with data_dir() as folder, suppress(TierstreamError, ValidationError):
        place(folder, name)


@pytest.mark.parametrize("name", LEADING_OUT)
def test_names_that_would_lead_out_are_refused_with_one_line(name: str) -> None:
    with data_dir() as folder:
        with pytest.raises(JobError) as refused:
            job_folder(folder, name)
        assert len(str(refused.value)) < 1000
        with pytest.raises(VersionError) as unknown:
            VersionStore(folder).folder(name)
        assert "\n" not in str(refused.value) + str(unknown.value)
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", LEADING_OUT)
def test_no_job_runs_outside_of_its_folder(name: str) -> None:
    with data_dir() as folder:
        with pytest.raises((JobError, ValidationError)):
            run_a_job(folder, name)
        assert list(folder.iterdir()) == []


@given(path=NAMES)
@example(path="../../../../etc/passwd")
@example(path="/etc/passwd")
def test_a_job_reads_no_dataset_but_its_own(path: str) -> None:
    from trainers.jobs.validate import main

    with data_dir() as folder:
        try:
            written = write_job(folder, job("dpo-1", dataset_path=path))
        except (ValidationError, PydanticSerializationError):  # half a character, which no JSON can hold
            return
        main([str(written)])
        assert b'"failed"' in (written / "result.json").read_bytes()
