"""The check of compatibility itself: what it must call breaking, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.breaking import breaking_changes

OLD: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "maxLength": 256},
        "reward": {"anyOf": [{"type": "number", "minimum": -1, "maximum": 1}, {"type": "null"}]},
        "source": {"type": "string", "enum": ["user", "evaluator"]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}, "maxItems": 64},
        "more": {},
    },
    "$defs": {"Part": {"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"}}}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the old schema with one value replaced, or taken out where it is None."""
    copy: dict[str, Any] = __import__("copy").deepcopy(OLD)
    *parents, last = path.split("/")
    place: Any = copy
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("required", ["id", "reward"], ".reward: is now required"),
        ("properties/source", None, ".source: is gone"),
        ("properties/id/maxLength", 64, ".id: maxLength is tighter"),
        ("properties/id/minLength", 1, ".id: minLength is tighter"),
        ("properties/id/pattern", "^a", ".id: pattern is another"),
        ("properties/id/type", "integer", ".id: string is no longer taken"),
        ("properties/reward/anyOf/0/maximum", 0.5, ".reward: maximum is tighter"),
        ("properties/reward", {"type": "number"}, ".reward: null is no longer taken"),
        ("properties/source/enum", ["user"], ".source: values are no longer taken: ['evaluator']"),
        ("properties/parts/maxItems", 8, ".parts: maxItems is tighter"),
        ("$defs/Part/properties/name", None, ".parts[].name: is gone"),
        ("$defs/Part/required", ["name"], ".parts[].name: is now required"),
        ("additionalProperties", False, ".: unknown fields are now refused"),
    ],
)
def test_breaking_change_is_named(path: str, value: Any, line: str) -> None:
    assert breaking_changes(OLD, changed(path, value)) == [line]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/new", {"type": "string"}),
        ("properties/id/maxLength", 512),
        ("properties/source/enum", ["user", "evaluator", "implicit"]),
        ("properties/reward/anyOf/0/minimum", -2),
        ("$defs/Part/properties/count", {"type": "number"}),
        ("properties/source", {}),
        ("required", []),
    ],
)
def test_change_that_takes_more_is_not_breaking(path: str, value: Any) -> None:
    assert breaking_changes(OLD, OLD) == []
    assert breaking_changes(OLD, changed(path, value)) == []
