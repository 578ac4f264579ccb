"""The trainer without a broker: what it does with requests that come again, and with commits that are refused."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import CommitFailedError

from schemas.base import Event
from schemas.events import JobTier, JobUpdate
from schemas.settings import Settings
from streams.training.service import Trainer
from tests.streams.training.requests import job

SUCCEED = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "runs").open("a") as runs: runs.write("x")
time.sleep(1)
(folder / "result.json").write_text(json.dumps({"state": "validated", "metrics": {}, "error": None}))
"""


def request(offset: int, tier: JobTier = "sft") -> Any:
    value = job(f"{tier}-1", tier).to_json()
    return SimpleNamespace(topic="training-jobs", partition=0, offset=offset, key=f"{tier}-1".encode(), value=value)


class FakeConsumer:
    """Gives records, each once `told` holds so many ends; refuses the first commits."""

    def __init__(self, told: FakeProducer, records: Sequence[tuple[int, Any]], refused: int) -> None:
        self.committed: list[int] = []
        self.ends_before: list[int] = []
        """How many jobs' ends were told before each commit."""
        self._told = told
        self._records = records
        self._refused = refused

    async def __aiter__(self) -> AsyncIterator[Any]:
        for ends, record in self._records:
            while len(self._told.ends()) < ends:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            yield record

    async def commit(self, offsets: dict[Any, int]) -> None:
        if self._refused:
            self._refused -= 1
            raise CommitFailedError
        self.committed += offsets.values()
        self.ends_before.append(len(self._told.ends()))


class FakeProducer:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Event] = []

    async def send(self, topic: str, event: Event, key: bytes | None = None) -> None:
        self.sent.append(event)

    def ends(self) -> list[str]:
        return [one.state for one in self.sent if isinstance(one, JobUpdate) and one.state == "validated"]


def work(data_dir: Path, records: Sequence[tuple[int, Any]], refused: int = 0) -> tuple[FakeProducer, FakeConsumer]:
    producer = FakeProducer()
    consumer: Any = FakeConsumer(producer, records, refused)
    sender: Any = producer
    settings = Settings(data_dir=str(data_dir))
    trainer = Trainer(
        settings, lambda tier, folder: [sys.executable, "-c", SUCCEED, str(folder)], lambda _: None, consumer, sender
    )
    asyncio.run(trainer.work())
    return producer, consumer


def test_a_request_that_comes_again_while_its_job_runs_is_passed_over(tmp_path: Path) -> None:
    producer, consumer = work(tmp_path, [(0, request(0)), (0, request(0))])
    assert producer.ends() == ["validated"]
    assert consumer.committed == [1]


def test_an_end_that_could_not_be_committed_is_told_again_and_committed_then(tmp_path: Path) -> None:
    producer, consumer = work(tmp_path, [(0, request(0)), (1, request(0))], refused=1)
    assert producer.ends() == ["validated", "validated"]
    assert consumer.committed == [1]
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "x"


@pytest.mark.parametrize("refused", [0, 1])
def test_nothing_is_committed_past_a_job_that_has_not_ended(tmp_path: Path, refused: int) -> None:
    _, consumer = work(tmp_path, [(0, request(0)), (0, request(1))], refused)
    assert consumer.committed[-1] == 2
    assert consumer.committed == sorted(consumer.committed)
    assert all(offset <= ends for offset, ends in zip(consumer.committed, consumer.ends_before, strict=True))


def test_jobs_of_both_tiers_run_one_after_the_other_since_each_continues_what_is_in_use(tmp_path: Path) -> None:
    producer, _ = work(tmp_path, [(0, request(0, "sft")), (0, request(1, "dpo"))])
    told = [(one.tier, one.state) for one in producer.sent if isinstance(one, JobUpdate) and one.progress in (0, 1)]
    turns = [one for one in told if one[1] in ("running", "validated")]
    assert [*dict.fromkeys(turns)] in (
        [("sft", "running"), ("sft", "validated"), ("dpo", "running"), ("dpo", "validated")],
        [("dpo", "running"), ("dpo", "validated"), ("sft", "running"), ("sft", "validated")],
    )
