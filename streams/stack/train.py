"""`tierstream train --tier ...`: every tier once, now: what waits in the stream is learned, and jobs that are due run.

Where no worker or trainer runs, this does their work until it is done; where one does, it waits for it. A job that
`now` starts below the threshold leaves its examples in the count: they belong to the next job at the threshold too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from schemas.config import LoadedSettings
from schemas.errors import TierstreamError
from schemas.events import JobTier, JobUpdate, TrainingJob
from schemas.settings import Settings
from streams.audit.collect import Collected, collect
from streams.audit.report import TierName
from streams.audit.tiers import UNITS, open_run, scorer_tier
from streams.broker.launch import free_port
from streams.client import Producer
from streams.kafka.admin import ensure_topics
from streams.kafka.lag import group_members, measure_lag, trainer_group
from streams.stack.supervisor import Part, as_variables
from streams.topics import JOBS, ROLES, group, topic_specs
from streams.training.folder import JobView, read_result, read_state, view_job
from streams.training.service import work
from trainers.jobs.snapshot import freeze_job, job_folder, job_id

POLL_SECONDS = 0.5
STILL_SECONDS = 30.0
"""A worker that gets no further for so long is not waited for: its learning is paused, or it hangs."""

Show = Callable[[JobUpdate], None]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TierReport:
    """How one tier ended."""

    tier: TierName
    state: Literal["COMPLETED", "SKIPPED", "FAILED", "RUNNING"]
    why: str
    """Counts and the reason, in one line."""
    jobs: tuple[str, ...] = ()
    """The jobs that were run."""


async def train_once(loaded: LoadedSettings, tiers: Sequence[str], now: bool, say: Say, show: Show) -> list[TierReport]:
    """Run the tiers once and report on each.

    Args:
        loaded: all settings.
        tiers: of `scorer`, `dpo`, `kto` and `sft`.
        now: start a job also where the threshold is not reached.
        say: called with each stage.
        show: called with the progress of jobs.

    Raises:
        ConnectionFailedError: the broker is lost.
        TierstreamError: a worker that was started for this ended.
    """
    settings = loaded.settings
    await ensure_topics(settings, topic_specs(settings))
    await _catch_up(settings, say)
    found = await collect(loaded, os.environ, lambda topic, count: None)
    wanted: list[JobTier] = [tier for tier in get_args(JobTier) if tier in tiers]
    due = {tier: _due(found, tier) for tier in wanted}
    if now:
        for tier in wanted:
            due[tier] += await _start_early(found, tier, due[tier])
    await _run_jobs(settings, [name for names in due.values() for name in names], say, show)
    reports = []
    if "scorer" in tiers:
        scorer = scorer_tier(await collect(loaded, os.environ, lambda topic, count: None))
        reports.append(TierReport("scorer", scorer.state, scorer.why))
    return reports + [job_report(found, tier, due[tier], now) for tier in wanted]


def job_report(found: Collected, tier: JobTier, due: Sequence[str], now: bool) -> TierReport:
    """Report on a tier whose jobs `due` were run."""
    book = open_run(found, tier)
    have = 0 if book is None else book.waiting
    need = found.settings.threshold(tier)
    counts = f"{have}/{need} {UNITS[tier]}, {max(0, need - have)} more needed"
    views = [view_job(job_folder(Path(found.settings.data_dir), name)) for name in due]
    if not views:
        early = "; --now trains on them all the same" if have and not now else ""
        return TierReport(tier, "SKIPPED", f"{counts}{early}")
    bad = [view for view in views if view.state != "finished"]
    if bad:
        return TierReport(tier, "FAILED", f"job {bad[0].job_id} is {bad[0].state}: {bad[0].error}", tuple(due))
    return TierReport(tier, "COMPLETED", "; ".join(_outcome(view) for view in views), tuple(due))


def _outcome(view: JobView) -> str:
    judged = "promoted" if view.promoted else "rejected"
    return f"{view.examples} examples, {view.version} {judged}: {view.metrics.get('reason')}"


def _due(found: Collected, tier: JobTier) -> list[str]:
    """Return the jobs of a tier that were requested and have not come to an end."""
    folder = Path(found.settings.data_dir)
    requested = [job["job_id"] for job in (found.broker.jobs if found.broker else []) if job["tier"] == tier]
    return [name for name in requested if read_result(job_folder(folder, name)) is None]


async def _start_early(found: Collected, tier: JobTier, due: Sequence[str]) -> list[str]:
    """Ask for a job on the examples that wait below the threshold; the same examples give the same job."""
    book, settings = open_run(found, tier), found.settings
    if book is None or not book.waiting:
        return []
    run = book.pending()
    name = job_id(tier, run.ids)
    if name in due:
        return []
    if read_result(job_folder(Path(settings.data_dir), name)) is None:
        job: TrainingJob = await asyncio.to_thread(
            freeze_job, Path(settings.data_dir), tier, run, settings, datetime.now(UTC)
        )
        async with Producer(settings) as producer:
            await producer.send(JOBS, job)
    return [name]


async def _run_jobs(settings: Settings, names: Sequence[str], say: Say, show: Show) -> None:
    """Wait until jobs have ended, as a trainer where there is none."""
    folders = [job_folder(Path(settings.data_dir), name) for name in names]
    if all(read_result(folder) is not None for folder in folders):
        return
    async with _trainer(settings, say) as failed:
        while not all(read_result(folder) is not None for folder in folders):
            for folder in folders:
                if (update := read_state(folder)) is not None:
                    show(update)
            if failed():
                return
            await asyncio.sleep(POLL_SECONDS)
    for folder in folders:
        if (update := read_state(folder)) is not None:
            show(update)


@asynccontextmanager
async def _trainer(settings: Settings, say: Say) -> AsyncIterator[Callable[[], bool]]:
    """Be a trainer where none runs; gives what tells that it has ended."""
    if (await group_members(settings)).get(trainer_group(settings), 0):
        say("a trainer runs: waiting for it")
        yield lambda: False
        return
    working = asyncio.ensure_future(work(settings))
    ended: list[bool] = []
    working.add_done_callback(lambda _: ended.append(True))
    try:
        yield lambda: bool(ended)
        await _settled(settings, working)
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def _settled(settings: Settings, working: asyncio.Future[None]) -> None:
    """Wait until the broker has acknowledged the ends that the folders already know."""
    for _ in range(40):
        rows = await measure_lag(settings)
        if working.done() or not sum(row.lag for row in rows if row.group == trainer_group(settings)):
            return
        await asyncio.sleep(POLL_SECONDS)


async def _catch_up(settings: Settings, say: Say) -> None:
    """Wait until the workers have processed all that is in the stream; run one where there is none."""
    if not await _lag(settings):
        return
    members = await group_members(settings)
    if any(members.get(group(settings, role)) for role in ROLES):
        await _wait_for_workers(settings, say, lambda: None)
        return
    log = Path(settings.data_dir) / "logs" / "worker.log"
    environment = {**os.environ, **as_variables(settings, settings.kafka.bootstrap_servers, free_port())}
    part = Part("worker", ["worker"], environment, log)

    def must_run() -> None:
        if part.process is not None and part.process.poll() is not None:
            raise TierstreamError(f"the worker ended: {part.last_line()}", f"look at {log}")

    say("no worker runs: starting one until the stream is processed")
    part.start()
    try:
        await _wait_for_workers(settings, say, must_run)
    finally:
        await asyncio.to_thread(part.stop, settings.stream.drain_timeout + 5)


async def _wait_for_workers(settings: Settings, say: Say, must_run: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    last, changed_at, zeros = -1, loop.time(), 0
    while zeros < 2:  # what is under way between two topics shows at the second look
        must_run()
        lag = await _lag(settings)
        zeros = zeros + 1 if lag == 0 else 0
        if lag != last:
            last, changed_at = lag, loop.time()
            say(f"{lag:,} records wait to be processed")
        elif lag and loop.time() - changed_at > STILL_SECONDS + settings.kafka.session_timeout:
            say(f"{lag:,} records are not being processed: going on without them")
            return
        await asyncio.sleep(POLL_SECONDS)


async def _lag(settings: Settings) -> int:
    rows: list[Any] = await measure_lag(settings)
    return sum(row.lag for row in rows if row.group != trainer_group(settings))
