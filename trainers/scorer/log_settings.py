"""The settings that learning depends on, as the scorer's log has them. No torch."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from schemas.errors import LogError
from schemas.settings import ScorerSettings
from trainers.features import layout_hash

FEATURES = "features"
"""Beside the settings: the layout of the structured features that the log's entries were made with."""

_BESIDE = ("checkpoint_every_steps", "checkpoint_idle", "checkpoints_kept", "promotion_margin")
"""Settings that learning does not depend on."""


def learning_settings(settings: ScorerSettings) -> dict[str, Any]:
    """Return all that learning depends on, by name, for a `Configure` record."""
    return {**settings.model_dump(mode="json", exclude=set(_BESIDE)), FEATURES: layout_hash()}


def settings_in(learning: dict[str, Any]) -> ScorerSettings:
    """Return the settings in a `Configure` record; what learning does not depend on has its default.

    Raises:
        LogError: they are of another program.
    """
    values = {name: value for name, value in learning.items() if name != FEATURES}
    try:
        return ScorerSettings.model_validate(values)
    except ValidationError as error:
        raise LogError(f"the log has settings that this program does not know: {error.errors()[0]['loc']}") from error
