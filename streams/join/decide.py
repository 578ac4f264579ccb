"""Decisions of the join: what one experience, one feedback or the passing of time leads to. Nothing is sent here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec.structs import replace

from schemas.events import Experience, Feedback
from schemas.records import Arrival, Origin, ScorerEntry
from schemas.settings import RewardSettings
from streams.join.kept import Kept, Memory
from streams.join.ledger import experience_of, is_ledger, ledger_of
from streams.join.state import EarlyFeedback, JoinedExperience, Judgements, encode_answer
from streams.state.write_buffer import Stored, WriteBuffer
from streams.topics import EXPERIENCES, FEEDBACK
from trainers.prepare import ItemFeatures
from trainers.reward import (
    Judgement,
    blended_from,
    is_newer,
    item_judgements,
    item_rewards,
    judge_answer,
    unknown_widgets,
)

MAX_BESIDE_STATE = 8
"""Feedbacks that an experience's state names; with more, those before the newest go to its ledger."""

MAX_EARLY = 20_000
"""Feedbacks that may wait for one experience: when it comes, they are joined at once."""

PAIR_KINDS: tuple[Literal["widget", "voice"], ...] = ("widget", "voice")


class EncodedAnswers(NamedTuple):
    """The answers of one experience that were judged anew, a line each, as they are sent."""

    intent_type: str
    value: bytes


@dataclass(slots=True)
class Decisions:
    """What a batch leads to, in order."""

    entries: list[ScorerEntry] = field(default_factory=list)
    answers: list[EncodedAnswers] = field(default_factory=list)
    orphans: list[EarlyFeedback] = field(default_factory=list)
    refused: list[EarlyFeedback] = field(default_factory=list)
    """Feedback for an experience that `MAX_EARLY` others wait for."""
    started: list[tuple[float, bytes]] = field(default_factory=list)
    """Keys whose retention starts now, with the time; ledgers too."""
    counts: Counter[str] = field(default_factory=Counter)


