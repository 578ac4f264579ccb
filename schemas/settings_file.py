"""Changing values of a settings file in place: its comments and order stay, and it says nothing else afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from schemas.config import LoadedSettings
from schemas.errors import SettingsError


def changed_file(loaded: LoadedSettings, changes: Mapping[str, Any]) -> tuple[Path, str]:
    """Return the settings file and its text with these values; nothing is written.

    Args:
        loaded: as they are in effect.
        changes: values by dotted key.

    Raises:
        SettingsError: there is no file, or a value is set where the file would not count.
    """
    told = " and ".join(f"{key} = {json.dumps(value)}" for key, value in changes.items())
    for key in changes:
        source = loaded.sources[key]
        if source.startswith(("environment ", "flag ")):
            raise SettingsError(f"{key} is set by {source}, which counts before any file", f"set {told} there")
    if loaded.file is None:
        raise SettingsError(
            f"there is no settings file to set {told} in", "give the workers and this command --config FILE"
        )
    document = tomlkit.parse(loaded.file.read_text("utf-8"))
    for key, value in changes.items():
        *sections, name = key.split(".")
        table: Any = document
        for section in sections:
            table = table.setdefault(section, tomlkit.table())
        table[name] = value
    return loaded.file, tomlkit.dumps(document)
