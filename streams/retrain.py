"""`tierstream retrain`: relearns the scorer from the retained stream beside the one in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schemas.settings import Settings
from streams.entry_log import complete_entries
from streams.kafka_options import broker_errors
from trainers.scorer.retrain import Outcome, Retraining

Progress = Callable[[int, int], None]
"""Told how many entries are done, of how many."""

_CHUNK = 500
"""Entries learned in one go, so that progress is told often."""


async def retrain(settings: Settings, progress: Progress, promote_anyway: bool = False) -> Outcome:
    """Relearn with these settings, judge, keep, and promote where it is better or was asked for.

    The change of the version in use is on disk when this returns, and still to be published.

    Raises:
        InputError: there is no scorer in use, or the retained stream does not fit.
        ConnectionFailedError: the broker cannot be reached.
    """
    work = await asyncio.to_thread(Retraining, settings.data_dir, settings.scorer)
    progress(0, work.end)
    with broker_errors(settings):
        async for entries in complete_entries(settings, work.end):
            for start in range(0, len(entries), _CHUNK):
                chunk = entries[start : start + _CHUNK]
                await asyncio.to_thread(work.learn, chunk)
                progress(chunk[-1][0] + 1, work.end)
    progress(work.end, work.end)
    return await asyncio.to_thread(work.finish, settings.scorer.promotion_margin, promote_anyway)
