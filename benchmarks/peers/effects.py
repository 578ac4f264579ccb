"""What a run led to, feedback by feedback, and whether SIGKILLs changed it: lost, learned twice, joined, gone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from streams import topology

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
    if topic != topology.SCORE_UPDATES:
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


def check(published: Iterable[str], effects: Sequence[Effect], kills: Sequence[float], learns: bool) -> Outcome:
    """Compare what was published with what came of it.

    Args:
        published: ids of all feedbacks.
        effects: all records about them, of all lives of the engine.
        kills: times of the kills, in epoch seconds.
        learns: whether the engine learns.
    """
    ids = set(published)
    first: dict[str, float] = {}
    for effect in sorted(effects):
        first.setdefault(effect.feedback_id, effect.at)
    after = {name for name in ids if first.get(name, kills[0]) >= kills[0]}
    if learns:
        kept = _kept(effects)
        twice = sum(len(steps) > 1 for steps in kept.values())
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
    )


def _kept(effects: Iterable[Effect]) -> dict[str, set[int]]:
    """Return the steps of each feedback that are in what the learner was in the end.

    Steps only grow. One that comes again, with a feedback that it did not have, was taken by a learner that had gone
    back: the earlier steps from there on are gone. The same step with the same feedback is a repetition.
    """
    line: list[tuple[int, str]] = []
    in_line: set[tuple[int, str]] = set()
    # Within a millisecond the partitions' order is not known: there the smaller step comes first.
    ordered = sorted((effect.at, effect.step, effect.feedback_id) for effect in effects if effect.step is not None)
    for _, step, feedback_id in ordered:
        if (step, feedback_id) in in_line:
            continue
        if line and step < line[-1][0]:
            while line and line[-1][0] >= step:
                in_line.remove(line.pop())
        line.append((step, feedback_id))
        in_line.add(line[-1])
    kept: dict[str, set[int]] = {}
    for step, feedback_id in line:
        kept.setdefault(feedback_id, set()).add(step)
    return kept
