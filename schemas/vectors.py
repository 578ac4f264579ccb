"""The embedding field: 384 floats, 1,000 long at most; on the wire a JSON list or base64 of little-endian float32."""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

EMBEDDING_SIZE = 384
EMBEDDING_BYTES = EMBEDDING_SIZE * 4
MAX_LENGTH = 1000.0
"""Of a vector: a longer one would drown all that was learned. Models give about 1; int8 values, or bytes in another
order, read as floats, are far beyond it or no numbers at all."""

_ORIGIN = (0.0,) * EMBEDDING_SIZE


def _floats(values: list[Any] | tuple[Any, ...]) -> array[float]:
    if len(values) != EMBEDDING_SIZE:
        raise ValueError(f"embedding has {len(values)} numbers, {EMBEDDING_SIZE} are needed")
    if bool in set(map(type, values)):
        raise ValueError("embedding holds something that is no float32: true or false")
    try:
        return array("f", values)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"embedding holds something that is no float32: {error}") from error


def pack_embedding(value: Any) -> bytes:
    """Return the 1,536 bytes (384 little-endian float32) of a list of numbers, base64 text or raw bytes.

    Raises:
        ValueError: the size is wrong, a number is missing, NaN or infinite, or the vector is longer than `MAX_LENGTH`.
    """
    if isinstance(value, (list, tuple)):
        numbers = _floats(value)
    else:
        if isinstance(value, str):
            try:
                value = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as error:
                raise ValueError(f"embedding is not base64: {error}") from error
        if not isinstance(value, (bytes, bytearray)):
            raise ValueError(f"embedding is neither a list of {EMBEDDING_SIZE} numbers nor base64")
        if len(value) != EMBEDDING_BYTES:
            raise ValueError(f"embedding has {len(value)} bytes, {EMBEDDING_BYTES} are needed")
        numbers = array("f", bytes(value))
        if sys.byteorder == "big":
            numbers.byteswap()
    length = math.dist(numbers, _ORIGIN)
    if not math.isfinite(length):
        raise ValueError("embedding holds NaN or infinity")
    if length > MAX_LENGTH:
        raise ValueError(
            f"embedding has length {length:,.4g}, {MAX_LENGTH:,.0f} at most can be used: is it float32, little-endian?"
        )
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _to_base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


Embedding = Annotated[
    bytes,
    BeforeValidator(pack_embedding),
    PlainSerializer(_to_base64, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "oneOf": [
                {
                    "type": "array",
                    "items": {"type": "number", "minimum": -MAX_LENGTH, "maximum": MAX_LENGTH},
                    "minItems": EMBEDDING_SIZE,
                    "maxItems": EMBEDDING_SIZE,
                },
                {"type": "string", "contentEncoding": "base64", "minLength": 2048, "maxLength": 2048},
            ],
            "description": "384 floats: a list, or base64 of little-endian float32; their length is 1,000 at most",
        }
    ),
]
"""384 little-endian float32 as 1,536 bytes."""
