"""The embedding field: 384 finite floats, on the wire a JSON list or base64 of little-endian float32."""

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


def _floats(values: list[Any] | tuple[Any, ...]) -> array[float]:
    if len(values) != EMBEDDING_SIZE:
        raise ValueError(f"embedding has {len(values)} numbers, {EMBEDDING_SIZE} are needed")
    try:
        return array("f", values)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"embedding holds something that is no float32: {error}") from error


def pack_embedding(value: Any) -> bytes:
    """Return the 1,536 bytes (384 little-endian float32) of a list of numbers, base64 text or raw bytes.

    Raises:
        ValueError: the size is wrong, or a number is missing, NaN or infinite.
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
    # A sum in double precision is finite exactly when each float32 summand is.
    if not math.isfinite(sum(numbers)):
        raise ValueError("embedding holds NaN or infinity")
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
                    "items": {"type": "number"},
                    "minItems": EMBEDDING_SIZE,
                    "maxItems": EMBEDDING_SIZE,
                },
                {"type": "string", "contentEncoding": "base64", "minLength": 2048, "maxLength": 2048},
            ],
            "description": "384 floats: a list, or base64 of little-endian float32",
        }
    ),
]
"""384 little-endian float32 as 1,536 bytes."""
