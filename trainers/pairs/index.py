"""The waiting candidates of one kind, intent type and side, arranged so that the best partner is found quickly."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.rules import Side, devices_disagree, gap_is_small, substance

Signature = tuple[frozenset[str], frozenset[str]]
"""Domains and device types: answers that share both are compared with others alike."""

EVER = math.inf
"""Later than any time."""

_Place = tuple[float, int, bytes]
"""Most extreme reward first, then the one that has waited longest: (rank, offset, table key)."""


class Candidate(NamedTuple):
    """What comparisons need of an answer that may be paired."""

    key: bytes
    """Its table key."""
    query: str
    reward: float
    offset: int
    since: float
    """Broker time in epoch seconds from which on it has waited."""
    substance: bytes
    signature: Signature

    @classmethod
    def of(cls, key: bytes, answer: Answer, reward: float, offset: int, since: float) -> Self:
        """Prepare an answer for comparisons."""
        signature = (frozenset(answer.domains), frozenset(answer.device_types))
        return cls(key, answer.query, reward, offset, since, substance(answer.content), signature)


def rank_of_pair(chosen: Candidate, rejected: Candidate) -> tuple[float, ...]:
    """Return where a pair stands among others, the best one lowest; between candidates no two are equal.

    Seen from either of the two, it is the order in which `SideIndex.best_partner` prefers the other.
    """
    return (
        chosen.query != rejected.query,
        -len(chosen.signature[0] & rejected.signature[0]),
        rejected.reward - chosen.reward,
        -chosen.reward,
        chosen.offset,
        rejected.reward,
        rejected.offset,
    )


@dataclass(slots=True)
class Group:
    """Candidates of one signature."""

    ranked: list[_Place] = field(default_factory=list)
    by_query: dict[str, list[_Place]] = field(default_factory=dict)


class SideIndex:
    """Candidates of one side of a bucket, oldest first, grouped by signature."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.candidates: dict[bytes, Candidate] = {}
        self.groups: dict[Signature, Group] = {}
        self._by_domain: dict[str, dict[Signature, Group]] = {}
        self._newest = -1
        self._in_order = True

    def __len__(self) -> int:
        return len(self.candidates)

    def add(self, candidate: Candidate) -> None:
        """Take in a candidate whose key is not in yet."""
        self._in_order &= candidate.offset > self._newest
        self._newest = max(self._newest, candidate.offset)
        self.candidates[candidate.key] = candidate
        group = self.groups.get(candidate.signature)
        if group is None:
            group = self._open_group(candidate.signature)
        place = self._place(candidate)
        insort(group.ranked, place)
        same_query = group.by_query.get(candidate.query)
        if same_query is None:
            group.by_query[candidate.query] = [place]
        else:
            insort(same_query, place)

    def remove(self, key: bytes) -> None:
        """Give up a candidate."""
        candidate = self.candidates.pop(key)
        group = self.groups[candidate.signature]
        place = self._place(candidate)
        same_query = group.by_query[candidate.query]
        for places in (group.ranked, same_query):
            del places[bisect_left(places, place)]
        if not same_query:
            del group.by_query[candidate.query]
        if not group.ranked:
            self._close_group(candidate.signature)

    def oldest(self) -> Candidate:
        """Return the candidate that was judged before all others."""
        if not self._in_order:
            self.candidates = dict(sorted(self.candidates.items(), key=lambda item: item[1].offset))
            self._in_order = True
        return next(iter(self.candidates.values()))

    def best_partner(self, other: Candidate, settings: PairsSettings, until: float | None) -> Candidate | None:
        """Return the partner for a candidate of the other side: same query, then shared domains, gap, waiting time.

        Args:
            other: whom to find a partner for.
            settings: the rules.
            until: who answered another query and has waited since then or longer will do, too; None: nobody.
        """
        best: tuple[bool, int, _Place] | None = None
        other_domains, other_devices = other.signature
        for (domains, devices), group in self._groups_with(other_domains):
            if devices_disagree(devices, other_devices):
                continue
            found = self._first_acceptable(group.by_query.get(other.query, ()), other, settings)
            of_another_query = found is None
            if found is None and until is not None:
                found = self._first_acceptable(group.ranked, other, settings, until)
            if found is not None:
                place = (of_another_query, -len(domains & other_domains), found)
                best = place if best is None else min(best, place)
        return None if best is None else self.candidates[best[2][2]]

    def _groups_with(self, domains: frozenset[str]) -> Iterable[tuple[Signature, Group]]:
        found = [groups for domain in domains if (groups := self._by_domain.get(domain))]
        if len(found) == 1:
            return found[0].items()
        return {signature: group for groups in found for signature, group in groups.items()}.items()

    def _first_acceptable(
        self, places: Iterable[_Place], other: Candidate, settings: PairsSettings, until: float = EVER
    ) -> _Place | None:
        for place in places:
            candidate = self.candidates[place[2]]
            high, low = (candidate, other) if self.side == "chosen" else (other, candidate)
            if gap_is_small(high.reward, low.reward, settings):
                return None
            if candidate.since <= until and candidate.substance != other.substance:
                return place
        return None

    def _open_group(self, signature: Signature) -> Group:
        group = self.groups[signature] = Group()
        for domain in signature[0]:
            self._by_domain.setdefault(domain, {})[signature] = group
        return group

    def _close_group(self, signature: Signature) -> None:
        del self.groups[signature]
        for domain in signature[0]:
            groups = self._by_domain[domain]
            del groups[signature]
            if not groups:
                del self._by_domain[domain]

    def _place(self, candidate: Candidate) -> _Place:
        rank = -candidate.reward if self.side == "chosen" else candidate.reward
        return rank, candidate.offset, candidate.key
