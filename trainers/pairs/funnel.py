"""The pair funnel: how many answers came in, by kind, and where each one went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypedDict, TypeVar

from schemas.events import PairKind
from schemas.settings import PairsSettings
from trainers.pairs.compare import close_or_same
from trainers.pairs.entry import EVICTED
from trainers.pairs.index import Group, SideIndex
from trainers.pairs.rules import DROP_REASONS, REJECT_REASONS, Side, devices_disagree

KINDS: tuple[PairKind, ...] = ("widget", "voice")


class KindFunnel(TypedDict):
    """The way of one kind's answers; `answers` is the sum of `dropped`, `waiting` and `paired`.

    `reward_changed_after_pairing` counts those of the paired ones that were later judged otherwise, however often.
    """

    answers: int
    dropped: dict[str, int]
    waiting: dict[Side, int]
    paired: int
    pairs: int
    reward_changed_after_pairing: int
    comparisons: dict[str, int]


Funnel = dict[PairKind, KindFunnel]
_Name = TypeVar("_Name", bound=str)


def empty_funnel() -> Funnel:
    """Return a funnel that nothing went through, every reason named."""
    return {kind: _empty_kind() for kind in KINDS}


def _empty_kind() -> KindFunnel:
    return {
        "answers": 0,
        "dropped": dict.fromkeys((*DROP_REASONS, EVICTED), 0),
        "waiting": {"chosen": 0, "rejected": 0},
        "paired": 0,
        "pairs": 0,
        "reward_changed_after_pairing": 0,
        "comparisons": dict.fromkeys((*REJECT_REASONS, "possible"), 0),
    }


def merge(funnels: Iterable[Funnel]) -> Funnel:
    """Return the funnel of several partitions together; waiting answers of two partitions differ in intent."""
    total = empty_funnel()
    for funnel in funnels:
        for kind in KINDS:
            into, part = total[kind], funnel[kind]
            into["answers"] += part["answers"]
            into["paired"] += part["paired"]
            into["pairs"] += part["pairs"]
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


def compare_bucket(chosen: SideIndex, rejected: SideIndex, settings: PairsSettings) -> Counter[str]:
    """Count which rule rejects each of the comparisons between the two sides of one bucket.

    What no rule rejects is `possible`: only waiting answers that were decided under other settings.
    """
    counts: Counter[str] = Counter()
    for (domains, devices), group in chosen.groups.items():
        for (other_domains, other_devices), other in rejected.groups.items():
            if domains.isdisjoint(other_domains):
                counts["no_shared_domain"] += len(group.ranked) * len(other.ranked)
            elif devices_disagree(devices, other_devices):
                counts["no_shared_device"] += len(group.ranked) * len(other.ranked)
            else:
                counts.update(_compare_groups(chosen, group, rejected, other, settings))
    return counts


def _compare_groups(
    chosen: SideIndex, group: Group, rejected: SideIndex, other: Group, settings: PairsSettings
) -> Counter[str]:
    good = [chosen.candidates[place[-1]] for place in group.ranked]
    bad = [rejected.candidates[place[-1]] for place in other.ranked]
    small, same, both = close_or_same(good, bad, settings)
    fit = len(good) * len(bad) - small - same + both
    return Counter(small_gap=small, same_answer=same - both, possible=fit)


def _add(into: dict[_Name, int], part: Mapping[_Name, int]) -> None:
    for name, count in part.items():
        into[name] = into.get(name, 0) + count
