"""The 45 structured features of an item, each in [0, 1]: one table that code and documentation share.

The model that answered is no feature: the scorer is to judge the answer, not its author.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from math import log, log1p

import numpy as np

from schemas.events import Experience
from trainers.embedding import Floats
from trainers.items import Item, items_of
from trainers.text import MAX_TEXT_CHARACTERS, words

LAYOUT_VERSION = 2
"""Goes up where a feature comes to mean something else under its name: a checkpoint of another version is refused."""
TYPE_BUCKETS = 6
INTENT_BUCKETS = 4


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the layout."""

    name: str
    range: str
    meaning: str


def _flag(name: str, meaning: str) -> Feature:
    return Feature(name, "0 or 1", meaning)


def _share(name: str, meaning: str) -> Feature:
    return Feature(name, "[0, 1]", meaning)


FEATURES: tuple[Feature, ...] = (
    _share("query_length", "Words of the query, 32 or more is 1"),
    _flag("query_means_all", "The query has a word like all, every, both"),
    _flag("item_is_voice", "The item is the spoken reply"),
    _flag("item_is_empty", "The item's text is empty"),
    _share("item_length", "Words of the item, 64 or more is 1"),
    _flag("item_asks", "The item has a question mark"),
    _flag("item_negates", "The item has a word like not, no, don't"),
    _flag("item_apologises", "The item has a word like sorry, unfortunately"),
    _flag("item_fails", "The item has a word like unable, error, cannot"),
    _flag("item_asks_back", "The item has a word like which, specify, clarify"),
    _flag("item_offers", "The item has a word like would, could, should"),
    _flag("item_has_number", "The item has a number"),
    _share("item_lines", "Line breaks and list marks of the item, 8 or more is 1"),
    _share("item_length_log", "Logarithm of 1 + words of the item, over that of 2,000"),
    _share("item_lines_log", "Logarithm of 1 + line breaks and list marks of the item, over that of 2,000"),
    _share("query_in_item", "Share of the query's words that the item has"),
    _share("item_in_query", "Share of the item's words that the query has"),
    _share("pairs_in_item", "Share of the query's neighbouring word pairs that the item has"),
    _share("numbers_in_item", "Share of the query's numbers that the item has; 1 where it has none"),
    _share("query_in_answer", "Share of the query's words that the whole answer has"),
    _flag("item_contradicts", "The item has the opposite of a word of the query, on and off for one, but not the word"),
    _flag("item_confirms", "The item has a word of the query that has an opposite"),
    _flag("plan_is_empty", "The answer has no widget"),
    _share("plan_size", "Widgets of the answer, 8 or more is 1"),
    _flag("answer_has_voice", "The answer has a spoken reply"),
    _share("position", "Place of the item in the answer, 8 or more is 1"),
    _flag("type_is_repeated", "Another widget of the plan has the same type"),
    _flag("has_arguments", "The widget has arguments"),
    _share("argument_count", "Arguments of the widget, 8 or more is 1"),
    _share("arguments_in_query", "Share of the words of the widget's text and arguments' values that the query has"),
    _share("domain_count", "Domains of the intent, 8 or more is 1"),
    _share("device_count", "Devices of the intent, 8 or more is 1"),
    _flag("domain_in_query", "The query has a word of the intent's domains"),
    _flag("domain_in_item", "The item has a word of the intent's domains"),
    _share("devices_in_item", "Share of the intent's device types that the item has a word of"),
    *(_flag(f"type_bucket_{n}", f"The item's type hashes to {n} of {TYPE_BUCKETS}") for n in range(TYPE_BUCKETS)),
    *(
        _flag(f"intent_bucket_{n}", f"The intent's type hashes to {n} of {INTENT_BUCKETS}")
        for n in range(INTENT_BUCKETS)
    ),
)
"""The layout: place, name, range and meaning."""


def layout_hash() -> str:
    """Return the layout's version and a hash of its names, in order: weights of one layout do not fit another."""
    names = blake2b("\n".join(f.name for f in FEATURES).encode(), digest_size=4)
    return f"{LAYOUT_VERSION}-{names.hexdigest()}"


_ALL = frozenset(words("all every everything both each whole entire"))
_NEGATION = frozenset(words("not no none never nothing don't doesn't didn't isn't aren't wasn't won't without"))
_APOLOGY = frozenset(words("sorry apologize apologise apology unfortunately afraid regret oops"))
_FAILURE = frozenset(
    words(
        "unable cannot can't couldn't error fail failed failure invalid unknown unavailable unsupported problem issue"
    )
)
_ASK_BACK = frozenset(words("which specify clarify clarification please confirm more additional"))
_OFFER = frozenset(words("would could should may might perhaps like"))
_OPPOSITES = (
    "on off|open close|lock unlock|start stop|play pause|pause unpause|pause resume|up down|raise lower|"
    "increase decrease|enable disable|mute unmute|arm disarm|show hide|add remove|next previous|in out|high low|max min"
)


def _opposites() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _OPPOSITES.split("|"):
        one, other = words(pair)
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


_OPPOSITE = _opposites()


