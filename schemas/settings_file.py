"""Changing values of a settings file in place: its comments and order stay, and it says nothing else afterwards."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.config import LoadedSettings
from schemas.errors import SettingsError

_VALUE = """[^"'#]*?|"[^"]*"|'[^']*'"""
"""What is replaced of a line: a value that ends on it."""


def changed_file(loaded: LoadedSettings, changes: Mapping[str, Any]) -> tuple[Path, str]:
    """Return the settings file and its text with these values; nothing is written.

    Args:
        loaded: as they are in effect.
        changes: values by dotted key.

    Raises:
        SettingsError: there is no file, a value is set where the file would not count, or it cannot be changed so.
    """
    told = " and ".join(f"{key} = {_toml(value)}" for key, value in changes.items())
    for key in changes:
        source = loaded.sources[key]
        if source.startswith(("environment ", "flag ")):
            raise SettingsError(f"{key} is set by {source}, which counts before any file", f"set {told} there")
    if loaded.file is None:
        raise SettingsError(
            f"there is no settings file to set {told} in", "give the workers and this command --config FILE"
        )
    before = loaded.file.read_text("utf-8")
    after = before
    for key, value in changes.items():
        after = _with(after, key, _toml(value))
    wanted = tomllib.loads(before)
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        part = wanted
        for step in section.split("."):
            part = part.setdefault(step, {})
        part[name] = value
    if not _says(after, wanted):
        raise SettingsError(f"{loaded.file} cannot be changed line by line", f"set {told} there, and run this again")
    return loaded.file, after


def _with(text: str, key: str, value: str) -> str:
    section, _, name = key.rpartition(".")
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?")
    start = next((n for n, line in enumerate(lines) if header.fullmatch(line)), None)
    if start is None:
        lines += ["", f"[{section}]", f"{name} = {value}"]
        return "\n".join(lines).lstrip("\n") + "\n"
    end = next((n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    assignment = re.compile(rf"(\s*{re.escape(name)}\s*=\s*)({_VALUE})(\s*(?:#.*)?)")
    for n in range(start + 1, end):
        if found := assignment.fullmatch(lines[n]):
            lines[n] = f"{found[1]}{value}{found[3]}"
            return "\n".join(lines) + "\n"
    lines.insert(start + 1, f"{name} = {value}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(value)


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False
