"""Does a step, a checkpoint or the memory grow with what was learned before?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from msgspec.structs import replace

from benchmarks.folds import Example
from benchmarks.progress import Progressed
from schemas.records import Origin
from schemas.settings import ScorerSettings
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.snapshot import Snapshot

POINTS = (1_000, 10_000, 100_000, 1_000_000)
"""Samples in the scorer's life."""
LOOK = 200
"""Steps whose median is told, the newest before each point."""
TOLD_EVERY = 8192
"""Feedbacks between two words on progress."""


def measure(examples: Sequence[Example], folder: Path, most: int, progress: Progressed) -> list[dict[str, Any]]:
    """Learn the stream over and over; return step time, memory and checkpoint time at each point up to `most`."""
    settings = ScorerSettings()
    learner, store = OnlineLearner(settings), CheckpointStore(folder, settings)
    stream, offset, times, found = cycle(example.entry for example in examples), 0, [], []
    process = psutil.Process()
    for point in (point for point in POINTS if point <= most):
        while learner.life.samples_learned < point:
            chunk = [
                replace(next(stream), origin=Origin("feedback", 0, offset + n)) for n in range(settings.groups_per_step)
            ]
            offset += len(chunk)
            begun = time.perf_counter()
            learner.apply(offset, chunk)
            times.append((time.perf_counter() - begun) / max(1, len(chunk)))
            if offset % TOLD_EVERY == 0:
                progress(f"{learner.life.samples_learned:,} samples", learner.life.samples_learned / most)
        begun = time.perf_counter()
        path = store.save(Snapshot.of(learner))
        found.append(
            {
                "samples": point,
                "steps": learner.step,
                "us_per_feedback": float(np.median(times[-LOOK:])) * 1e6,
                "rss_mib": process.memory_info().rss / 2**20,
                "checkpoint_ms": (time.perf_counter() - begun) * 1e3,
                "checkpoint_mib": path.stat().st_size / 2**20,
            }
        )
        times = times[-LOOK:]
    return found
