"""Beside the roles: says in the data directory what this worker is at; one of the workers keeps the history, too."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from schemas.settings import Settings
from streams.audit.deployment import SILENT_SECONDS, ask_deployment
from streams.state.history import History
from streams.state.workers import Announcement, announced
from streams.worker.charts import sample_of

log = logging.getLogger("tierstream.chronicle")

INTERVAL_SECONDS = 10.0


async def keep_telling(
    settings: Settings, announcement: Announcement, status: Callable[[], Awaitable[Mapping[str, Any]]]
) -> None:
    """Tell what this worker is at every `INTERVAL_SECONDS`, until cancelled.

    The first of the workers that were heard of late keeps a sample of the whole deployment.
    """
    history = History(settings.data_dir)
    while True:
        try:
            account = {name: value for name, value in (await status()).items() if name != "observed"}
            announcement.tell(account)
            heard = [one for one in announced(settings) if time.time() - one.at < SILENT_SECONDS]
            if heard and announcement.is_of(heard[0]):
                await asyncio.to_thread(history.append, sample_of(await ask_deployment(settings)))
        except OSError as error:
            log.warning("what this worker is at cannot be told: %s", error)
        await asyncio.sleep(INTERVAL_SECONDS)
