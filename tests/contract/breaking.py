"""What of an old event's JSON Schema a new one no longer takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")

Schema = dict[str, Any]


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Return a line for each change that makes the new schema refuse, or lose a field of, what the old one took."""
    return list(_changes(old, new, old, new, "", frozenset()))


def _changes(a: Schema, b: Schema, old: Schema, new: Schema, at: str, seen: frozenset[str]) -> Iterator[str]:
    name = a.get("$ref", "")
    if name in seen:
        return
    seen = seen | {name} if name else seen
    a, b = _resolve(a, old), _resolve(b, new)
    if not b:  # anything goes
        return
    for kind in sorted(_kinds(a, old)):
        mine, theirs = _of_kind(a, old, kind), _of_kind(b, new, kind)
        if theirs is None:
            yield f"{at or '.'}: {kind} is no longer taken"
        elif mine is not None:
            yield from _narrower(mine, theirs, old, new, at, seen)


def _narrower(a: Schema, b: Schema, old: Schema, new: Schema, at: str, seen: frozenset[str]) -> Iterator[str]:
    for bound, tighter in [*((n, 1) for n in _LOWER_BOUNDS), *((n, -1) for n in _UPPER_BOUNDS)]:
        if bound in b and (bound not in a or tighter * (b[bound] - a[bound]) > 0):
            yield f"{at or '.'}: {bound} is tighter"
    if "pattern" in b and b.get("pattern") != a.get("pattern"):
        yield f"{at or '.'}: pattern is another"
    values, allowed = _values(a), _values(b)
    if allowed is not None and (values is None or not values <= allowed):
        yield f"{at or '.'}: values are no longer taken: {sorted(map(str, (values or set()) - allowed))}"
    yield from (f"{at}.{n}: is now required" for n in sorted(set(b.get("required", ())) - set(a.get("required", ()))))
    if b.get("additionalProperties") is False and a.get("additionalProperties") is not False:
        yield f"{at or '.'}: unknown fields are now refused"
    for field, mine in a.get("properties", {}).items():
        theirs = b.get("properties", {}).get(field)
        if theirs is None:
            yield f"{at}.{field}: is gone"
        else:
            yield from _changes(mine, theirs, old, new, f"{at}.{field}", seen)
    if "items" in a and "items" in b:
        yield from _changes(a["items"], b["items"], old, new, f"{at}[]", seen)


def _resolve(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _forms(schema: Schema, root: Schema) -> list[Schema]:
    schema = _resolve(schema, root)
    nested = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [form for inner in nested for form in _forms(inner, root)] if nested else [schema]


def _kinds(schema: Schema, root: Schema) -> set[str]:
    return {form.get("type", "anything") for form in _forms(schema, root)}


def _of_kind(schema: Schema, root: Schema, kind: str) -> Schema | None:
    """Return the form of `schema` that takes `kind`; a number takes integers too."""
    for wanted in (kind, *(["number"] if kind == "integer" else []), "anything"):
        for form in _forms(schema, root):
            if form.get("type", "anything") == wanted:
                return form
    return None


def _values(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None
