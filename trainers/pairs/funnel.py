"""The pair funnel: how many answers came in, by kind, and where each one went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict, TypeVar

from schemas.events import PairKind
from schemas.settings import PairsSettings
from trainers.pairs.candidates import Bucket
from trainers.pairs.compare import close_or_same
from trainers.pairs.entry import EVICTED, PAIRED, UNPAIRED, Entry
from trainers.pairs.index import Candidate, Group, SideIndex
from trainers.pairs.rules import DROP_REASONS, REJECT_REASONS, SIDES, Side, devices_disagree

KINDS: tuple[PairKind, ...] = ("widget", "voice")

WITHIN_PATIENCE = "within_patience"
"""Comparisons of answers to two queries that no rule rejects, one of which still waits for the same query."""


class KindFunnel(TypedDict):
    """The way of one kind's answers; `answers` is the sum of `dropped`, `waiting`, `paired` and `unpaired`.

    `reward_changed_after_pairing` counts those of the paired and unpaired ones that were judged otherwise later,
    however often.
    """

    answers: int
    dropped: dict[str, int]
    waiting: dict[Side, int]
    waiting_for_same_query: int
    """How many of those that wait may not be had by an answer to another query yet."""
    paired: int
    pairs: int
    unpaired: int
    """How many train by themselves."""
    reward_changed_after_pairing: int
    comparisons: dict[str, int]


Funnel = dict[PairKind, KindFunnel]
_Name = TypeVar("_Name", bound=str)


class Tally:
    """Counts of a partition's answers, kept as they change."""

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[PairKind, str]] = Counter()
        self._pairs: Counter[PairKind] = Counter()
        self._changed: Counter[PairKind] = Counter()

    def move(self, kind: PairKind, before: Entry | None, entry: Entry) -> None:
        """Count an answer that is new, or that something about has changed."""
        if before is None or before.outcome != entry.outcome:
            self._outcomes[kind, entry.outcome] += 1
            self._pairs[kind] += entry.partner is not None
            if before is not None:
                self._outcomes[kind, before.outcome] -= 1
        if entry.changes and not (before and before.changes):
            self._changed[kind] += 1

    def funnel(self, waiting: Mapping[Bucket, SideIndex], settings: PairsSettings, now: float) -> Funnel:
        """Return the funnel at a broker time, of which answers wait being given."""
        funnel = empty_funnel()
        for kind in KINDS:
            counts = funnel[kind]
            for reason in counts["dropped"]:
                counts["dropped"][reason] = self._outcomes[kind, reason]
            counts["answers"] = sum(count for (of, _), count in self._outcomes.items() if of == kind)
            counts["paired"], counts["pairs"] = self._outcomes[kind, PAIRED], self._pairs[kind]
            counts["unpaired"] = self._outcomes[kind, UNPAIRED]
            counts["reward_changed_after_pairing"] = self._changed[kind]
            for intent_type in {bucket[1] for bucket in waiting if bucket[0] == kind}:
                chosen, rejected = (waiting.get((kind, intent_type, side)) for side in SIDES)
                _add_waiting(counts, chosen, rejected, settings, now)
            count_intents(counts)
        return funnel


def empty_funnel() -> Funnel:
    """Return a funnel that nothing went through, every reason named."""
    return {kind: _empty_kind() for kind in KINDS}


def _empty_kind() -> KindFunnel:
    return {
        "answers": 0,
        "dropped": dict.fromkeys((*DROP_REASONS, EVICTED), 0),
        "waiting": {"chosen": 0, "rejected": 0},
        "waiting_for_same_query": 0,
        "paired": 0,
        "pairs": 0,
        "unpaired": 0,
        "reward_changed_after_pairing": 0,
        "comparisons": dict.fromkeys((*REJECT_REASONS, WITHIN_PATIENCE, "possible"), 0),
    }


def merge(funnels: Iterable[Funnel]) -> Funnel:
    """Return the funnel of several partitions together; waiting answers of two partitions differ in intent."""
    total = empty_funnel()
    for funnel in funnels:
        for kind in KINDS:
            into, part = total[kind], funnel[kind]
            for name in ("answers", "waiting_for_same_query", "paired", "pairs", "unpaired"):
                into[name] += part[name]
            into["reward_changed_after_pairing"] += part["reward_changed_after_pairing"]
            _add(into["dropped"], part["dropped"])
            _add(into["waiting"], part["waiting"])
            _add(into["comparisons"], part["comparisons"])
    for kind in KINDS:
        count_intents(total[kind])
    return total


def count_intents(funnel: KindFunnel) -> None:
    """Set the comparisons that differ in intent: all that are possible between the sides, less those within buckets."""
    comparisons = funnel["comparisons"]
    comparisons["different_intent"] = 0
    possible = funnel["waiting"]["chosen"] * funnel["waiting"]["rejected"]
    comparisons["different_intent"] = possible - sum(comparisons.values())


def _add_waiting(
    funnel: KindFunnel, chosen: SideIndex | None, rejected: SideIndex | None, settings: PairsSettings, now: float
) -> None:
    """Add who waits in one bucket, and which rule rejects each of the comparisons between its two sides.

    What no rule rejects is `possible`: until the next tick alone.
    """
    until = now - settings.patience
    for side in (chosen, rejected):
        if side is not None:
            funnel["waiting"][side.side] += len(side)
            funnel["waiting_for_same_query"] += sum(one.since > until for one in side.candidates.values())
    if chosen is None or rejected is None:
        return
    counts = funnel["comparisons"]
    others = [(signature, _members(rejected, group)) for signature, group in rejected.groups.items()]
    for (domains, devices), group in chosen.groups.items():
        good = _members(chosen, group)
        for (other_domains, other_devices), bad in others:
            if domains.isdisjoint(other_domains):
                counts["no_shared_domain"] += len(good) * len(bad)
            elif devices_disagree(devices, other_devices):
                counts["no_shared_device"] += len(good) * len(bad)
            else:
                small, same, both = close_or_same(good, bad, settings)
                fit = len(good) * len(bad) - small - same + both
                possible = _fit([a for a in good if a.since <= until], [b for b in bad if b.since <= until], settings)
                _add(
                    counts,
                    {
                        "small_gap": small,
                        "same_answer": same - both,
                        WITHIN_PATIENCE: fit - possible,
                        "possible": possible,
                    },
                )


def _members(index: SideIndex, group: Group) -> list[Candidate]:
    return [index.candidates[place[-1]] for place in group.ranked]


def _fit(good: Sequence[Candidate], bad: Sequence[Candidate], settings: PairsSettings) -> int:
    small, same, both = close_or_same(good, bad, settings)
    return len(good) * len(bad) - small - same + both


def _add(into: dict[_Name, int], part: Mapping[_Name, int]) -> None:
    for name, count in part.items():
        into[name] = into.get(name, 0) + count
