"""The configuration reference, made from the settings: `python -m schemas.reference > docs/configuration.md`."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel

from schemas.config import ENVIRONMENT_PREFIX, FLAGS, allowed, setting_fields, setting_value
from schemas.settings import Settings

_HEAD = """# Configuration

Generated from `schemas/settings.py` by `python -m schemas.reference > docs/configuration.md`; a test compares.

A value comes from the first of these that gives it: a flag, a variable, the file named with `--config`, the default.
`tierstream doctor` prints every value in effect and where it came from. An unknown key or an invalid value stops
the start with one line that names it.
"""


def reference() -> str:
    """Return `docs/configuration.md`: a table a section, with default, variable, allowed values and meaning."""
    parts = [_HEAD]
    sections: dict[str, list[str]] = {}
    for key, _ in setting_fields():
        sections.setdefault(key.rpartition(".")[0], []).append(key)
    for section, keys in sections.items():
        title = f"`[{section}]`" if section else "Top level"
        parts += [f"\n## {title}\n", f"{_meaning_of(section)}\n" if section else ""]
        parts += ["| key | default | allowed | meaning |", "|---|---|---|---|", *map(_row, keys)]
    return "\n".join(part for part in parts if part) + "\n"


def variable(key: str) -> str:
    """Return the variable that sets a dotted key."""
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "__")


def _row(key: str) -> str:
    field = dict(setting_fields())[key]
    flag = f", `{FLAGS[key]}`" if key in FLAGS else ""
    name = f"`{key.rpartition('.')[2]}`<br>`{variable(key)}`{flag}"
    meaning = (field.description or "").replace("\n", " ")
    cells = (name, _shown(setting_value(Settings(), key)), allowed(field), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float) and value == int(value) and abs(value) >= 1:
        return f"`{int(value)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{str(value).lower()}`"


def _meaning_of(section: str) -> str:
    model: type[BaseModel] = Settings
    for name in section.split("."):
        annotation = model.model_fields[name].annotation
        assert isinstance(annotation, type)
        model = annotation
    return (model.__doc__ or "").strip()


if __name__ == "__main__":
    sys.stdout.write(reference())
