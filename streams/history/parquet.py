"""A topic as a Parquet file: the records' places, then a column a field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel

from schemas.base import Event

_ROWS_AT_ONCE = 2000
_PLACE = {
    "record_partition": pa.int32(),
    "record_offset": pa.int64(),
    "record_timestamp": pa.timestamp("ms", tz="UTC"),
}
_PLAIN = {"string": pa.string(), "number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}
_TIME = pa.timestamp("us", tz="UTC")


@contextmanager
def parquet_writer(path: Path, model: type[Event]) -> Iterator[Callable[[ConsumerRecord, Event], None]]:
    """Give what writes a record and its event to `path`."""
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
