"""What a run led to, feedback by feedback, and whether SIGKILLs changed it: lost, learned twice, joined, gone."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from streams import topics

_EXPERIENCES, _FEEDBACKS = re.compile(rb"answer-\d+"), re.compile(rb"judgement-\d+")
"""The ids of `benchmarks.load`, which nothing else in an output looks like, however it is written."""


class Effect(NamedTuple):
    """One record about a feedback."""

    at: float
    """The record's time in epoch seconds."""
    feedback_id: str
    step: int | None
    """Number of the step that it was learned in; None where it was held out, or where nothing learns."""


def experiences_in(value: bytes) -> set[bytes]:
    """Return the ids of the experiences that a record is about."""
    return set(_EXPERIENCES.findall(value))


def feedbacks_in(value: bytes) -> set[bytes]:
    """Return the ids of the feedbacks that a record is about; one of our log has many."""
    return set(_FEEDBACKS.findall(value))


def effects_in(topic: str, at: float, value: bytes) -> Iterator[Effect]:
    """Yield what a record of `topic`, named without prefix, says of feedback."""
    if topic != topics.SCORE_UPDATES:
        yield from (Effect(at, found.decode(), None) for found in feedbacks_in(value))
        return
    update = orjson.loads(value)
    if (feedback_id := update.get("feedback_id")) is not None:
        learned = update["reason"] == "feedback_learned"
        yield Effect(at, feedback_id, update["scorer_step"] if learned else None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the feedbacks of a run with kills."""

    feedbacks: int
    kills: int
    lost: int
    """Nothing was published about them."""
    twice: int
    """Learned in two steps that both count; where nothing learns, published more than once."""
    forgotten: int
    """Learned, and not in what the learner was in the end: a restart went back before them."""
    joined: int
    """First published about after a kill, with experiences that all came before it."""
    to_join: int
    """Not published about before the first kill: as many should have been joined."""
    deaths: int = 0
    """How often the engine ended by itself, and had to be started again."""


def check(
    published: Iterable[str],
    effects: Sequence[Effect],
    kills: Sequence[float],
    learns: bool,
    deaths: Sequence[float] = (),
) -> Outcome:
    """Compare what was published with what came of it.

    Args:
        published: ids of all feedbacks.
        effects: all records about them, of all lives of the engine.
        kills: times of the kills, in epoch seconds.
        learns: whether the engine learns.
        deaths: times at which it ended by itself.
    """
    ids = set(published)
    first: dict[str, float] = {}
    for effect in sorted(effects, key=lambda effect: effect.at):
        first.setdefault(effect.feedback_id, effect.at)
    after = {name for name in ids if first.get(name, kills[0]) >= kills[0]}
    if learns:
        kept = Counter(name for _, name in _kept(effects, sorted((*kills, *deaths))))
        twice = sum(count > 1 for count in kept.values())
        forgotten = len({effect.feedback_id for effect in effects if effect.step is not None} - kept.keys())
    else:
        twice, forgotten = len(effects) - len(first), 0
    return Outcome(
        feedbacks=len(ids),
        kills=len(kills),
        lost=len(ids - first.keys()),
        twice=twice,
        forgotten=forgotten,
        joined=len(after & first.keys()),
        to_join=len(after),
        deaths=len(deaths),
    )


def _kept(effects: Iterable[Effect], ends: Sequence[float]) -> set[tuple[int, str]]:
    """Return the steps, each with a feedback, that are in what the learner was in the end.

    Steps only grow within a life. A life that takes a step which there was before, with a feedback that this did not
    have, has gone back: what came from that step on is gone, unless this life tells the same of it again.
    """
    lives: list[set[tuple[int, str]]] = [set() for _ in range(len(ends) + 1)]
    for effect in effects:
        if effect.step is not None:
            lives[bisect_right(ends, effect.at)].add((effect.step, effect.feedback_id))
    line: set[tuple[int, str]] = set()
    for life in lives:
        top = max((step for step, _ in line), default=0)
        if again := [step for step, _ in life - line if step <= top]:
            line = {one for one in line if one[0] < min(again) or one in life}
        line |= life
    return line
