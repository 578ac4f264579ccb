"""The waiting candidates of one kind, intent type and side, arranged so that the best partner is found quickly."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.rules import Side, devices_disagree, gap_is_small, substance

Signature = tuple[frozenset[str], frozenset[str]]
"""Domains and device types: answers that share both are compared with others alike."""

_Ranked = list[tuple[float, int, str]]
"""Most extreme reward first, then the one that has waited longest: (rank, offset, experience id)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that may be paired, with what comparisons need."""

    answer: Answer
    reward: float
    offset: int
    substance: bytes
    signature: Signature

    @classmethod
    def of(cls, answer: Answer, reward: float, offset: int) -> Self:
        """Prepare an answer for comparisons."""
        signature = (frozenset(answer.domains), frozenset(answer.device_types))
        return cls(answer, reward, offset, substance(answer.content), signature)


@dataclass(slots=True)
class Group:
    """Candidates of one signature."""

    ranked: _Ranked = field(default_factory=list)
    by_query: dict[str, _Ranked] = field(default_factory=dict)


class SideIndex:
    """Candidates of one side of a bucket, oldest first, grouped by signature."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.candidates: dict[str, Candidate] = {}
        self.groups: dict[Signature, Group] = {}
        self._in_order = True

    def __len__(self) -> int:
        return len(self.candidates)

    def add(self, candidate: Candidate) -> None:
        """Take in a candidate whose experience is not in yet."""
        if self.candidates:
            self._in_order &= next(reversed(self.candidates.values())).offset < candidate.offset
        answer = candidate.answer
        self.candidates[answer.experience_id] = candidate
        group = self.groups.setdefault(candidate.signature, Group())
        place = self._place(candidate)
        insort(group.ranked, place)
        insort(group.by_query.setdefault(answer.query, []), place)

    def remove(self, experience_id: str) -> None:
        """Give up a candidate."""
        candidate = self.candidates.pop(experience_id)
        group = self.groups[candidate.signature]
        place = self._place(candidate)
        same_query = group.by_query[candidate.answer.query]
        for ranked in (group.ranked, same_query):
            del ranked[bisect_left(ranked, place)]
        if not same_query:
            del group.by_query[candidate.answer.query]
        if not group.ranked:
            del self.groups[candidate.signature]

    def oldest(self) -> str:
        """Return the experience that has waited longest."""
        if not self._in_order:
            self.candidates = dict(sorted(self.candidates.items(), key=lambda item: item[1].offset))
            self._in_order = True
        return next(iter(self.candidates))

    def best_partner(self, other: Candidate, settings: PairsSettings) -> Candidate | None:
        """Return the partner for a candidate of the other side: same query, then shared domains, gap, waiting time."""
        best: tuple[bool, int, float, int, str] | None = None
        for (domains, devices), group in self.groups.items():
            shared = len(domains & other.signature[0])
            if not shared or devices_disagree(devices, other.signature[1]):
                continue
            for other_query, ranked in ((False, group.by_query.get(other.answer.query, [])), (True, group.ranked)):
                found = next(self._acceptable(ranked, other, settings), None)
                if found is not None:
                    place = (other_query, -shared, *found)
                    best = place if best is None else min(best, place)
                    break
        return None if best is None else self.candidates[best[-1]]

    def _acceptable(
        self, ranked: _Ranked, other: Candidate, settings: PairsSettings
    ) -> Iterator[tuple[float, int, str]]:
        for place in ranked:
            candidate = self.candidates[place[-1]]
            high, low = (candidate, other) if self.side == "chosen" else (other, candidate)
            if gap_is_small(high.reward, low.reward, settings):
                return
            if candidate.substance != other.substance:
                yield place

    def _place(self, candidate: Candidate) -> tuple[float, int, str]:
        rank = -candidate.reward if self.side == "chosen" else candidate.reward
        return rank, candidate.offset, candidate.answer.experience_id
