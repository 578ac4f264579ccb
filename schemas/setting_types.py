"""Types of settings' values: durations, probabilities, names."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s,:/\[\]]+):(\d{1,5})")
_LAST_PORT = 65535
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s,/]+")

_UNIT_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*(ms|s|m|h|d|)")


def parse_duration(value: Any) -> Any:
    """Return seconds for `"7d"`, `"90s"`, `"250ms"` or a number of seconds; `"forever"` is -1.

    Raises:
        ValueError: the text is no duration.
    """
    if value == "forever":
        return -1.0
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match:
            raise ValueError(f"{value!r} is no duration: write a number and ms, s, m, h or d, as in 7d")
        return float(match[1]) * _UNIT_SECONDS[match[2]]
    return value


def _servers(value: str) -> str:
    for server in value.split(","):
        match = _SERVER.fullmatch(server)
        if match is None or not 0 < int(match[2]) <= _LAST_PORT:
            raise ValueError(f"{server!r} is not HOST:PORT")
    return value


Servers = Annotated[
    str,
    AfterValidator(_servers),
    WithJsonSchema(
        {
            "type": "string",
            "description": f"HOST:PORT, several with commas between, no protocol before it, ports 1 to {_LAST_PORT}",
        }
    ),
]
"""Brokers as clients take them."""


def _origins(value: str) -> str:
    for origin in value.split(",") if value else ():
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin: write it as a browser does, https://app.example.org")
    return value


Origins = Annotated[
    str,
    AfterValidator(_origins),
    WithJsonSchema({"type": "string", "description": "SCHEME://HOST[:PORT], several with commas between"}),
]
"""Origins of web pages."""

Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
"""Seconds; in files and variables also `"7d"`, `"90s"`, `"250ms"`."""

Wait = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
"""A duration that may be 0."""

Retention = Annotated[float, BeforeValidator(parse_duration), Field(ge=-1)]
"""Seconds, or `"forever"` (-1)."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
"""From 0 to 1; lax, since variables of the environment are text."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=120)]
