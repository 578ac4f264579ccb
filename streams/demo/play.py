"""Runs a demo from the first process to the audit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from schemas.base import Event
from schemas.config import LoadedSettings, setting_value
from schemas.errors import TierstreamError
from schemas.events import JobUpdate
from schemas.settings import Settings
from streams.audit.collect import collect
from streams.audit.deployment import ask_status
from streams.audit.document import lay_out
from streams.audit.figures import make_report
from streams.audit.terminal import show as show_audit
from streams.client import Producer
from streams.demo.board import TIER_NAMES, Board
from streams.demo.feed import publish, schedule
from streams.demo.room import Exchange, simulate
from streams.demo.summary import Summary, show, summarize
from streams.demo.watch import watch
from streams.kafka.lag import measure_lag
from streams.stack.supervisor import Stack
from streams.terminal import Console
from streams.training.display import time_left
from streams.training.log import describe
from trainers.files import write_atomically

SEED = 2
EXPERIENCES = 460
"""Enough for one job of each tier, and some that wait for the next."""
ANSWERS_PER_SECOND = 40.0
POLL_SECONDS = 0.5
STALL_SECONDS = 180.0
SUMMARY_NAME = "summary.json"


def run(settings: Settings, loaded: LoadedSettings, experiences: int | None = None, *, as_json: bool = False) -> None:
    """Run the demo to its end.

    Args:
        settings: all settings; ports and the data folder are picked anew where no flag names them.
        loaded: the same with the origin of every value.
        experiences: how many answers the simulated assistant gives; by default enough for every tier.
        as_json: print the summary as JSON to standard output, and all else to standard error.

    Raises:
        TierstreamError: a part does not start or stands still, or a tier did not come to its end.
        KeyboardInterrupt: it was told to stop; everything has been stopped.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    now = datetime.now(UTC)
    count = experiences or EXPERIENCES
    exchanges = simulate(SEED, count, now - timedelta(seconds=count), plain=True)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        console, own = Console(highlight=False), demo_settings(settings, loaded, now)
        # Its first job would do this. Where it fails, that job says why.
        base = [sys.executable, "-m", "trainers.jobs.base_model", own.data_dir, own.jobs.base_model]
        subprocess.run(base, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        with Stack(own, loaded) as stack:
            stack.wait_until_ready(stopping)
            play = Play(stack, exchanges, console)
            summary = asyncio.run(play.run(stopping)) if not stopping.is_set() else None
            if summary is None:
                raise KeyboardInterrupt
            report = make_report(asyncio.run(collect(play.loaded(loaded), os.environ, lambda *_: None)))
        write_atomically(Path(summary.data_dir) / SUMMARY_NAME, json.dumps(summary.as_dict(), indent=2).encode())
        show(summary, console)
        show_audit(lay_out(report), console)
        console.print(f"ask what was trained: tierstream serve --data-dir {summary.data_dir}", soft_wrap=True)
    if as_json:
        print(json.dumps(summary.as_dict(), indent=2))
    if summary.unfinished:
        raise TierstreamError(
            f"not every tier came to its end: {', '.join(summary.unfinished)}",
            f"the figures above say why; logs are in {summary.data_dir}/logs",
        )


def demo_settings(settings: Settings, loaded: LoadedSettings, now: datetime) -> Settings:
    """Return settings with a fresh data folder, free ports where no flag names them, and few training steps.

    On a broker that is not the demo's own, its topics get a prefix of their own.

    Raises:
        TierstreamError: a flag names a data folder that holds another run.
    """
    name = f"demo-{now:%Y%m%d-%H%M%S}"
    given = loaded.sources["data_dir"].startswith("flag")
    folder = Path(settings.data_dir) if given else Path(settings.data_dir) / name
    if folder.is_dir() and any(folder.iterdir()):
        raise TierstreamError(f"the folder {folder} is not empty, and a demo starts anew", "name another --data-dir")

    def port_of(section: str) -> int:
        by_flag = loaded.sources[f"{section}.port"].startswith("flag")
        return int(getattr(settings, section).port) if by_flag else 0

    own_broker = loaded.sources["kafka.bootstrap_servers"] == "default"
    prefix = settings.topics.prefix if own_broker else f"{settings.topics.prefix}{name}-"
    return settings.model_copy(
        update={
            "data_dir": str(folder),
            "broker": settings.broker.model_copy(update={"port": port_of("broker")}),
            "web": settings.web.model_copy(update={"port": port_of("web")}),
            "topics": settings.topics.model_copy(update={"prefix": prefix}),
            "pairs": settings.pairs.model_copy(update={"patience": settings.demo.patience}),
            "jobs": settings.jobs.model_copy(
                update={
                    "dpo": settings.jobs.dpo.model_copy(update={"max_steps": settings.demo.dpo_steps}),
                    "sft": settings.jobs.sft.model_copy(update={"max_steps": settings.demo.sft_steps}),
                    "gate": settings.jobs.gate.model_copy(
                        update={
                            "held_out_one_in": settings.demo.held_out_one_in,
                            "held_out_size": settings.demo.held_out_size,
                        }
                    ),
                }
            ),
        }
    )


class Play:
    """One run over a started stack."""

    def __init__(self, stack: Stack, exchanges: Sequence[Exchange], console: Console) -> None:
        kafka = stack.settings.kafka.model_copy(update={"bootstrap_servers": stack.bootstrap})
        self._settings = stack.settings.model_copy(update={"kafka": kafka})
        self._stack = stack
        self._exchanges = exchanges
        self._board = Board(exchanges)
        self._status: dict[str, Any] = {}
        self._changed_at = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        events = sum(len(moment) for moment in schedule(exchanges))
        judged = len(self._board.unscored) + len(self._board.unlearned)
        self._published = self._progress.add_task("published", total=events)
        self._scored = self._progress.add_task("tier 1: scored and learned", total=judged)
        self._pairs = self._progress.add_task("tier 2: pairs", total=self._settings.pairs.threshold)
        self._traces = self._progress.add_task("tier 3: traces", total=self._settings.traces.threshold)
        self._training: dict[str, TaskID] = {}

    def loaded(self, given: LoadedSettings) -> LoadedSettings:
        """Return the demo's settings with the origin of every value, for the audit to read what was run."""
        own = {
            key: "the demo"
            for key in given.sources
            if setting_value(self._settings, key) != setting_value(given.settings, key)
        }
        return LoadedSettings(self._settings, given.sources | own)

    async def run(self, stopping: threading.Event) -> Summary | None:
        """Publish, wait until all is processed, and sum up; None where it was told to stop."""
        with self._progress:
            background = [
                asyncio.ensure_future(watch(self._settings, self._take)),
                asyncio.ensure_future(self._keep_running(stopping)),
            ]
            work = asyncio.ensure_future(self._publish_and_wait())
            try:
                await asyncio.wait([work, *background], return_when=asyncio.FIRST_COMPLETED)
                return await _first_result(work, *background)
            finally:
                for task in (work, *background):
                    task.cancel()
                await asyncio.gather(work, *background, return_exceptions=True)

    async def _publish_and_wait(self) -> Summary:
        start = time.monotonic()
        async with Producer(self._settings) as producer:
            await publish(producer, self._exchanges, ANSWERS_PER_SECOND, self._count_published)
        await self._wait_until_processed()
        seconds = time.monotonic() - start
        await self._refresh()
        return summarize(self._board, self._status, self._settings, seconds)

    async def _keep_running(self, stopping: threading.Event) -> None:
        """Look after the processes and the display, and end when told to."""
        while not stopping.is_set():
            self._stack.keep_running()
            await self._refresh()
            if time.monotonic() - self._changed_at > STALL_SECONDS:
                left = len(self._board.unscored) + len(self._board.unlearned)
                raise TierstreamError(
                    f"nothing has happened for {STALL_SECONDS:g} s: {left} events without a score update, "
                    f"{self._board.ended()} of {len(self._board.jobs)} jobs ended",
                    f"look into {self._settings.data_dir}/logs",
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _wait_until_processed(self) -> None:
        while True:
            if await self._all_processed():
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _all_processed(self) -> bool:
        """Whether every event has its score update, no group lags, and every job has ended."""
        board = self._board
        if board.unscored or board.unlearned or len(board.jobs) != board.ended():
            return False
        if any(row.lag for row in await measure_lag(self._settings)):
            return False
        await self._refresh()
        requested = sum(int((self._status.get(tier) or {}).get("jobs", -1)) for tier in ("dpo", "sft"))
        return requested == len(board.jobs)

    async def _refresh(self) -> None:
        status = await ask_status(self._stack.web_url, self._settings.web)
        if isinstance(status, str) or not status.get("ready"):
            return
        self._status = status
        for task, tier in ((self._pairs, "dpo"), (self._traces, "sft")):
            if tier in status:
                self._show_run(task, status[tier])

    def _show_run(self, task: TaskID, counts: dict[str, int]) -> None:
        """Show how far the tier is towards its next job, or its last one where nothing waits."""
        full = counts["jobs"] and not counts["waiting"]
        self._progress.update(task, completed=counts["threshold"] if full else counts["waiting"])
        name = "tier 2: pairs" if task == self._pairs else "tier 3: traces"
        self._progress.update(task, description=f"{name} to job {counts['jobs'] + (not full)}")

    def _take(self, event: Event) -> None:
        self._changed_at = time.monotonic()
        line = self._board.take(event)
        left = len(self._board.unscored) + len(self._board.unlearned)
        total = self._progress.tasks[self._scored].total or 0
        self._progress.update(self._scored, completed=total - left)
        if isinstance(event, JobUpdate):
            self._show_training(event)
        if line is not None:
            self._progress.console.print(line, soft_wrap=True)

    def _show_training(self, update: JobUpdate) -> None:
        """Show how far a job is, a bar for each."""
        name = f"tier {'3' if update.tier == 'sft' else '2'}: {TIER_NAMES[update.tier]}"
        if update.job_id not in self._training:
            self._training[update.job_id] = self._progress.add_task(name, total=100)
        figures = describe(update.metrics) if update.state == "running" else update.state
        words = ", ".join(word for word in (figures, time_left(update)) if word)
        bar = self._training[update.job_id]
        self._progress.update(bar, completed=round(100 * update.progress), description=f"{name} {words}".rstrip())

    def _count_published(self, events: int) -> None:
        self._changed_at = time.monotonic()
        self._progress.advance(self._published, events)


async def _first_result(work: Awaitable[Summary], *others: asyncio.Future[None]) -> Summary | None:
    """Return the work's result where it is done, raise what another task failed with, or None where one just ended."""
    for other in others:
        if other.done():
            other.result()
            return None
    return await work
