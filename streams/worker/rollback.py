"""Takes a version out of use that people judge worse than the one before it, where the settings allow it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.audit.outcome import verdict
from streams.training.model_versions import publish_now
from trainers import promotion

log = logging.getLogger("tierstream.rollback")


async def roll_back_worse(settings: Settings, outcome: Mapping[str, Any]) -> None:
    """Go back to the version before where the one in use is worse, and tell consumers.

    Every worker may try: only the first one finds the version still in use. One that has been rolled back and was put
    into use again was so by a person, who is not overruled.

    Args:
        settings: as they are in effect.
        outcome: as `outcome_of` returned it.

    Raises:
        ConnectionFailedError: the broker does not take the event; the next look publishes it.
    """
    if not settings.serving.rollback_when_worse:
        return
    for line in outcome["lines"]:
        if line["worse"] and not line["returned"]:
            try:
                event = await asyncio.to_thread(
                    promotion.rollback,
                    settings,
                    line["line"],
                    line["before"],
                    verdict(line),
                    only_from=line["version"],
                )
                log.warning("%s is in use again: %s", event.version, event.reason)
            except TierstreamError as error:
                log.warning("%s is not rolled back: %s", line["version"], error)
    await publish_now(settings)
