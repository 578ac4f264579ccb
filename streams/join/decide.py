"""Decisions of the join: what one experience, one feedback or the passing of time leads to. Nothing is sent here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import orjson
from msgspec.structs import replace

from schemas.events import Experience, Feedback
from schemas.records import Arrival, Origin, ScorerEntry
from schemas.settings import RewardSettings
from streams.join.recent import Recent
from streams.join.state import EarlyFeedback, JoinedExperience, Judgements
from streams.tables import Overlay
from streams.topology import EXPERIENCES, FEEDBACK
from trainers.prepare import ItemFeatures
from trainers.reward import (
    AnswerJudgement,
    Judgement,
    is_newer,
    item_judgements,
    item_rewards,
    judge_answer,
    unknown_widgets,
)

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
    started: list[tuple[float, bytes]] = field(default_factory=list)
    """Keys whose retention starts now, with the time."""
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Memory:
    """What was decoded for earlier batches of a partition."""

    experiences: Recent[JoinedExperience] = field(default_factory=Recent)
    judgements: Recent[Judgements] = field(default_factory=Recent)


class Joiner:
    """Decides over one partition's state; every change goes into the overlays."""

    def __init__(
        self, settings: RewardSettings, retention: float, experiences: Overlay, judgements: Overlay, memory: Memory
    ) -> None:
        self.settings = settings
        self.retention = retention
        self.experiences = experiences
        self.judgements = judgements
        self.memory = memory
        self.out = Decisions()

    def has_home(self, key: bytes) -> bool:
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
        self._keep_experience(key, joined)
        origin = Origin(EXPERIENCES, self.experiences.partition, offset)
        entry = self._entry("arrived", experience.experience_id, None, joined, origin, received_at, ())
        self.out.entries.append(replace(entry, features=items.features))
        self.out.counts["arrived"] += 1
        state = self._state(key) or Judgements(since=received_at)
        state.since = received_at
        self.out.started.append((received_at, key))
        early, state.early = state.early, []
        for waiting in early:
            origin = Origin(FEEDBACK, waiting.partition, waiting.offset)
            self._join(joined, state, waiting.feedback, origin, waiting.received_at)
        self._keep_state(key, state)

    def judge(self, feedback: Feedback, offset: int, received_at: float, attempt: int = 1) -> None:
        """Join a feedback, or let it wait for its experience; one that came after the retention is early for a next."""
        key = feedback.experience_id.encode()
        state = self._state(key)
        if state is not None and received_at - state.since > self.retention:
            self.expire(key, received_at - self.retention)
            state = None
        if state is None:
            state = Judgements(since=received_at)
            self.out.started.append((received_at, key))
        if feedback.feedback_id in state.outcomes:
            self.out.counts["duplicate_feedback"] += 1
            return
        joined = self._experience(key)
        if joined is None:
            early = EarlyFeedback(self.judgements.partition, offset, received_at, feedback, attempt)
            state.early.append(early)
            state.outcomes[feedback.feedback_id] = "early"
            self.out.counts["early"] += 1
        else:
            origin = Origin(FEEDBACK, self.judgements.partition, offset)
            self._join(joined, state, feedback, origin, received_at)
        self._keep_state(key, state)

    def expire(self, key: bytes, until: float) -> None:
        """Forget an experience that arrived at or before `until`; feedback that still waits for it is orphaned."""
        state = self._state(key)
        if state is None or state.since > until:
            return
        self.out.orphans.extend(state.early)
        self.out.counts["orphan_feedback"] += len(state.early)
        self.out.counts["expired"] += 1
        if self.experiences.get(key) is not None:
            self.experiences.set(key, None)
        self.judgements.set(key, None)

    def _state(self, key: bytes) -> Judgements | None:
        data = self.judgements.get(key)
        if data is None:
            return None
        # Taken, as it is changed in place: what is kept again is what was written.
        return self.memory.judgements.take(key, data) or Judgements.decode(data)

    def _keep_state(self, key: bytes, state: Judgements) -> None:
        data = state.encode()
        self.judgements.set(key, data)
        self.memory.judgements.keep(key, data, state)

    def _experience(self, key: bytes) -> JoinedExperience | None:
        data = self.experiences.get(key)
        if data is None:
            return None
        joined = self.memory.experiences.get(key, data)
        if joined is None:
            joined = JoinedExperience.decode(data)
            self.memory.experiences.keep(key, data, joined)
        return joined

    def _keep_experience(self, key: bytes, joined: JoinedExperience) -> None:
        data = joined.encode()
        self.experiences.set(key, data)
        self.memory.experiences.keep(key, data, joined)

    def _join(
        self, joined: JoinedExperience, state: Judgements, feedback: Feedback, origin: Origin, received_at: float
    ) -> None:
        source, judgement = feedback.source, Judgement.of(feedback)
        before = state.latest.get(source)
        if before is not None and not is_newer(judgement, before):
            state.outcomes[feedback.feedback_id] = "superseded"
            self.out.counts["superseded"] += 1
            return
        state.latest[source] = judgement
        if judgement.widgets:
            self.out.counts["unknown_widget"] += len(unknown_widgets(judgement, joined.item_ids))
        blended = item_rewards(state.latest, joined.item_ids, joined.item_types, self.settings)
        own = item_judgements(judgement, joined.item_ids, joined.item_types)
        counts = source != "implicit" or len(state.latest) == 1
        rewards = tuple([b if o is not None and counts else None for b, o in zip(blended, own, strict=True)])
        if any(reward is not None for reward in rewards):
            self.out.entries.append(
                self._entry(
                    "feedback", feedback.experience_id, feedback.feedback_id, joined, origin, received_at, rewards
                )
            )
            state.outcomes[feedback.feedback_id] = "joined"
        else:
            state.outcomes[feedback.feedback_id] = "unusable"
        self.out.counts[state.outcomes[feedback.feedback_id]] += 1
        self._hand_on_answers(joined, state)

    def _hand_on_answers(self, joined: JoinedExperience, state: Judgements) -> None:
        joined_ids = [name for name, outcome in state.outcomes.items() if outcome == "joined"]
        lines = []
        for kind in PAIR_KINDS:
            judged = judge_answer(state.latest, kind, self.settings, joined.item_ids)
            handed = list(judged)
            if state.answers.get(kind) == handed:
                continue
            state.answers[kind] = handed
            lines.append(encode_answer(joined, kind, judged, joined_ids))
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


def encode_answer(
    joined: JoinedExperience,
    kind: str,
    judgement: AnswerJudgement,
    feedback_ids: Sequence[str] = (),
) -> bytes:
    """Return the JSON of an `Answer`."""
    content = joined.widgets if kind == "widget" else joined.voice_reply
    reward, confidence, by_user = judgement
    fields = {"reward": reward, "evaluation_confidence": confidence, "judged_by_user": by_user}
    judged = orjson.dumps({**fields, "feedback_ids": feedback_ids})
    return b"".join((b'{"kind":"', kind.encode(), b'",', joined.about, b',"content":', content, b",", judged[1:]))
