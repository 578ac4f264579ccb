"""Decides which answers are paired, over one partition of the answers topic.

An answer is paired with one to the same query as soon as there is one. With one to another query only a tick pairs it:
a record by which both have waited `pairs.patience`, in the topic's own time. Where labelled answers train by
themselves, a tick also lets those wait no longer that have waited twice as long. So every decision follows from the
records alone, in their order.

All that must survive is one table key an answer. The order of a decision's writes is part of it: the answer that
finds a partner first, naming it, then the partner, then whoever had to leave a full side. After a crash a prefix of
the writes is there, and their pairs are out: what is missing of it is repaired from the table alone. Records that are
delivered again are decided again where the table does not know them, and lead to nothing where it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from schemas.events import LabelledAnswer, PreferencePair
from schemas.records import Answer
from schemas.settings import PairsSettings, UnpairedSettings
from trainers.pairs.candidates import Bucket, Candidates
from trainers.pairs.entry import EVICTED, PAIRED, UNPAIRED, USED, WAITING, Entry, experience_of, key_of, kind_of
from trainers.pairs.funnel import Funnel, Tally
from trainers.pairs.index import EVER, Candidate
from trainers.pairs.rules import SIDES, drop_reason, make_pair, side_of
from trainers.pairs.unpaired import label

Write = tuple[bytes, bytes | None]
Made = PreferencePair | LabelledAnswer


class Decision(NamedTuple):
    """What one answer or tick leads to: examples to publish, then table writes to make in this order, none left out."""

    examples: tuple[Made, ...]
    writes: tuple[Write, ...]
    outcome: str
    """`waiting`, `paired`, a reason of the funnel, `repeated`, `judged_again`, `reward_changed_after_pairing`, or of
    no single answer `tick` and `repaired`."""

    @property
    def pairs(self) -> tuple[PreferencePair, ...]:
        """The pairs among the examples."""
        return tuple(one for one in self.examples if isinstance(one, PreferencePair))


class PairMatcher:
    """The answers of one partition and who is paired with whom.

    It holds the table's values as they are: that is small, and nothing for the garbage collector to walk through.

    Args:
        settings: the rules; an answer that waits is judged by them anew when it is loaded, while one that an
            earlier run dropped stays dropped until it is judged again.
        unpaired: whether answers that find no partner train by themselves; None where none does.
    """

    def __init__(self, settings: PairsSettings, unpaired: UnpairedSettings | None) -> None:
        self._settings = settings
        self._unpaired = unpaired or UnpairedSettings()
        self._values: dict[bytes, bytes] = {}
        self._stale: set[bytes] = set()
        """Keys that other settings made of something else than the table says."""
        self._candidates = Candidates(settings)
        self._patient: dict[bytes, float] = {}
        """Since when those wait that no tick has found to have waited long enough."""
        self._named: dict[bytes, bytes] = {}
        """Partners that a loaded value names and whose own value does not know it, with that value's key."""
        self._loaded = False
        self._last_offset = -1
        """The highest that an answer's decision was written for."""
        self._tally = Tally()

    def load(self, key: bytes, value: bytes) -> None:
        """Take in one key of the table, in any order.

        Raises:
            ValueError: the value is not a table value of this class.
        """
        entry = Entry.decode(value)
        answer = None if entry.answer is None else Answer.from_json(entry.answer)
        if answer is not None:
            reason = drop_reason(answer, self._settings)
            if entry.outcome == WAITING and reason is not None:
                entry = entry._replace(outcome=reason)
            if reason is not None or (entry.outcome == PAIRED and self._settings.one_to_one):
                entry, answer = entry.without_answer(), None
                value = entry.encode()
                self._stale.add(key)
        self._values[key], self._loaded = value, True
        self._last_offset = max(self._last_offset, entry.offset)
        self._tally.move(kind_of(key), None, entry)
        if entry.outcome == PAIRED:
            self._named.pop(key, None)
        if entry.partner is not None:
            partner = key_of(kind_of(key), entry.partner)
            if (known := self._values.get(partner)) is None or Entry.decode(known).outcome != PAIRED:
                self._named[partner] = key
        if answer is not None:
            self._candidates.add(*self._candidates.prepare(key, answer, entry.offset, entry.waits_since))
        if entry.outcome == WAITING:
            self._patient[key] = entry.waits_since

    def repair_after_crash(self) -> Decision | None:
        """Return, once after loading and before anything is decided, what is missing of the writes before a crash."""
        if not self._loaded:
            return None
        self._loaded, named, self._named = False, self._named, {}
        pairs: list[Made] = []
        writes: list[Write] = []
        for key, by in named.items():
            if key in self._values:
                writes += self._mark_taken(key, Entry.decode(self._values[key]), experience_of(by))
        for bucket in list(self._candidates.sides):
            made, written = self._make_room(bucket)
            pairs += made
            writes += written
        return Decision(tuple(pairs), tuple(writes), "repaired") if writes else None

    def decide(self, answer: Answer, offset: int, at: float, encoded: bytes | None = None) -> Decision:
        """Decide one answer.

        Args:
            answer: what was judged.
            offset: where it stands in the input partition.
            at: broker time of its record in epoch seconds.
            encoded: the answer as it was sent; made anew where that is not at hand.
        """
        key = key_of(answer.kind, answer.experience_id)
        value = self._values.get(key)
        known = None if value is None else Entry.decode(value)
        if known is not None and known.offset >= offset:
            return Decision((), (), "repeated")
        if known is not None and known.outcome in USED:
            return self._judge_again(key, known, answer, offset, encoded)
        reason = drop_reason(answer, self._settings)
        if reason is None:
            return self._match(key, known, answer, offset, at, encoded or answer.to_json())
        if known is not None and known.outcome == reason and key not in self._stale:
            # Decided again after a crash, it would come to this again: there is nothing to write.
            return Decision((), (), reason)
        self._candidates.remove(key)
        return Decision((), (self._put(key, Entry(offset, reason), known),), reason)

    def tick(self, offset: int, at: float) -> Decision:
        """Pair answers to different queries that have waited long enough by now, the best pair first; end long waits.

        Args:
            offset: where the tick stands in the input partition.
            at: its broker time in epoch seconds.
        """
        pairs: list[Made] = []
        writes: list[Write] = []
        if offset > self._last_offset:  # else it is a repetition, and answers that came behind it are here already
            for made, written in self._match_across(at - self._settings.patience):
                pairs.append(made)
                writes += written
            for key in self._overdue(at):
                pairs.append(self._alone(key, Entry.decode(self._values[key]), writes))
        return Decision(tuple(pairs), tuple(writes), "tick")

    def is_due(self, now: float) -> bool:
        """Whether a tick of this broker time would find answers that have newly waited long enough."""
        until = now - self._settings.patience
        return any(since <= until for since in self._patient.values()) or bool(self._overdue(now))

    def funnel(self, now: float) -> Funnel:
        """Return where every answer is at this broker time, and which rule stands between those that wait."""
        sides = self._candidates.sides
        if not self._settings.one_to_one:
            sides = self._candidates.only(self._waits).sides
        return self._tally.funnel(sides, self._settings, now)

    def _match(
        self, key: bytes, known: Entry | None, answer: Answer, offset: int, at: float, encoded: bytes
    ) -> Decision:
        """Pair an answer that may be paired, or let it wait."""
        self._candidates.remove(key)
        since = known.waits_since if known is not None and known.outcome == WAITING else at
        entry = Entry(offset, WAITING, answer.reward, since=since, answer=encoded)
        candidate, bucket = self._candidates.prepare(key, answer, offset, since)
        partner = self._candidates.best_partner(candidate, bucket, None if self._settings.patience else EVER)
        if partner is None or not self._settings.one_to_one:
            self._candidates.add(candidate, bucket)
        if partner is None:
            pairs, writes = [], [self._put(key, entry, known)]
        else:
            pair, writes = self._pair(key, entry, known, answer, partner)
            pairs = [pair]
        more, left = self._make_room(bucket)
        return Decision((*pairs, *more), (*writes, *left), WAITING if partner is None else PAIRED)

    def _match_across(self, until: float) -> Iterator[tuple[PreferencePair, list[Write]]]:
        """Pair who has waited since then or longer; the others have found nobody among themselves before."""
        seekers = [key for key, since in self._patient.items() if since <= until]
        for key in seekers:
            del self._patient[key]
        if not self._settings.one_to_one:
            # Here a partner stays, and serves others that have found nobody yet.
            seekers = [key for key in self._candidates if self._waits(key) and self._candidates[key].since <= until]
        for chosen, rejected in self._candidates.best_pairs(seekers, until, self._waits):
            entry = Entry.decode(self._values[chosen.key])
            yield self._pair(chosen.key, entry, entry, Answer.from_json(entry.answer or b""), rejected)

    def _overdue(self, now: float) -> list[bytes]:
        """Return who has waited long enough to train alone: good and bad ones mixed, as a job takes both."""
        if not self._unpaired.enabled:
            return []
        until = now - 2 * self._settings.patience
        waited = [one for key in self._candidates if (one := self._candidates[key]).since <= until]
        waited = [one for one in waited if self._may_train_alone(one.key) and self._waits(one.key)]
        waited.sort(key=lambda one: (one.offset, one.key))
        sides = ([one for one in waited if side_of(one.reward, self._settings) == side] for side in SIDES)
        return [
            key for _, key in sorted(((n + 0.5) / len(side), one.key) for side in sides for n, one in enumerate(side))
        ]

    def _may_train_alone(self, key: bytes) -> bool:
        return self._unpaired.enabled and self._unpaired.kinds in ("both", kind_of(key))

    def _alone(self, key: bytes, entry: Entry, writes: list[Write]) -> LabelledAnswer:
        """Return a waiting answer as an example by itself, and add its write."""
        self._candidates.remove(key)
        writes.append(self._put(key, entry.without_answer()._replace(outcome=UNPAIRED), entry))
        return label(Answer.from_json(entry.answer or b""), self._settings)

    def _waits(self, key: bytes) -> bool:
        return Entry.decode(self._values[key]).outcome == WAITING

    def _pair(
        self, key: bytes, entry: Entry, before: Entry | None, answer: Answer, partner: Candidate
    ) -> tuple[PreferencePair, list[Write]]:
        """Return a pair of an answer and a candidate, and its writes: the answer, then the candidate."""
        taken = Entry.decode(self._values[partner.key])
        other = Answer.from_json(taken.answer or b"")
        is_chosen = side_of(answer.reward, self._settings) == "chosen"
        pair = make_pair(*((answer, other) if is_chosen else (other, answer)), self._settings)
        paired = self._used(key, entry, partner=other.experience_id)
        return pair, [self._put(key, paired, before), *self._mark_taken(partner.key, taken, answer.experience_id)]

    def _mark_taken(self, key: bytes, entry: Entry, by: str) -> tuple[Write, ...]:
        if entry.outcome == PAIRED:
            return ()
        return (self._put(key, self._used(key, entry, taken_by=by), entry),)

    def _used(self, key: bytes, entry: Entry, partner: str | None = None, taken_by: str | None = None) -> Entry:
        """Return an answer as paired; where it serves once, it is no candidate any more."""
        if not self._settings.one_to_one:
            return entry._replace(outcome=PAIRED, partner=partner, taken_by=taken_by)
        self._candidates.remove(key)
        return entry._replace(outcome=PAIRED, partner=partner, taken_by=taken_by, since=None, answer=None)

    def _judge_again(self, key: bytes, known: Entry, answer: Answer, offset: int, encoded: bytes | None) -> Decision:
        changed = answer.reward != known.reward
        outcome = "reward_changed_after_pairing" if changed else "judged_again"
        keep = not self._settings.one_to_one and known.outcome == PAIRED
        if (known.changes or not changed) and not keep and key not in self._stale:
            return Decision((), (), outcome)
        self._candidates.remove(key)
        entry = known._replace(offset=offset, changes=known.changes | changed)
        if not (keep and drop_reason(answer, self._settings) is None):
            return Decision((), (self._put(key, entry.without_answer(), known),), outcome)
        candidate, bucket = self._candidates.prepare(key, answer, offset, known.waits_since)
        self._candidates.add(candidate, bucket)
        written = self._put(key, entry._replace(answer=encoded or answer.to_json()), known)
        pairs, left = self._make_room(bucket)
        return Decision(tuple(pairs), (written, *left), outcome)

    def _make_room(self, bucket: Bucket) -> tuple[list[Made], list[Write]]:
        """Let the oldest leave a full side: paired before its time where another query's answer will do, or unused."""
        pairs: list[Made] = []
        writes: list[Write] = []
        while oldest := self._candidates.one_too_many(bucket):
            entry = Entry.decode(self._values[oldest.key])
            partner = self._candidates.best_partner(oldest, bucket, EVER) if entry.outcome == WAITING else None
            if partner is not None:
                answer = Answer.from_json(entry.answer or b"")
                made, written = self._pair(oldest.key, entry, entry, answer, partner)
                pairs.append(made)
                writes += written
            elif entry.outcome == WAITING and self._may_train_alone(oldest.key):
                pairs.append(self._alone(oldest.key, entry, writes))
            else:
                outcome = EVICTED if entry.outcome == WAITING else entry.outcome
                self._candidates.remove(oldest.key)
                writes.append(self._put(oldest.key, entry.without_answer()._replace(outcome=outcome), entry))
        return pairs, writes

    def _put(self, key: bytes, entry: Entry, before: Entry | None) -> Write:
        value = self._values[key] = entry.encode()
        self._stale.discard(key)
        self._last_offset = max(self._last_offset, entry.offset)
        if entry.outcome == WAITING:
            self._patient[key] = entry.waits_since
        else:
            self._patient.pop(key, None)
        self._tally.move(kind_of(key), before, entry)
        return key, value
