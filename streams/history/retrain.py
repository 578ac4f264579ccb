"""`tierstream retrain`: relearns the scorer from the retained stream beside the one in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schemas.settings import Settings
from streams.kafka.options import broker_errors
from streams.state.scorer_log import complete_entries
from trainers.scorer.retrain import Outcome, Retraining

Progress = Callable[[int, int], None]
"""Told how many records of the log are done, of how many."""


async def retrain(
    settings: Settings, progress: Progress, promote_anyway: bool = False, keep_because: str | None = None
) -> Outcome:
    """Relearn with these settings, judge, keep, and promote where it is better or was asked for.

    Nothing is promoted where there is a reason to keep it only.

    The change of the version in use is on disk when this returns, and still to be published.

    Raises:
        InputError: there is no scorer in use, or the retained stream does not fit.
        ConnectionFailedError: the broker cannot be reached.
    """
    work = await asyncio.to_thread(Retraining, settings.data_dir, settings.scorer)
    progress(0, work.end)
    with broker_errors(settings):
        async for records in complete_entries(settings, work.end):
            for offset, entries in records:
                await asyncio.to_thread(work.learn, offset, entries)
                progress(offset + 1, work.end)
    progress(work.end, work.end)
    return await asyncio.to_thread(work.finish, settings.scorer.promotion_margin, promote_anyway, keep_because)
