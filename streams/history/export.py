"""Writing a topic to a file: JSON lines that `produce` and `replay` take, or Parquet with the records' places."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, ValidationError

from schemas.base import Event
from schemas.errors import InputError
from schemas.settings import Settings
from streams.contract import CONTRACTS
from streams.kafka.log_range import LogRange, TimeRange

Format = Literal["jsonl", "parquet"]

_ROWS_AT_ONCE = 2000
_PLACE = {
    "record_partition": pa.int32(),
    "record_offset": pa.int64(),
    "record_timestamp": pa.timestamp("ms", tz="UTC"),
}
_PLAIN = {"string": pa.string(), "number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of a topic's records."""

    topic: str
    path: Path
    events: int
    """Events that were written."""
    bad: int
    """Records that are no event of the topic, and were left out."""


class _Writer(Protocol):
    def __call__(self, record: ConsumerRecord, event: Event) -> None: ...


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
def _jsonl(path: Path, model: type[Event]) -> Iterator[_Writer]:
    with path.open("wb") as file:

        def write(record: ConsumerRecord, event: Event) -> None:
            file.write(event.to_json() + b"\n")

        yield write


@contextmanager
def _parquet(path: Path, model: type[Event]) -> Iterator[_Writer]:
    schema = parquet_schema(model)
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as file:

        def flush() -> None:
            file.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def write(record: ConsumerRecord, event: Event) -> None:
            place = (record.partition, record.offset, record.timestamp)
            rows.append(dict(zip(_PLACE, place, strict=True)) | _row(event, schema))
            if len(rows) >= _ROWS_AT_ONCE:
                flush()

        yield write
        flush()


def parquet_schema(model: type[BaseModel]) -> pa.Schema:
    """Return the columns of an event: its place, then a column a field; what is nested is JSON text."""
    fields = model.model_json_schema(mode="serialization")["properties"]
    return pa.schema(_PLACE | {name: _column(field) for name, field in fields.items()})


def _column(field: dict[str, Any]) -> pa.DataType:
    forms = [field, *field.get("anyOf", ())]
    if any(form.get("format") == "date-time" for form in forms):
        return _TIME
    return next((_PLAIN[form["type"]] for form in forms if form.get("type") in _PLAIN), pa.string())


def _row(event: Event, schema: pa.Schema) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(event.to_json())
    for name, value in row.items():
        if schema.field(name).type == _TIME:
            row[name] = getattr(event, name)
        elif schema.field(name).type == pa.string() and not isinstance(value, str):
            row[name] = json.dumps(value)
    return row


_WRITERS: dict[Format, Callable[[Path, type[Event]], AbstractContextManager[_Writer]]] = {
    "jsonl": _jsonl,
    "parquet": _parquet,
}
