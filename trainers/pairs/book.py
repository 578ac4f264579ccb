"""Decides which answers are paired, over one partition of the answers topic.

All that must survive is one table key an answer. The order of a decision's writes is part of it: the arriving answer
first, naming its partner, then the partner, then whoever had to leave a full side. After a crash a prefix of the
writes is there; the arriving answer is then delivered again before anything that the table does not know, is known,
makes no pair a second time, and has the rest of its writes made up for.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from schemas.events import PairKind, PreferencePair
from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.entry import EVICTED, PAIRED, WAITING, Entry, experience_of, key_of, kind_of
from trainers.pairs.funnel import KINDS, Funnel, compare_bucket, count_intents, empty_funnel
from trainers.pairs.index import Candidate, SideIndex
from trainers.pairs.rules import DROP_REASONS, Side, drop_reason, make_pair, side_of

Write = tuple[bytes, bytes | None]
Bucket = tuple[PairKind, str, Side]

_OPPOSITE: dict[Side, Side] = {"chosen": "rejected", "rejected": "chosen"}


class Decision(NamedTuple):
    """What one answer leads to: pairs to publish, then table writes to make in this order, none left out."""

    pairs: tuple[PreferencePair, ...]
    writes: tuple[Write, ...]
    outcome: str
    """`waiting`, `paired`, a reason of the funnel, `repeated`, `judged_again` or `reward_changed_after_pairing`."""


class PairBook:
    """The answers of one partition and who is paired with whom.

    It holds the table's values as they are: that is small, and nothing for the garbage collector to walk through.

    Args:
        settings: the rules; an answer that waits is judged by them anew when it is loaded, while one that an
            earlier run dropped stays dropped until it is judged again.
    """

    def __init__(self, settings: PairsSettings) -> None:
        self._settings = settings
        self._values: dict[bytes, bytes] = {}
        self._stale: set[bytes] = set()
        """Keys that other settings made of something else than the table says."""
        self._sides: dict[Bucket, SideIndex] = {}
        self._buckets: dict[bytes, Bucket] = {}
        """Where the candidate of a key is."""
        self._outcomes: Counter[tuple[PairKind, str]] = Counter()
        self._pairs: Counter[PairKind] = Counter()
        self._changed: Counter[PairKind] = Counter()

    def load(self, key: bytes, value: bytes) -> None:
        """Take in one key of the table, in any order.

        Raises:
            ValueError: the value is not a table value of this book.
        """
        entry = Entry.decode(value)
        answer = None if entry.answer is None else Answer.from_json(entry.answer)
        if answer is not None:
            reason = drop_reason(answer, self._settings)
            if entry.outcome == WAITING and reason is not None:
                entry = entry._replace(outcome=reason)
            if reason is not None or (entry.outcome == PAIRED and self._settings.one_to_one):
                entry, answer = entry._replace(answer=None), None
                value = entry.encode()
                self._stale.add(key)
        self._values[key] = value
        self._count(kind_of(key), entry)
        self._changed[kind_of(key)] += entry.changes
        if answer is not None:
            self._index(key, answer, entry.offset)

    def decide(self, answer: Answer, offset: int, encoded: bytes | None = None) -> Decision:
        """Decide one answer.

        Args:
            answer: what was judged.
            offset: where it stands in the input partition.
            encoded: the answer as it was sent; made anew where that is not at hand.
        """
        key = key_of(answer.kind, answer.experience_id)
        value = self._values.get(key)
        known = None if value is None else Entry.decode(value)
        if known is not None and known.offset >= offset:
            return Decision((), self._made_up_for(key, known), "repeated")
        if known is not None and known.outcome == PAIRED:
            return self._judge_again(key, known, answer, offset, encoded)
        reason = drop_reason(answer, self._settings)
        if reason is None:
            return self._seek_partner(key, known, answer, offset, encoded or answer.to_json())
        if known is not None and known.outcome == reason and key not in self._stale:
            # Decided again after a crash, it would come to this again: there is nothing to write.
            return Decision((), (), reason)
        self._withdraw(key)
        return Decision((), (self._put(key, Entry(offset, reason), known),), reason)

    def funnel(self) -> Funnel:
        """Return where every answer of the partition is, and which rule stands between those that wait."""
        funnel = empty_funnel()
        for kind in KINDS:
            counts = funnel[kind]
            for reason in (*DROP_REASONS, EVICTED):
                counts["dropped"][reason] = self._outcomes[kind, reason]
            counts["paired"] = self._outcomes[kind, PAIRED]
            counts["pairs"] = self._pairs[kind]
            counts["reward_changed_after_pairing"] = self._changed[kind]
            counts["answers"] = sum(count for (of, _), count in self._outcomes.items() if of == kind)
        for (kind, intent_type, side), index in self._sides.items():
            waiting = self._waiting(index)
            funnel[kind]["waiting"][side] += len(waiting)
            others = self._sides.get((kind, intent_type, "rejected"))
            if side == "chosen" and others is not None:
                compared = compare_bucket(waiting, self._waiting(others), self._settings)
                for reason, count in compared.items():
                    funnel[kind]["comparisons"][reason] += count
        for kind in KINDS:
            count_intents(funnel[kind])
        return funnel

    def _seek_partner(self, key: bytes, known: Entry | None, answer: Answer, offset: int, encoded: bytes) -> Decision:
        self._withdraw(key)
        candidate, bucket = self._candidate(key, answer, offset)
        partner = self._best_partner(candidate, bucket)
        if partner is None:
            self._enter(candidate, bucket)
            written = self._put(key, Entry(offset, WAITING, answer.reward, answer=encoded), known)
            return Decision((), (written, *self._evict_beyond_bound(bucket)), WAITING)
        pair = make_pair(*((answer, partner) if bucket[2] == "chosen" else (partner, answer)), self._settings)
        kept = None if self._settings.one_to_one else encoded
        if kept is not None:
            self._enter(candidate, bucket)
        written = self._put(key, Entry(offset, PAIRED, answer.reward, partner.experience_id, answer=kept), known)
        taken = self._mark_taken(key_of(partner.kind, partner.experience_id), answer.experience_id)
        return Decision((pair,), (written, *taken, *self._evict_beyond_bound(bucket)), PAIRED)

    def _judge_again(self, key: bytes, known: Entry, answer: Answer, offset: int, encoded: bytes | None) -> Decision:
        changed = answer.reward != known.reward
        outcome = "reward_changed_after_pairing" if changed else "judged_again"
        keep = not self._settings.one_to_one
        if (known.changes or not changed) and not keep and key not in self._stale:
            return Decision((), (), outcome)
        self._withdraw(key)
        bucket = None
        if keep and drop_reason(answer, self._settings) is None:
            bucket = self._index(key, answer, offset)
        kept = None if bucket is None else encoded or answer.to_json()
        written = self._put(key, known._replace(offset=offset, changes=known.changes | changed, answer=kept), known)
        return Decision((), (written, *(() if bucket is None else self._evict_beyond_bound(bucket))), outcome)

    def _made_up_for(self, key: bytes, known: Entry) -> tuple[Write, ...]:
        taken: tuple[Write, ...] = ()
        if known.partner is not None:
            taken = self._mark_taken(key_of(kind_of(key), known.partner), experience_of(key))
        bucket = self._buckets.get(key)
        return taken if bucket is None else (*taken, *self._evict_beyond_bound(bucket))

    def _best_partner(self, candidate: Candidate, bucket: Bucket) -> Answer | None:
        kind, intent_type, side = bucket
        others = self._sides.get((kind, intent_type, _OPPOSITE[side]))
        best = None if others is None else others.best_partner(candidate, self._settings)
        encoded = None if best is None else Entry.decode(self._values[best.key]).answer
        return None if encoded is None else Answer.from_json(encoded)

    def _mark_taken(self, key: bytes, by: str) -> tuple[Write, ...]:
        entry = Entry.decode(self._values[key])
        if entry.outcome == PAIRED:
            return ()
        kept = entry.answer
        if self._settings.one_to_one:
            self._withdraw(key)
            kept = None
        return (self._put(key, entry._replace(outcome=PAIRED, taken_by=by, answer=kept), entry),)

    def _evict_beyond_bound(self, bucket: Bucket) -> tuple[Write, ...]:
        index = self._sides.get(bucket)
        writes = []
        while index is not None and len(index) > self._settings.bucket_size:
            key = index.oldest()
            entry = Entry.decode(self._values[key])
            outcome = EVICTED if entry.outcome == WAITING else entry.outcome
            self._withdraw(key)
            writes.append(self._put(key, entry._replace(outcome=outcome, answer=None), entry))
        return tuple(writes)

    def _waiting(self, index: SideIndex) -> SideIndex:
        if self._settings.one_to_one:
            return index
        waiting = SideIndex(index.side)
        for key, candidate in index.candidates.items():
            if Entry.decode(self._values[key]).outcome == WAITING:
                waiting.add(candidate)
        return waiting

    def _put(self, key: bytes, entry: Entry, before: Entry | None) -> Write:
        value = self._values[key] = entry.encode()
        self._stale.discard(key)
        kind = kind_of(key)
        if before is None or before.outcome != entry.outcome:
            self._count(kind, entry)
            if before is not None:
                self._outcomes[kind, before.outcome] -= 1
        if before is not None and before.changes != entry.changes:
            self._changed[kind] += 1
        return key, value

    def _count(self, kind: PairKind, entry: Entry) -> None:
        self._outcomes[kind, entry.outcome] += 1
        self._pairs[kind] += entry.partner is not None

    def _candidate(self, key: bytes, answer: Answer, offset: int) -> tuple[Candidate, Bucket]:
        side = side_of(answer.reward, self._settings)
        if side is None or answer.reward is None:
            raise ValueError(f"{key!r} is no candidate")
        return Candidate.of(key, answer, answer.reward, offset), (answer.kind, answer.intent_type, side)

    def _index(self, key: bytes, answer: Answer, offset: int) -> Bucket:
        candidate, bucket = self._candidate(key, answer, offset)
        self._enter(candidate, bucket)
        return bucket

    def _enter(self, candidate: Candidate, bucket: Bucket) -> None:
        index = self._sides.get(bucket)
        if index is None:
            index = self._sides[bucket] = SideIndex(bucket[2])
        index.add(candidate)
        self._buckets[candidate.key] = bucket

    def _withdraw(self, key: bytes) -> None:
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            return
        index = self._sides[bucket]
        index.remove(key)
        if not index:
            del self._sides[bucket]
