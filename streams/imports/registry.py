"""Every format that can be imported: ours, and those that other packages bring along as entry points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points

from schemas.errors import InputError
from streams.imports import anthropic, claude_code, langfuse, openai, otel, sharegpt, tierstream
from streams.imports.found import Format, Record

ENTRY_POINTS = "tierstream.imports"
AUTO = "auto"

_OURS = tuple(module.FORMAT for module in (anthropic, openai, otel, langfuse, claude_code, sharegpt, tierstream))


@cache
def formats() -> Mapping[str, Format]:
    """Return every format by name; of two of one name the one of another package is taken.

    Raises:
        InputError: an entry point cannot be loaded, or is no `Format`.
    """
    found = {one.name: one for one in _OURS}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"import format {entry.name} ({entry.value}) cannot be loaded: {error}") from error
        if not isinstance(loaded, Format):
            raise InputError(f"import format {entry.name} ({entry.value}) is no streams.imports.found.Format")
        found[entry.name] = loaded
    return found


def recognised(records: Iterable[Record]) -> Format:
    """Return the format that the first of the records looks like.

    Raises:
        InputError: none of them looks like any, or one looks like several.
    """
    for record in records:
        if isinstance(record.value, dict):
            like = [one for one in formats().values() if one.recognises(record.value)]
            if len(like) == 1:
                return like[0]
            if like:
                raise InputError(
                    f"{record.where} looks like {' and '.join(one.name for one in like)}", "name the format"
                )
    raise InputError("the format is not recognised", f"name it: {', '.join(formats())}")