@lru_cache(maxsize=4096)
def _bucket(text: str, count: int) -> tuple[float, ...]:
    """Return `count` flags, of which the one that the text hashes to is set."""
    place = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") % count
    return tuple(float(n == place) for n in range(count))


_LOG_OF_MOST = log(2000)


def log_share(count: float) -> float:
    """Return a count on a scale that tells long texts apart, too."""
    return min(log1p(count) / _LOG_OF_MOST, 1.0)


def _ratio(count: int, most: int) -> float:
    return min(count / most, 1.0)


def _covered(wanted: frozenset[str], there: frozenset[str]) -> float:
    """Return the share of `wanted` that is `there`; 0 where nothing is wanted."""
    return len(wanted & there) / len(wanted) if wanted else 0.0


class FeatureContext:
    """What all items of an experience share, worked out once."""

    def __init__(self, experience: Experience, items: Sequence[Item] | None = None) -> None:
        """Work out what is shared; `items` are the experience's, where the caller has them."""
        self._experience = experience
        self._items = items_of(experience) if items is None else items
        found = words(experience.query)
        self._query = frozenset(found)
        self._pairs = frozenset(pairwise(found))
        self._numbers = frozenset(word for word in found if word.isdigit())
        self._opposed = self._query & _OPPOSITE.keys()
        self._kinds = [widget.widget_type for widget in experience.widget_plan]
        intent = experience.intent
        self._domains = frozenset(word for domain in intent.domains for word in words(domain))
        self._devices = {device.type: frozenset(words(device.type)) for device in intent.devices}
        answer = frozenset(word for item in self._items for word in words(item.text))
        self._shared = (
            _ratio(len(found), 32),
            float(bool(self._query & _ALL)),
        )
        self._answer = _covered(self._query, answer)
        self._plan = (float(not self._kinds), _ratio(len(self._kinds), 8), float(experience.voice_reply is not None))

    def of(self, item: Item) -> Floats:
        """Return the 45 features of one of the experience's items."""
        text = item.text[:MAX_TEXT_CHARACTERS]
        found = words(text)
        there = frozenset(found)
        values = [*self._shared, *self._content(item, text, found, there), *self._overlap(found, there)]
        values += [*self._plan, *self._widget(item), *self._intent(there)]
        values += [*_bucket(item.kind, TYPE_BUCKETS), *_bucket(self._experience.intent.type, INTENT_BUCKETS)]
        return np.array(values, dtype=np.float32)

    def _content(self, item: Item, text: str, found: list[str], there: frozenset[str]) -> tuple[float, ...]:
        lines = text.count("\n") + text.count("\\n") + text.count("- ")
        return (
            float(item.item_type == "voice"),
            float(not item.body.strip()),
            _ratio(len(found), 64),
            float("?" in text),
            *(float(not there.isdisjoint(group)) for group in (_NEGATION, _APOLOGY, _FAILURE, _ASK_BACK, _OFFER)),
            float(any(map(str.isdigit, there))),
            _ratio(lines, 8),
            log_share(len(found)),
            log_share(lines),
        )

    def _overlap(self, found: list[str], there: frozenset[str]) -> tuple[float, ...]:
        pairs = frozenset(pairwise(found))
        against = any(_OPPOSITE[word] & there for word in self._opposed - there)
        return (
            _covered(self._query, there),
            _covered(there, self._query),
            len(self._pairs & pairs) / len(self._pairs) if self._pairs else 0.0,
            _covered(self._numbers, there) if self._numbers else 1.0,
            self._answer,
            float(against),
            float(bool(self._opposed & there)),
        )

    def _widget(self, item: Item) -> tuple[float, ...]:
        widget = item.widget
        params = (widget.params if widget else None) or {}
        return (
            _ratio(item.position, 8),
            float(widget is not None and self._kinds.count(widget.widget_type) > 1),
            float(bool(params)),
            _ratio(len(params), 8),
            _covered(frozenset(words(item.body)), self._query) if widget else 0.0,
        )

    def _intent(self, there: frozenset[str]) -> tuple[float, ...]:
        intent = self._experience.intent
        named = sum(bool(device & there) for device in self._devices.values())
        return (
            _ratio(len(intent.domains), 8),
            _ratio(len(intent.devices), 8),
            float(bool(self._domains & self._query)),
            float(bool(self._domains & there)),
            named / len(self._devices) if self._devices else 0.0,
        )


def structured_features(experience: Experience, item: Item) -> Floats:
    """Return the 45 features of an item of the experience, each in [0, 1]."""
    return FeatureContext(experience).of(item)


def layout_page() -> str:
    """Return `docs/features.md`: the layout as a Markdown table."""
    lines = [
        "# The 45 structured features of an item",
        "",
        "Generated from `trainers/features.py` by `python -m trainers.features > docs/features.md`; a test compares.",
        "Words are compared without case and common endings. A flag is 0 or 1.",
        "",
        "| place | name | range | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| {n} | `{f.name}` | {f.range} | {f.meaning} |" for n, f in enumerate(FEATURES)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(layout_page())
