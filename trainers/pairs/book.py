"""Decides which answers are paired, over one partition of the answers topic.

All that must survive is one table key an answer. The order of a decision's writes is part of it: the arriving answer
first, naming its partner, then the partner, then whoever had to leave a full side. After a crash a prefix of the
writes is there; the arriving answer is then delivered again before anything that the table does not know, is known,
makes no pair a second time, and has the rest of its writes made up for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from schemas.events import PairKind, PreferencePair
from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.entry import EVICTED, PAIRED, WAITING, Entry, key_of
from trainers.pairs.funnel import KINDS, Funnel, compare_bucket, count_intents, empty_funnel
from trainers.pairs.index import Candidate, SideIndex
from trainers.pairs.rules import DROP_REASONS, Side, drop_reason, make_pair, side_of

Write = tuple[bytes, bytes | None]
Bucket = tuple[PairKind, str, Side]

_OPPOSITE: dict[Side, Side] = {"chosen": "rejected", "rejected": "chosen"}


@dataclass(frozen=True, slots=True)
class Decision:
    """What one answer leads to: pairs to publish, then table writes to make in this order, none left out."""

    pairs: tuple[PreferencePair, ...]
    writes: tuple[Write, ...]
    outcome: str
    """`waiting`, `paired`, a reason of the funnel, `repeated`, `judged_again` or `reward_changed_after_pairing`."""


class PairBook:
    """The answers of one partition and who is paired with whom.

    Args:
        settings: the rules; an answer that waits is judged by them anew when it is loaded, while one that an
            earlier run dropped stays dropped until it is judged again.
    """

    def __init__(self, settings: PairsSettings) -> None:
        self._settings = settings
        self._entries: dict[bytes, Entry] = {}
        self._sides: dict[Bucket, SideIndex] = {}
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._pairs: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()

    def load(self, key: bytes, value: bytes) -> None:
        """Take in one key of the table, in any order.

        Raises:
            ValueError: the value is not a table value of this book.
        """
        entry = Entry.decode(value)
        if entry.answer is not None:
            reason = drop_reason(entry.answer, self._settings)
            if entry.outcome == WAITING and reason is not None:
                entry = replace(entry, outcome=reason)
            if reason is not None or (entry.outcome == PAIRED and self._settings.one_to_one):
                entry = replace(entry, answer=None)
        self._remember(key, entry)

    def decide(self, answer: Answer, offset: int) -> Decision:
        """Decide one answer, which stands at `offset` of the input partition."""
        key = key_of(answer.kind, answer.experience_id)
        known = self._entries.get(key)
        if known is not None and known.offset >= offset:
            return Decision((), self._made_up_for(answer.kind, key, known), "repeated")
        reason = drop_reason(answer, self._settings)
        if known is not None and known.outcome == PAIRED:
            return self._judge_again(answer, offset, known, reason)
        if reason is not None:
            return Decision((), (self._put(key, Entry(offset, reason, answer.reward)),), reason)
        return self._seek_partner(answer, offset)

    def funnel(self) -> Funnel:
        """Return where every answer of the partition is, and which rule stands between those that wait."""
        funnel = empty_funnel()
        for kind in KINDS:
            counts = funnel[kind]
            for reason in (*DROP_REASONS, EVICTED):
                counts["dropped"][reason] = self._outcomes[kind, reason]
            counts["paired"] = self._outcomes[kind, PAIRED]
            counts["pairs"] = self._pairs[kind]
            counts["reward_changed_after_pairing"] = self._changes[kind]
            counts["answers"] = sum(count for (of, _), count in self._outcomes.items() if of == kind)
        for (kind, intent_type, side), index in self._sides.items():
            waiting = self._waiting(kind, index)
            funnel[kind]["waiting"][side] += len(waiting)
            others = self._sides.get((kind, intent_type, "rejected"))
            if side == "chosen" and others is not None:
                compared = compare_bucket(waiting, self._waiting(kind, others), self._settings)
                for reason, count in compared.items():
                    funnel[kind]["comparisons"][reason] += count
        for kind in KINDS:
            count_intents(funnel[kind])
        return funnel

    def _seek_partner(self, answer: Answer, offset: int) -> Decision:
        key = key_of(answer.kind, answer.experience_id)
        self._forget(key)
        partner = self._best_partner(answer, offset)
        if partner is None:
            written = self._put(key, Entry(offset, WAITING, answer.reward, answer=answer))
            return Decision((), (written, *self._evict_beyond_bound(answer)), WAITING)
        chosen, rejected = (
            (answer, partner) if side_of(answer.reward, self._settings) == "chosen" else (partner, answer)
        )
        kept = None if self._settings.one_to_one else answer
        written = self._put(key, Entry(offset, PAIRED, answer.reward, partner.experience_id, answer=kept))
        writes = (written, *self._mark_taken(partner.kind, partner.experience_id, answer.experience_id))
        return Decision(
            (make_pair(chosen, rejected, self._settings),), (*writes, *self._evict_beyond_bound(answer)), PAIRED
        )

    def _judge_again(self, answer: Answer, offset: int, known: Entry, reason: str | None) -> Decision:
        changed = answer.reward != known.reward
        kept = None if self._settings.one_to_one or reason is not None else answer
        entry = replace(known, offset=offset, reward=answer.reward, changes=known.changes + changed, answer=kept)
        written = self._put(key_of(answer.kind, answer.experience_id), entry)
        outcome = "reward_changed_after_pairing" if changed else "judged_again"
        return Decision((), (written, *self._evict_beyond_bound(answer)), outcome)

    def _made_up_for(self, kind: PairKind, key: bytes, known: Entry) -> tuple[Write, ...]:
        taken = () if known.partner is None else self._mark_taken(kind, known.partner, _experience_of(key))
        return taken if known.answer is None else (*taken, *self._evict_beyond_bound(known.answer))

    def _best_partner(self, answer: Answer, offset: int) -> Answer | None:
        side = side_of(answer.reward, self._settings)
        if side is None or answer.reward is None:
            return None
        others = self._sides.get((answer.kind, answer.intent_type, _OPPOSITE[side]))
        if others is None:
            return None
        best = others.best_partner(Candidate.of(answer, answer.reward, offset), self._settings)
        return None if best is None else best.answer

    def _mark_taken(self, kind: PairKind, experience_id: str, by: str) -> tuple[Write, ...]:
        key = key_of(kind, experience_id)
        entry = self._entries[key]
        if entry.outcome == PAIRED:
            return ()
        kept = None if self._settings.one_to_one else entry.answer
        return (self._put(key, replace(entry, outcome=PAIRED, taken_by=by, answer=kept)),)

    def _evict_beyond_bound(self, answer: Answer) -> tuple[Write, ...]:
        side = side_of(answer.reward, self._settings)
        index = None if side is None else self._sides.get((answer.kind, answer.intent_type, side))
        writes = []
        while index is not None and len(index) > self._settings.bucket_size:
            key = key_of(answer.kind, index.oldest())
            entry = self._entries[key]
            outcome = EVICTED if entry.outcome == WAITING else entry.outcome
            writes.append(self._put(key, replace(entry, outcome=outcome, answer=None)))
        return tuple(writes)

    def _waiting(self, kind: PairKind, index: SideIndex) -> SideIndex:
        if self._settings.one_to_one:
            return index
        waiting = SideIndex(index.side)
        for experience_id, candidate in index.candidates.items():
            if self._entries[key_of(kind, experience_id)].outcome == WAITING:
                waiting.add(candidate)
        return waiting

    def _put(self, key: bytes, entry: Entry) -> Write:
        self._remember(key, entry)
        return key, entry.encode()

    def _remember(self, key: bytes, entry: Entry) -> None:
        self._forget(key)
        self._entries[key] = entry
        self._count(key, entry, 1)
        bucket = self._bucket(entry)
        if bucket is not None and entry.answer is not None and entry.answer.reward is not None:
            candidate = Candidate.of(entry.answer, entry.answer.reward, entry.offset)
            self._sides.setdefault(bucket, SideIndex(bucket[2])).add(candidate)

    def _forget(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._count(key, entry, -1)
        bucket = self._bucket(entry)
        if bucket is not None:
            self._sides[bucket].remove(_experience_of(key))
            if not self._sides[bucket]:
                del self._sides[bucket]

    def _count(self, key: bytes, entry: Entry, by: int) -> None:
        kind = key.partition(b":")[0].decode()
        self._outcomes[kind, entry.outcome] += by
        self._pairs[kind] += by * (entry.partner is not None)
        self._changes[kind] += by * entry.changes

    def _bucket(self, entry: Entry) -> Bucket | None:
        if entry.answer is None:
            return None
        side = side_of(entry.answer.reward, self._settings)
        return None if side is None else (entry.answer.kind, entry.answer.intent_type, side)


def _experience_of(key: bytes) -> str:
    return key.partition(b":")[2].decode()
