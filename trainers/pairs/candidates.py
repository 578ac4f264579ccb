"""The candidates of every bucket: who is there, who is the best partner, which pairs are best of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush

from schemas.events import PairKind
from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.index import Candidate, SideIndex, rank_of_pair
from trainers.pairs.rules import Side, side_of

Bucket = tuple[PairKind, str, Side]
"""Kind, intent type and side: a candidate is compared with those of the bucket that differs in the side alone."""

_OPPOSITE: dict[Side, Side] = {"chosen": "rejected", "rejected": "chosen"}


class Candidates:
    """Every answer that may be paired, by table key and by bucket."""

    def __init__(self, settings: PairsSettings) -> None:
        self._settings = settings
        self.sides: dict[Bucket, SideIndex] = {}
        self._bucket_of: dict[bytes, Bucket] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._bucket_of

    def __getitem__(self, key: bytes) -> Candidate:
        return self.sides[self._bucket_of[key]].candidates[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._bucket_of)

    def only(self, holds: Callable[[bytes], bool]) -> Candidates:
        """Return those of whose key this holds."""
        some = Candidates(self._settings)
        for key in filter(holds, self):
            some.add(self[key], self._bucket_of[key])
        return some

    def prepare(self, key: bytes, answer: Answer, offset: int, since: float) -> tuple[Candidate, Bucket]:
        """Return what comparisons need of an answer, and where it belongs.

        Raises:
            ValueError: the answer is on neither side.
        """
        side = side_of(answer.reward, self._settings)
        if side is None or answer.reward is None:
            raise ValueError(f"{key!r} is no candidate")
        return Candidate.of(key, answer, answer.reward, offset, since), (answer.kind, answer.intent_type, side)

    def add(self, candidate: Candidate, bucket: Bucket) -> None:
        """Take in a candidate whose key is not in yet."""
        index = self.sides.get(bucket)
        if index is None:
            index = self.sides[bucket] = SideIndex(bucket[2])
        index.add(candidate)
        self._bucket_of[candidate.key] = bucket

    def remove(self, key: bytes) -> None:
        """Give up a candidate, where it is one."""
        bucket = self._bucket_of.pop(key, None)
        if bucket is None:
            return
        index = self.sides[bucket]
        index.remove(key)
        if not index:
            del self.sides[bucket]

    def one_too_many(self, bucket: Bucket) -> Candidate | None:
        """Return the oldest of a side that has more than it may, else None."""
        index = self.sides.get(bucket)
        return None if index is None or len(index) <= self._settings.bucket_size else index.oldest()

    def best_partner(self, candidate: Candidate, bucket: Bucket, until: float | None) -> Candidate | None:
        """Return the best partner on the other side; `until` is that of `SideIndex.best_partner`."""
        kind, intent_type, side = bucket
        others = self.sides.get((kind, intent_type, _OPPOSITE[side]))
        return None if others is None else others.best_partner(candidate, self._settings, until)

    def best_pairs(
        self, seekers: Iterable[bytes], until: float, seeks: Callable[[bytes], bool]
    ) -> Iterator[tuple[Candidate, Candidate]]:
        """Yield the best pair with a seeker, then the best of what is left, and so on; chosen first.

        Which pairs these are does not depend on which of the two seeks, so that a part of them, made once more from
        what is left, gives the rest.

        Args:
            seekers: keys of candidates.
            until: who has waited since then or longer will do as a partner.
            seeks: whether a seeker still has none; asked after each pair, when the caller has removed who is used.
        """
        queue: list[tuple[tuple[float, ...], Candidate, Candidate, bytes]] = []

        def seek(key: bytes) -> None:
            candidate, bucket = self[key], self._bucket_of[key]
            partner = self.best_partner(candidate, bucket, until)
            if partner is not None:
                pair = (candidate, partner) if bucket[2] == "chosen" else (partner, candidate)
                heappush(queue, (rank_of_pair(*pair), *pair, key))

        for key in seekers:
            seek(key)
        while queue:
            _, chosen, rejected, seeker = heappop(queue)
            if not seeks(seeker):
                continue
            if chosen.key in self and rejected.key in self:
                yield chosen, rejected
            else:
                seek(seeker)
