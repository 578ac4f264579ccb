"""The scorer's state as one process has it: the fold over the log, the features it needs, the registry's versions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from schemas.errors import LogError
from schemas.records import Configure, Joined, Learning, Scored, ScorerEntry
from schemas.settings import Settings
from streams.state.features import FeatureStore
from streams.state.scorer_log import LogItem, LogReader, complete, item_of
from trainers.scorer.checkpoint import version_snapshot
from trainers.scorer.fold import ScorerFold
from trainers.scorer.snapshot import Snapshot
from trainers.versions import VersionStore

log = logging.getLogger("tierstream.scorer")

INLINE_ENTRIES = 8
"""Up to so many entries are learned on the event loop; a hand-over to a thread would cost more."""

Progress = Callable[[int, int], None]
"""Told how many records of the log are done, of how many."""


class ScorerState:
    """Takes the log's records, in order and without a gap.

    Args:
        settings: name the deployment.
        folder: of the store of features, which one process has open at a time.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self.features = FeatureStore(folder, settings.join.retention)
        self.versions = VersionStore(settings.data_dir)
        self.fold: ScorerFold | None = None
        """None before the log's first record."""
        self.taken = 0
        """Records looked at so far, those that a version put into use had missed among them."""
        self._read_again = False
        """Whether the features were read from the log's start, because some were not there."""

    @property
    def next_offset(self) -> int:
        """Offset in the log after the last record taken."""
        return 0 if self.fold is None else self.fold.next_offset

    async def catch_up(self, reader: LogReader, end: int | None, progress: Progress | None = None) -> None:
        """Fold the log up to `end`, or to where it ends now, for nobody to read the scores.

        Raises:
            InputError: the topic no longer holds what is needed.
            LogError: a record cannot be read or folded.
        """
        await self._read_features(reader)
        if end is not None and self.next_offset >= end:
            return
        async for items in reader.read(self.next_offset, end):
            for item in items:
                await self.take(item, silent=True)
            if progress is not None:
                progress(self.next_offset, end or self.next_offset)

    async def take(self, item: LogItem, *, silent: bool = False) -> list[Scored]:
        """Fold one record; return its scores, none where nobody reads them.

        Raises:
            LogError: it cannot be folded.
            VersionError: it names a version that is not as it was added.
        """
        record, fold = item.record, self.fold
        self.taken += 1
        if isinstance(record, Configure):
            await self._configure(item, record)
            return []
        if fold is None:
            raise LogError(
                f"scorer-log does not begin with the scorer's settings: {type(record).__name__} at {item.offset}",
                "see 'scorer-log' in docs/troubleshooting.md",
            )
        if isinstance(record, Learning):
            fold.pause(item.offset, item.at if record.paused else None)
            return []
        entries = await self.complete(item)
        if len(entries) > INLINE_ENTRIES:
            return await asyncio.to_thread(fold.apply, item.offset, entries, silent=silent)
        return fold.apply(item.offset, entries, silent=silent)

    async def complete(self, item: LogItem) -> list[ScorerEntry]:
        """Return a record's entries with their features, read from the log's start if need be."""
        entries = complete(self.features, item)
        if all(entry.features for entry in entries) or self._read_again:
            return entries
        self._read_again = True
        self.features.forget()
        async with LogReader(self._settings) as reader:
            await self._keep_features(reader, await reader.first(), item.offset)
        return complete(self.features, item)

    def load_version(self, version: str) -> Snapshot:
        """Return what a version of the registry holds.

        Raises:
            VersionError: it is not there, or not as it was added.
        """
        return version_snapshot(self.versions, version)

    async def _configure(self, item: LogItem, control: Configure) -> None:
        """Go on with other settings or another version; that learns first what it has not seen, and says nothing."""
        if self.fold is None:
            self.fold = ScorerFold(control.settings).arrive(item.offset)
            return
        fold = self.fold.configured(item.offset, control, self.load_version)
        if fold.next_offset <= item.offset:
            log.info("version %s goes on from offset %d of the log", fold.base, fold.next_offset)
            async with LogReader(self._settings) as reader:
                async for items in reader.read(fold.next_offset, item.offset):
                    for missed in items:
                        self.taken += 1
                        if isinstance(missed.record, Joined):
                            await asyncio.to_thread(fold.relearn, missed.offset, await self.complete(missed))
        self.fold = fold.arrive(item.offset)

    async def _read_features(self, reader: LogReader) -> None:
        """Keep the features of every arrival taken before that the store does not cover yet."""
        end = self.next_offset
        if self.features.covered < end:
            start = self.features.covered or await reader.recent_start(end, self._settings.join.retention)
            log.info("reading features: log %d to %d", start, end)
            await self._keep_features(reader, start, end)

    async def _keep_features(self, reader: LogReader, start: int, end: int) -> None:
        async for records in reader.raw(start, end):
            for record in records:
                complete(self.features, item_of(record))