class Joiner:
    """Decides over one partition's state; every change goes into the overlays."""

    def __init__(
        self,
        settings: RewardSettings,
        retention: float,
        experiences: WriteBuffer[Stored],
        judgements: WriteBuffer[Stored],
        memory: Memory,
    ) -> None:
        self.settings = settings
        self.retention = retention
        self.experiences = experiences
        self.judgements = judgements
        self.kept = Kept(experiences, judgements, memory)
        self.out = Decisions()

    def owns_key(self, key: bytes) -> bool:
        """Whether the partition has state of the key, which only a key has that belongs here."""
        return self.judgements.get(key) is not None

    def knows(self, experience_id: str) -> bool:
        """Whether the experience has been joined already, by this or an earlier delivery."""
        return self.experiences.get(experience_id.encode()) is not None

    def arrive(
        self, experience: Experience, query_hash: str, items: ItemFeatures, offset: int, received_at: float
    ) -> None:
        """Take in an experience, then the feedback that waited for it."""
        key = experience.experience_id.encode()
        if self.knows(experience.experience_id):
            self.out.counts["duplicate_experience"] += 1
            return
        joined = JoinedExperience.of(experience, query_hash, items, offset)
        self.kept.keep_experience(key, joined)
        origin = Origin(EXPERIENCES, self.experiences.partition, offset)
        entry = self._entry("arrived", experience.experience_id, None, joined, origin, received_at, ())
        self.out.entries.append(replace(entry, features=items.features))
        self.out.counts["arrived"] += 1
        state = self.kept.state(key) or Judgements(since=received_at)
        state.since = received_at
        self.out.started.append((received_at, key))
        waited = self.kept.waiting(key, state)
        state.early, state.waiting = [], 0
        for early in waited:
            origin = Origin(FEEDBACK, early.partition, early.offset)
            outcome = self._join(joined, state, early.feedback, origin, early.received_at)
            if early.feedback.feedback_id in state.outcomes:
                state.outcomes[early.feedback.feedback_id] = outcome
        if waited:
            self._hand_on_answers(joined, state)
        self.kept.keep_state(key, state)

    def judge(self, feedback: Feedback, offset: int, received_at: float, attempt: int = 1) -> None:
        """Join a feedback, or let it wait for its experience; one that came after the retention is early for a next."""
        key = feedback.experience_id.encode()
        state = self.kept.state(key)
        if state is not None and received_at - state.since > self.retention:
            self.expire(key, received_at - self.retention)
            state = None
        if state is None:
            state = Judgements(since=received_at)
            self.out.started.append((received_at, key))
        if self.kept.knows(key, state, feedback.feedback_id):
            self.out.counts["duplicate_feedback"] += 1
            return
        joined = self.kept.experience(key)
        early = EarlyFeedback(self.judgements.partition, offset, received_at, feedback, attempt)
        if joined is None and len(state.early) + state.waiting >= MAX_EARLY:
            self.out.refused.append(early)
            self.out.counts["dead_lettered"] += 1
            return
        if len(state.outcomes) >= MAX_BESIDE_STATE:
            opened = self.kept.enter_in_ledger(key, state, offset)
            if opened is not None:
                self.out.started.append((state.since, opened))
        if joined is None:
            state.early.append(early)
            outcome = "early"
            self.out.counts[outcome] += 1
        else:
            origin = Origin(FEEDBACK, self.judgements.partition, offset)
            outcome = self._join(joined, state, feedback, origin, received_at)
            if outcome != "superseded":
                self._hand_on_answers(joined, state)
        state.outcomes[feedback.feedback_id] = outcome
        self.kept.keep_state(key, state)

    def expire(self, key: bytes, until: float) -> None:
        """Forget an experience that arrived at or before `until`, or a ledger; what still waits is orphaned."""
        if is_ledger(key):
            self._clear_ledger(key, until)
            return
        state = self.kept.state(key)
        if state is None or state.since > until:
            return
        orphans = self.kept.waiting(key, state)
        self.out.orphans.extend(orphans)
        self.out.counts["orphan_feedback"] += len(orphans)
        self.out.counts["expired"] += 1
        self.kept.forget(key)

    def _clear_ledger(self, ledger: bytes, until: float) -> None:
        key = experience_of(ledger)
        state = self.kept.state(key)
        if state is not None and state.ledger is not None and ledger_of(key, state.ledger) == ledger:
            self.out.started.append((state.since, ledger))
        elif not self.kept.ledgers.clear(ledger):
            self.out.started.append((until, ledger))

    def _join(
        self, joined: JoinedExperience, state: Judgements, feedback: Feedback, origin: Origin, received_at: float
    ) -> str:
        """Let a judgement count; return what became of it."""
        source, judgement = feedback.source, Judgement.of(feedback)
        before = state.latest.get(source)
        if before is not None and not is_newer(judgement, before):
            self.out.counts["superseded"] += 1
            return "superseded"
        state.latest[source] = judgement
        if judgement.widgets:
            self.out.counts["unknown_widget"] += len(unknown_widgets(judgement, joined.item_ids))
        blended = item_rewards(state.latest, joined.item_ids, joined.item_types, self.settings)
        own = item_judgements(judgement, joined.item_ids, joined.item_types)
        counts = source != "implicit" or len(state.latest) == 1
        rewards = tuple([b if o is not None and counts else None for b, o in zip(blended, own, strict=True)])
        outcome = "unusable" if all(reward is None for reward in rewards) else "joined"
        if outcome == "joined":
            self.out.entries.append(
                self._entry(
                    "feedback", feedback.experience_id, feedback.feedback_id, joined, origin, received_at, rewards
                )
            )
        self.out.counts[outcome] += 1
        return outcome

    def _hand_on_answers(self, joined: JoinedExperience, state: Judgements) -> None:
        feedback_ids = blended_from(state.latest)
        lines = []
        for kind in PAIR_KINDS:
            judged = judge_answer(state.latest, kind, self.settings, joined.item_ids)
            handed = list(judged)
            if state.answers.get(kind) == handed:
                continue
            state.answers[kind] = handed
            lines.append(encode_answer(joined, kind, judged, feedback_ids))
        if lines:
            self.out.answers.append(EncodedAnswers(joined.intent_type, b"\n".join(lines)))

    def _entry(
        self,
        kind: Literal["arrived", "feedback"],
        experience_id: str,
        feedback_id: str | None,
        joined: JoinedExperience,
        origin: Origin,
        received_at: float,
        rewards: tuple[float | None, ...],
    ) -> ScorerEntry:
        return ScorerEntry(
            kind=kind,
            experience_id=experience_id,
            feedback_id=feedback_id,
            origin=origin,
            received_at=received_at,
            query_hash=joined.query_hash,
            intent_type=joined.intent_type,
            item_ids=joined.item_ids,
            item_types=joined.item_types,
            rewards=rewards,
            arrival=Arrival(self.experiences.partition, joined.offset),
        )
