"""Taking in what other systems logged, and counting what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from schemas.settings import Settings
from streams.client.aio import topic_of
from streams.history.backfill import Recorded, replay
from streams.imports.events import Making, events_of
from streams.imports.files import Files
from streams.imports.found import Bad, Format, LeftOut, Ready, Record
from streams.imports.preview import Preview
from streams.imports.registry import recognised

_LOOKED_AT = 50
"""Records that a format is recognised by."""


@dataclass(slots=True)
class Imported:
    """What became of the records of an import."""

    format: str = ""
    records: int = 0
    """Lines, elements or whole files that were read, broken ones too."""
    events: Counter[str] = field(default_factory=Counter)
    """By topic."""
    left_out: Counter[str] = field(default_factory=Counter)
    """By reason."""
    bad: int = 0
    places: dict[str, str] = field(default_factory=dict)
    """What became of each record, or of each span of one: `with events`, `bad` or `left out`."""
    preview: Preview | None = None
    """With a dry run: what the events would give each tier."""


async def import_files(
    paths: Sequence[Path],
    form: Format | None,
    making: Making,
    settings: Settings,
    *,
    dry_run: bool,
    on_bad: Callable[[str, str], None],
    progress: Callable[[int, int | None], None],
) -> Imported:
    """Publish what the files hold, or count it only.

    Args:
        paths: as `Files` takes them.
        form: of the files; None recognises it.
        making: of events.
        settings: of the deployment that gets them, or whose rules a dry run goes by.
        dry_run: publish nothing.
        on_bad: takes the place of what is not of the format, and the reason.
        progress: told how many bytes are read, of how many.

    Raises:
        InputError: a file cannot be read, or the format is not recognised.
        ConnectionFailedError: the broker did not take an event.
    """
    files, result = Files(paths), Imported(preview=Preview(settings) if dry_run else None)
    await replay(
        _recorded(files, form, making, result),
        None,
        None if dry_run else settings,
        rate=None,
        on_bad=on_bad,
        progress=progress,
    )
    result.records = files.count
    return result


async def _recorded(files: Files, form: Format | None, making: Making, result: Imported) -> AsyncIterator[Recorded]:
    for one in found_in(files, form, making, result):
        if isinstance(one, LeftOut):
            result.left_out[one.reason] += 1
            result.places.setdefault(one.where, "left out")
        elif isinstance(one, Bad):
            result.bad += 1
            result.places[one.where] = "bad"
            yield Recorded(one.where, None, one.reason, files.done, files.total)
        else:
            result.events[topic_of(one.event)] += 1
            result.places[one.where] = "with events"
            if result.preview is not None:
                result.preview.take(one.event)
            yield Recorded(one.where, one.event, "", files.done, files.total)


def found_in(files: Files, form: Format | None, making: Making, result: Imported) -> Iterator[Ready | LeftOut | Bad]:
    """Yield everything that the files hold; what is broken in place, so that it costs nothing else.

    Raises:
        InputError: a file cannot be read, or the format is not recognised.
    """
    broken: list[Bad] = []

    def whole() -> Iterator[Record]:
        for one in files.read():
            if isinstance(one, Bad):
                broken.append(one)
            else:
                yield one

    records = whole()
    if form is None:
        head = list(islice(records, _LOOKED_AT))
        form, records = recognised(head), chain(head, records)
    result.format = form.name
    for one in events_of(form.read(records), making):
        yield from _emptied(broken)
        yield one
    yield from _emptied(broken)


def _emptied(broken: list[Bad]) -> Iterator[Bad]:
    while broken:
        yield broken.pop(0)
