"""One run of the whole system on the recorded rows, from an empty data directory until nothing is left to do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.accuracy import Accuracy, Judged, within_query_accuracy
from benchmarks.expectations import Published
from benchmarks.home_assistant import Row, load_rows, to_experience, to_feedback
from benchmarks.observed import Observed, observe
from benchmarks.system import RunningSystem, wait_for_success
from benchmarks.thinking_traces import load_traces
from benchmarks.topics import reader, wait_until_processed
from schemas.base import Event
from schemas.events import ScoreUpdate, Trace
from streams import topics

CSV = Path("home_assistant") / "assist-2025.4.3.csv.gz"
TRACES = Path("thinking_traces")
PROCESSING_TIMEOUT_SECONDS = 600.0
KILLED_FEEDBACK_RATE = 800.0
"""Feedbacks a second where workers are killed, so that it happens in the middle."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The recorded data as events."""

    rows: Sequence[Row]
    traces: Sequence[Trace]

    @property
    def published(self) -> Published:
        """The ids of all that a run publishes."""
        return Published(
            experiences={row.experience_id for row in self.rows},
            feedback={to_feedback(row).feedback_id for row in self.rows if not row.withheld},
            traces={trace.trace_id for trace in self.traces},
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    seen: Observed
    accuracy: Accuracy
    """On the withheld queries, by their true labels."""
    refusal: str
    """What a worker with another rank said; empty where it was not refused, or its checkpoint changed."""
    killed_at: tuple[int, ...]
    """Feedbacks that had been published as score updates at each kill."""
    seconds: float
    """From the first event published until all was processed."""


def load_inputs(data: Path) -> Inputs:
    """Read the rows and both trace files.

    Raises:
        OSError: a file is missing.
    """
    return Inputs(load_rows(data / CSV), load_traces(data / TRACES))


def with_shuffled_labels(inputs: Inputs, seed: int) -> Inputs:
    """Return the inputs with the labels of all rows permuted."""
    labels = [row.good for row in inputs.rows]
    random.Random(seed).shuffle(labels)
    rows = [replace(row, good=good) for row, good in zip(inputs.rows, labels, strict=True)]
    return Inputs(rows, inputs.traces)


def run_once(
    folder: Path, inputs: Inputs, truth: Sequence[Row], variables: Mapping[str, str], kills: int, say: Say
) -> Run:
    """Start the system, publish everything, wait, observe, stop.

    The withheld queries come after all feedback is learned, so that their scores on arrival are the trained scorer's.

    Args:
        folder: empty; data directory, logs and published files go there.
        inputs: what is published.
        truth: the rows with their true labels.
        variables: settings as `TIERSTREAM_*` variables.
        kills: how often the worker is killed while it learns.
        say: takes a line of progress.

    Raises:
        CommandFailedError: a command failed.
        TimeoutError: something was not processed in time.
    """
    with RunningSystem(folder, variables) as system:
        started = time.monotonic()
        for withheld in (False, True):
            rows = [row for row in inputs.rows if row.withheld is withheld]
            say(f"publishing {len(rows):,} experiences{' of withheld queries' if withheld else ''}")
            system.produce(topics.EXPERIENCES, _lines(map(to_experience, rows)))
            if not withheld:
                feedback = [to_feedback(row) for row in rows]
                say(f"publishing {len(feedback):,} feedbacks")
                killed_at = _publish_feedback(system, _lines(feedback), kills, say)
            _wait(system, say)
        say(f"publishing {len(inputs.traces):,} traces")
        system.produce(topics.TRACES, _lines(inputs.traces))
        _wait(system, say)
        seconds = time.monotonic() - started
        seen = asyncio.run(observe(system))
        return Run(seen, accuracy_of(seen, truth), _refusal(system), killed_at, seconds)


def accuracy_of(seen: Observed, truth: Iterable[Row]) -> Accuracy:
    """Return the within-query accuracy of the scores on arrival, on the withheld queries."""
    arrived = seen.scores.arrived
    return within_query_accuracy(
        Judged(row.query, row.good, arrived[row.experience_id])
        for row in truth
        if row.withheld and row.experience_id in arrived
    )


def _lines(events: Iterable[Event]) -> list[bytes]:
    return [event.to_json() for event in events]


def _wait(system: RunningSystem, say: Say) -> None:
    asyncio.run(wait_until_processed(system.settings, PROCESSING_TIMEOUT_SECONDS, say))


def _publish_feedback(system: RunningSystem, lines: Sequence[bytes], kills: int, say: Say) -> tuple[int, ...]:
    if not kills:
        system.produce(topics.FEEDBACK, lines)
        return ()
    # The scores of the arrivals first: what is killed is a worker that learns.
    _wait(system, say)
    thresholds = [len(lines) * number // (kills + 1) for number in range(1, kills + 1)]
    with system.start_producing(topics.FEEDBACK, lines, KILLED_FEEDBACK_RATE) as producing:
        killed_at = asyncio.run(_kill_at(system, thresholds, say))
        wait_for_success(producing)
    return killed_at


async def _kill_at(system: RunningSystem, thresholds: Sequence[int], say: Say) -> tuple[int, ...]:
    """SIGKILL the worker whenever so many distinct feedbacks have a score update."""
    judged: set[str] = set()
    killed_at: list[int] = []
    deadline = time.monotonic() + PROCESSING_TIMEOUT_SECONDS
    async with reader(system.settings, topics.SCORE_UPDATES) as consumer:
        while len(killed_at) < len(thresholds):
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(judged)} feedbacks have a score update")
            for batch in (await consumer.getmany(timeout_ms=50)).values():
                updates = (ScoreUpdate.from_json(record.value) for record in batch)
                judged |= {update.feedback_id for update in updates if update.feedback_id is not None}
            worker = system.worker()
            if len(judged) >= thresholds[len(killed_at)] and worker is not None:
                worker.kill()
                killed_at.append(len(judged))
                say(f"killed the worker (process {worker.pid}) after {len(judged):,} feedbacks")
                await asyncio.to_thread(_wait_until_gone, worker)
    return tuple(killed_at)


def _wait_until_gone(process: psutil.Process) -> None:
    psutil.wait_procs([process], timeout=30)


def _refusal(system: RunningSystem) -> str:
    """Start a worker of another rank on the same checkpoint; return how it was refused."""
    rank = system.settings.scorer.rank
    before = _checkpoints(system)
    code, words = system.try_worker({"TIERSTREAM_SCORER__RANK": str(8 if rank != 8 else 32)})
    return words if code == 1 and before and _checkpoints(system) == before else ""


def _checkpoints(system: RunningSystem) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (system.data_dir / "scorer").rglob("*.safetensors")}
