"""Writing a topic to a file: JSON lines that `produce` and `replay` take, or Parquet with the records' places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError

from schemas.base import Event
from schemas.errors import InputError
from schemas.settings import Settings
from streams.contract import CONTRACTS
from streams.kafka.log_range import LogRange, TimeRange

Format = Literal["jsonl", "parquet"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of a topic's records."""

    topic: str
    path: Path
    events: int
    """Events that were written."""
    bad: int
    """Records that are no event of the topic, and were left out."""


Writer = Callable[[ConsumerRecord, Event], None]
"""Writes a record and its event."""


async def export(
    settings: Settings,
    topic: str,
    folder: Path,
    form: Format,
    stretch: TimeRange,
    progress: Callable[[int, int], None],
) -> Exported:
    """Write a stretch of a topic to `folder/<topic>.<form>`, whole or not at all.

    Args:
        settings: where the broker is.
        topic: name without the prefix.
        folder: is made if it is missing.
        form: of the file.
        stretch: which part of the topic.
        progress: told how many records are done, of how many at most.

    Raises:
        InputError: the file cannot be written.
        TopicsError: the topic is not there.
        ConnectionFailedError: the broker cannot be reached.
    """
    model = CONTRACTS[topic].event
    path = folder / f"{topic}.{form}"
    events = bad = 0
    try:
        with _whole(path) as partial:
            async with LogRange(settings, topic, stretch) as records:
                with _WRITERS[form](partial, model) as write:
                    async for record in records:
                        try:
                            event = model.from_json(record.value or b"")
                        except ValidationError:
                            bad += 1
                        else:
                            write(record, event)
                            events += 1
                        progress(events + bad, records.offsets)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}", "name another folder") from error
    return Exported(topic, path, events, bad)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a file beside `path` that takes its place when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _jsonl(path: Path, model: type[Event]) -> Iterator[Writer]:
    with path.open("wb") as file:

        def write(record: ConsumerRecord, event: Event) -> None:
            file.write(event.to_json() + b"\n")

        yield write


def _parquet(path: Path, model: type[Event]) -> AbstractContextManager[Writer]:
    from streams.history.parquet import parquet_writer  # pyarrow is no part of the base install

    return parquet_writer(path, model)


_WRITERS: dict[Format, Callable[[Path, type[Event]], AbstractContextManager[Writer]]] = {
    "jsonl": _jsonl,
    "parquet": _parquet,
}
