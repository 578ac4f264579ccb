"""The two families of models: events that tolerate unknown fields, settings that refuse them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
)

MAX_ID_CHARACTERS = 256
MAX_TEXT_CHARACTERS = 64 * 1024
MAX_LONG_TEXT_CHARACTERS = 512 * 1024


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    return value


def _as_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return value


def _given(value: JsonValue) -> JsonValue:
    if value is None:
        raise ValueError("must not be null")
    return value


Identifier = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARACTERS), AfterValidator(_without_nul)]
"""A key of an event: 1 to 256 characters without NUL."""

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS)]
"""A query, a widget's text or a spoken reply: at most 64 Ki characters."""

LongText = Annotated[str, StringConstraints(max_length=MAX_LONG_TEXT_CHARACTERS)]
"""A prompt, a thinking block or a response of a trace: at most 512 Ki characters."""


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


_TIMESTAMP_SCHEMA = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}

Timestamp = Annotated[datetime, AfterValidator(_as_utc), WithJsonSchema(_TIMESTAMP_SCHEMA, mode="validation")]
"""RFC 3339 or epoch seconds; a time without a zone is read as UTC."""

Reward = Annotated[float, Field(ge=-1.0, le=1.0, strict=True)]
"""A judgement from -1 (bad) to 1 (good); a JSON number, not a string or a boolean."""

Probability = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
"""From 0 to 1."""

Count = Annotated[int, BeforeValidator(_number), Field(ge=0)]
"""From 0 on."""

Seconds = Annotated[float, BeforeValidator(_number), Field(ge=0)]
"""A duration."""

FreeJson = Annotated[JsonValue, AfterValidator(_finite)]
"""JSON of any form; NaN and infinity, which are no JSON though parsers take them, become null, as they are written."""

GivenJson = Annotated[FreeJson, AfterValidator(_given)]
"""JSON of any form but null, which would be left out in writing."""


class Part(BaseModel):
    """A piece of an event: frozen, tolerant of unknown fields, without NaN or infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        ser_json_inf_nan="null",
    )


class Event(Part):
    """A record of a public topic; `from_json` and `to_json` are its only wire format."""

    schema_version: Annotated[Literal[1], BeforeValidator(_number)] = 1
    """Version of the event's form; a reader refuses versions that it does not know."""

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Decode and validate one event.

        Raises:
            pydantic.ValidationError: the bytes are not JSON of this form.
        """
        return cls.model_validate_json(data)

    def to_json(self) -> bytes:
        """Encode as UTF-8 JSON without absent fields."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)


class StrictModel(BaseModel):
    """A settings section: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )
