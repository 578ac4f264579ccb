"""Looks at what a scrape must not wait for: lag from the broker, jobs and the checkpoint on disk."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.errors import ConnectionFailedError, StateError, TopicsError, VersionError
from schemas.settings import Settings
from streams.audit.drift import DriftReader
from streams.audit.outcome import outcome_of
from streams.kafka.admin import REMEDIES, topic_states
from streams.kafka.lag import PartitionLag, group_members, measure_lag, of_the_stream
from streams.state.belonging import check_belonging, note_committed
from streams.topics import topic_specs
from streams.training.jobs_on_disk import jobs_seen
from streams.worker.rollback import roll_back_worse, settle_trials
from trainers.scorer.reading import newest_first
from trainers.serving import refusals
from trainers.versions import VersionStore

log = logging.getLogger("tierstream.observer")

INTERVAL_SECONDS = 10.0
LAST_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen at one moment."""

    at: float
    """Epoch seconds."""
    lag: tuple[PartitionLag, ...]
    """Of the roles; how far trainers are is told by the jobs."""
    members: dict[str, int]
    """Consumers alive in each group."""
    jobs: tuple[dict[str, Any], ...]
    """Every job as `jobs_seen` tells it."""
    topics_fault: str | None
    """Why the topics would not allow a start, as they are now."""
    checkpoint: dict[str, Any] | None
    """Name, size and time of writing of the newest checkpoint."""
    drift: dict[str, Any]
    """Alarms on what is judged, and the newest judgement."""
    outcome: dict[str, Any]
    """Rewards by version, as `outcome_of` returns them."""
    not_served: dict[str, Any]
    """By line: the version that the server did not take, why, and whether it is in use."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "at": self.at,
            "lag": [asdict(row) for row in self.lag],
            "members": self.members,
            "topics_fault": self.topics_fault,
            "jobs": list(self.jobs),
            "checkpoint": self.checkpoint,
            "drift": self.drift,
            "outcome": self.outcome,
            "not_served": self.not_served,
        }


class Observer:
    """Observes every `INTERVAL_SECONDS`; what cannot be seen keeps its last account, whose age is reported."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.seen: Observed | None = None
        self.refusal: str | None = None
        """Why the worker has to stop."""

    async def run(self) -> None:
        """Observe until cancelled."""
        async with DriftReader(self._settings) as judged:
            while True:
                try:
                    self.seen = await observe(self._settings, judged)
                    await settle_trials(self._settings, self.seen.outcome)
                    await roll_back_worse(self._settings, self.seen.outcome)
                except (StateError, TopicsError) as error:
                    self.refusal = str(error)
                except (ConnectionFailedError, VersionError, OSError) as error:
                    log.warning("cannot be observed now: %s", error)
                await asyncio.sleep(INTERVAL_SECONDS)

    async def note_last_commits(self) -> None:
        """Keep what the roles have committed by their orderly end, as far as the broker tells it in time."""
        try:
            async with asyncio.timeout(LAST_LOOK_SECONDS):
                note_committed(self._settings, await measure_lag(self._settings))
        except (TimeoutError, ConnectionFailedError, StateError, OSError) as error:
            log.warning("what was committed last is not noted: %r", error)


async def observe(settings: Settings, judged: DriftReader) -> Observed:
    """Look once.

    Raises:
        TopicsError: a topic was deleted and made again, so that what is read of it is not what was meant.
        StateError: what is known of topics or commits cannot be read.
        ConnectionFailedError: the broker cannot be reached.
        VersionError: the registry cannot be read.
        OSError: the data directory cannot be read.
    """
    lag = await measure_lag(settings)
    await check_belonging(settings)
    await asyncio.to_thread(note_committed, settings, lag)
    states = await topic_states(settings, topic_specs(settings))
    fault = next((f"{state.fault}: {REMEDIES[state.condition]}" for state in states if state.fault), None)
    members = await group_members(settings)
    folder = Path(settings.data_dir)
    jobs, checkpoint = await asyncio.to_thread(lambda: (tuple(jobs_seen(folder)), _checkpoint(folder)))
    drift = dict((await judged.look()).as_dict())
    outcome = await asyncio.to_thread(outcome_of, settings, judged.outcome)
    refused, of_stream = await asyncio.to_thread(_not_served, folder), tuple(of_the_stream(settings, lag))
    return Observed(time.time(), of_stream, members, jobs, fault, checkpoint, drift, outcome, refused)


def _not_served(folder: Path) -> dict[str, Any]:
    store = VersionStore(folder)
    return {
        line: {"version": note.version, "reason": note.reason, "in_use": note.version == store.in_use(line).version}
        for line, note in refusals(folder).items()
    }


def _checkpoint(folder: Path) -> dict[str, Any] | None:
    for path in newest_first(folder / "scorer" / "checkpoints"):
        try:
            there = path.stat()
        except FileNotFoundError:  # an older one is deleted as a new one is written
            continue
        return {"name": path.name, "size_bytes": there.st_size, "written_at": there.st_mtime}
    return None
