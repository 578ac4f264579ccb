"""The work that every engine does, without an engine: events in, encoded score updates out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from pydantic import ValidationError

from schemas.events import Experience, Feedback, FeedbackSource, ItemType
from schemas.records import Arrival, Origin, ScorerEntry
from schemas.settings import Settings
from trainers.embedding import SuppliedOnly
from trainers.prepare import prepare, query_hash
from trainers.reward import Judgement, is_newer, item_rewards
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.updates import encode_update

AT_ONCE = 500
"""Records that an engine takes at once, as Tierstream does."""
Messages = list[tuple[bytes, bytes]]
"""Keys and values to be published."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an experience."""

    item_ids: tuple[str, ...]
    item_types: tuple[ItemType, ...]
    query_hash: str
    intent_type: str
    features: bytes


class Joined(msgspec.Struct, frozen=True, gc=False):
    """An experience that arrived, or a feedback with its experience."""

    experience_id: str
    known: Known
    received_at: float
    feedback_id: str | None = None
    rewards: tuple[float | None, ...] = ()


class Kept(Protocol):
    """What the join keeps of one experience."""

    @property
    def known(self) -> Known | None:
        """Nothing before it has arrived."""

    @property
    def latest(self) -> dict[FeedbackSource, Judgement]:
        """Each source's judgement that counts."""

    def arrive(self, known: Known) -> None:
        """Keep the experience."""

    def has_seen(self, feedback_id: str) -> bool:
        """Whether this feedback was taken in before."""

    def see(self, feedback_id: str, latest: dict[FeedbackSource, Judgement]) -> None:
        """Keep that a feedback was taken in, and what counts now."""


@dataclass(slots=True)
class InMemory:
    """Kept as it is."""

    known: Known | None = None
    latest: dict[FeedbackSource, Judgement] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def arrive(self, known: Known) -> None:
        """Keep the experience."""
        self.known = known

    def has_seen(self, feedback_id: str) -> bool:
        """Whether this feedback was taken in before."""
        return feedback_id in self.seen

    def see(self, feedback_id: str, latest: dict[FeedbackSource, Judgement]) -> None:
        """Keep that a feedback was taken in, and what counts now."""
        self.seen.add(feedback_id)
        self.latest = latest


KeptOf = Callable[[str], Kept]
"""Finds what is kept of an experience by its id."""
_EMBEDDER = SuppliedOnly()
_REWARD = Settings().reward


def join_experience(value: bytes, kept_of: KeptOf) -> Joined | None:
    """Take an experience in; nothing comes of one that is invalid or known."""
    try:
        event = Experience.from_json(value)
    except ValidationError:
        return None
    kept = kept_of(event.experience_id)
    if kept.known is not None:
        return None
    items = prepare(event, _EMBEDDER)
    known = Known(items.item_ids, items.item_types, query_hash(event.query), event.intent.type, items.features)
    kept.arrive(known)
    return Joined(event.experience_id, known, time.time())


def join_feedback(value: bytes, kept_of: KeptOf) -> Joined | None:
    """Take a feedback in; nothing comes of one that is invalid, of no known experience, seen before or out of date."""
    try:
        event = Feedback.from_json(value)
    except ValidationError:
        return None
    kept = kept_of(event.experience_id)
    known = kept.known
    if known is None or kept.has_seen(event.feedback_id):
        return None
    judgement, latest = Judgement.of(event), kept.latest
    before = latest.get(event.source)
    counts = before is None or is_newer(judgement, before)
    if counts:
        latest = {**latest, event.source: judgement}
    kept.see(event.feedback_id, latest)
    if not counts:
        return None
    rewards = tuple(item_rewards(latest, known.item_ids, known.item_types, _REWARD))
    return Joined(event.experience_id, known, time.time(), event.feedback_id, rewards)


class Learner(Protocol):
    """Scores and learns."""

    def learn(self, joined: list[Joined]) -> Messages:
        """Return the score updates."""


class OurLearner:
    """Tierstream's online learner, in memory."""

    def __init__(self) -> None:
        self.learner = OnlineLearner(Settings().scorer)

    def learn(self, joined: list[Joined]) -> Messages:
        """Return the score updates, after steps of up to 32 feedbacks each."""
        first = self.learner.next_offset
        entries = [entry_of(one, number) for number, one in enumerate(joined, start=first)]
        scored = self.learner.apply(first + len(entries) - 1, entries)
        now = time.time()
        return [(one.entry.experience_id.encode(), encode_update(one, 1, "peer", now)) for one in scored]


def entry_of(one: Joined, number: int) -> ScorerEntry:
    """Return what the scorer takes; `number` tells it from others."""
    kind = "arrived" if one.feedback_id is None else "feedback"
    return ScorerEntry(
        kind=kind,  # type: ignore[arg-type]
        experience_id=one.experience_id,
        feedback_id=one.feedback_id,
        origin=Origin(kind, 0, number),
        received_at=one.received_at,
        query_hash=one.known.query_hash,
        intent_type=one.known.intent_type,
        item_ids=one.known.item_ids,
        item_types=one.known.item_types,
        rewards=one.rewards,
        arrival=Arrival(0, 0),
        features=one.known.features,
    )


class Work:
    """Joins, deduplicates and learns.

    Args:
        kept_of: finds the join's state; in memory by default.
        learner: ours, in memory, by default.
    """

    def __init__(self, kept_of: KeptOf | None = None, learner: Learner | None = None) -> None:
        self._kept_of: KeptOf = kept_of or defaultdict[str, Kept](InMemory).__getitem__
        self._learner = learner or OurLearner()

    def arrive(self, values: Iterable[bytes]) -> Messages:
        """Take experiences in; return their score updates."""
        return self.learn(self.arrived(values))

    def judge(self, values: Iterable[bytes]) -> Messages:
        """Take feedback in; return the score updates."""
        return self.learn(self.judged(values))

    def arrived(self, values: Iterable[bytes]) -> list[Joined]:
        """Take experiences in; return what is to be scored."""
        found = (join_experience(value, self._kept_of) for value in values)
        return [one for one in found if one is not None]

    def judged(self, values: Iterable[bytes]) -> list[Joined]:
        """Take feedback in; return what is to be learned."""
        found = (join_feedback(value, self._kept_of) for value in values)
        return [one for one in found if one is not None]

    def learn(self, joined: list[Joined]) -> Messages:
        """Score and learn; return the score updates."""
        return self._learner.learn(joined)
