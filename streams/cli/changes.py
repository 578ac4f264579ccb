"""Option `--change-settings`: a version is put into use together with the settings that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from schemas.config import LoadedSettings

change_settings_option = click.option(
    "--change-settings", is_flag=True, help="Where the version needs other settings, set them in the settings file too."
)
"""Gives a command the flag as `change_settings`."""


@dataclass(slots=True)
class SettingsChange:
    """What is set in the settings file with a change of the version in use."""

    values: dict[str, Any] = field(default_factory=dict)
    """By dotted key."""
    told: str = ""
    """In words, once it is written."""


@contextmanager
def settings_set(loaded: LoadedSettings, values: dict[str, Any]) -> Iterator[SettingsChange]:
    """Give what is to be set, and set it once the body has put a version into use that needs it.

    In this order, so that whatever ends this in between leaves workers whose settings fit what they serve. A body that
    clears the values has nothing set.

    Raises:
        SettingsError: the settings file cannot be changed; nothing was.
    """
    from schemas.settings_file import changed_file
    from trainers.files import write_atomically

    change = SettingsChange(dict(values))
    path, text = changed_file(loaded, values) if values else (Path(), "")
    yield change
    if change.values:
        write_atomically(path, text.encode())
        told = ", ".join(f"{key} = {value}" for key, value in values.items())
        change.told = f"; {told} is set in {path}: start the workers again, until then what was in use before serves"


def settings_with(
    loaded: LoadedSettings, version: str, change_settings: bool
) -> AbstractContextManager[SettingsChange]:
    """Do `settings_set` with what a version needs.

    Raises:
        VersionError: there is no such version, or no settings fit it.
    """
    from trainers.promotion import settings_needed

    return settings_set(loaded, settings_needed(loaded.settings, version) if change_settings else {})
