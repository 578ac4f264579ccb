"""Changes JSON as JSON, so that an input stays nearly right, where bytes that change alone would soon be none."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 0.5, -1.5, 1e308, float("nan"), float("inf")),
    *("", "x", "../x", "\0", "\ud800", "\u2028", "a" * 5000, "1", "1e400", "2026-01-01T00:00:00Z", "0001-01-01"),
    *([], {}, [[]], [None], {"": None}, {"x": {"x": {}}}),
)


def mutate_json(data: bytes, rng: random.Random) -> bytes | None:
    """Change one to three places in the first JSON object or list of `data`; None where there is none."""
    start = min((place for place in (data.find(b"{"), data.find(b"[")) if place >= 0), default=-1)
    if start < 0:
        return None
    text = data[start:].decode("utf-8", "surrogateescape")
    try:
        tree, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    for _ in range(rng.randint(1, 3)):
        _change(tree, rng)
    return data[:start] + (json.dumps(tree) + text[end:]).encode("utf-8", "surrogateescape")


def _change(tree: Any, rng: random.Random) -> None:
    """Replace, delete, copy or rename something below a random place."""
    place = _descend(tree, rng)
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    if not keys:
        return
    key = rng.choice(keys)
    match rng.randrange(5):
        case 0:
            del place[key]
        case 1:
            place[key] = [deepcopy(place[key]) for _ in range(rng.randint(1, 3))]
        case 2 if isinstance(place, dict):
            place[rng.choice(keys)] = deepcopy(place[key])
        case 3 if isinstance(place, dict):
            place[f"{key}{rng.choice(['', '_', 's'])}"] = place.pop(key)
        case _:
            place[key] = deepcopy(rng.choice(VALUES))


def _descend(tree: Any, rng: random.Random) -> Any:
    while True:
        inner = [
            value for value in (tree.values() if isinstance(tree, dict) else tree) if isinstance(value, dict | list)
        ]
        if not inner or rng.random() < 0.4:
            return tree
        tree = rng.choice(inner)
