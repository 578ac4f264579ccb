"""Takes out of use what people judge worse than the version before, where the settings allow it, and ends trials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.audit.outcome import trial_in_words, verdict
from streams.training.model_versions import publish_now
from trainers import promotion
from trainers.versions import VersionStore

log = logging.getLogger("tierstream.rollback")


async def settle_trials(settings: Settings, outcome: Mapping[str, Any]) -> None:
    """Put a version that is tried into use, or end its trial, once it is known which, and tell consumers.

    Every worker may try: only the first one finds the trial still open. Arguments and errors as of `roll_back_worse`.
    """
    for line in outcome["lines"]:
        if line["settled"]:
            taken = line["settled"] == "taken"
            reason = f"{'not worse' if taken else 'judged worse'}: {trial_in_words(line)}"
            settle = VersionStore(settings.data_dir).settle
            try:
                event = await asyncio.to_thread(settle, line["line"], line["candidate"], reason, take=taken)
                log.warning("the trial of %s has ended, %s is in use: %s", line["candidate"], event.version, reason)
            except TierstreamError as error:
                log.info("the trial of %s is not ended here: %s", line["candidate"], error)
    await publish_now(settings)


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
