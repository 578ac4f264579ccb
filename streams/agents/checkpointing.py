"""When the scorer's state is written to disk, and how: off the event loop, never ahead of what is published."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from schemas.settings import ScorerSettings
from streams.state.scorer_state import ScorerState
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.fold import ScorerFold

PAUSE_SECONDS = 2.0
"""Checkpoints are at least so far apart: to fold two seconds of the log again is cheaper than to copy all state."""

_POLL_SECONDS = 0.005


class Checkpointing:
    """Writes checkpoints of one scorer.

    Whoever asks gives the lock that the scorer changes under, and what tells whether it is still active and up to
    which offset its updates are published.
    """

    def __init__(self, store: CheckpointStore, state: ScorerState, settings: ScorerSettings) -> None:
        self._store, self._state, self._settings = store, state, settings
        self._saving: asyncio.Task[None] | None = None
        self._step, self._offset = 0, 0
        """Of the last checkpoint."""
        self._clocks = state.features.clocks
        self._seen_offset = 0
        self._began_at = self._changed_at = time.monotonic()

    async def load(self) -> int:
        """Set the fold to the newest checkpoint; return its offset, 0 without one."""
        snapshot = await asyncio.to_thread(self._store.load)
        if snapshot is None:
            return 0
        self._state.fold = ScorerFold.restored(snapshot)
        self._step, self._offset = snapshot.step, snapshot.next_offset
        return snapshot.next_offset

    def is_idle(self) -> bool:
        """Whether something changed and then nothing did for `checkpoint_idle`."""
        now, offset = time.monotonic(), self._state.next_offset
        if offset != self._seen_offset:
            self._seen_offset, self._changed_at = offset, now
        return offset != self._offset and now - self._changed_at >= self._settings.checkpoint_idle

    def begin_when_due(self, turn: asyncio.Lock, is_active: Callable[[], bool], published: Callable[[], int]) -> None:
        """Begin a checkpoint beside the stream, where it is due; an earlier one that failed raises here."""
        if self._saving is not None and not self._saving.done():
            return
        if self._saving is not None:
            self._saving.result()
        fold = self._state.fold
        steps = 0 if fold is None else fold.learner.step - self._step
        if steps >= self._settings.checkpoint_every_steps and time.monotonic() - self._began_at >= PAUSE_SECONDS:
            self._saving = asyncio.create_task(self._save(turn, is_active, published))

    async def write(self, turn: asyncio.Lock, is_active: Callable[[], bool], published: Callable[[], int]) -> None:
        """Write a checkpoint where there is something new; returns when it is on disk."""
        if self._saving is not None:
            await self._saving
        if is_active() and self._state.next_offset != self._offset:
            self._saving = asyncio.create_task(self._save(turn, is_active, published))
            await self._saving

    async def _save(self, turn: asyncio.Lock, is_active: Callable[[], bool], published: Callable[[], int]) -> None:
        """Copy the scorer, and write the copy once all updates before it are published."""
        async with turn:
            fold = self._state.fold
            if fold is None or not is_active():
                return
            # What the last checkpoint has learned is not learned again.
            self._state.features.expire(self._clocks)
            snapshot, clocks = fold.snapshot(), self._state.features.clocks
            self._step, self._offset, self._began_at = snapshot.step, snapshot.next_offset, time.monotonic()
        while published() < snapshot.next_offset:
            if not is_active():
                return
            await asyncio.sleep(_POLL_SECONDS)
        await asyncio.to_thread(self._store.save, snapshot)
        self._clocks = clocks
