"""The work that every engine does, without an engine: events in, encoded score updates out."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from schemas.events import Experience, Feedback, FeedbackSource
from schemas.records import Arrival, Origin, ScorerEntry
from schemas.settings import Settings
from trainers.embedding import SuppliedOnly
from trainers.prepare import ItemFeatures, prepare, query_hash
from trainers.reward import Judgement, is_newer, item_rewards
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.updates import encode_update

AT_ONCE = 500
"""Records that an engine takes at once, as Tierstream does."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What an engine is told on its command line: the broker and the topics' prefix."""

    bootstrap: str
    prefix: str

    @classmethod
    def from_arguments(cls) -> Deployment:
        """Read the command line."""
        _, bootstrap, prefix = sys.argv
        return cls(bootstrap, prefix)

    def topic(self, name: str) -> str:
        """Return a topic's name on the broker."""
        return self.prefix + name

    @property
    def inputs(self) -> list[str]:
        """Experiences and feedback."""
        return [self.topic("experiences"), self.topic("feedback")]

    @property
    def outputs(self) -> str:
        """Where score updates go."""
        return self.topic("score-updates")

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"{self.prefix}peer"


@dataclass(slots=True)
class _Known:
    items: ItemFeatures
    query_hash: str
    intent_type: str
    latest: dict[FeedbackSource, Judgement]


class Work:
    """Joins, deduplicates and learns, with everything in memory."""

    def __init__(self) -> None:
        self._settings = Settings()
        self._learner = OnlineLearner(self._settings.scorer)
        self._embedder = SuppliedOnly()
        self._known: dict[str, _Known] = {}
        self._seen: set[str] = set()
        self._offset = 0

    def arrive(self, values: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """Take experiences in; return keys and values of their score updates."""
        return self.learn(self.arrived(values))

    def judge(self, values: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """Take feedback in; return keys and values of the score updates."""
        return self.learn(self.judged(values))

    def arrived(self, values: Iterable[bytes]) -> list[tuple[int, ScorerEntry]]:
        """Take experiences in; return what is to be scored, with a running number."""
        entries = []
        for value in values:
            try:
                event = Experience.from_json(value)
            except ValidationError:
                continue
            if event.experience_id not in self._known:
                items = prepare(event, self._embedder)
                known = _Known(items, query_hash(event.query), event.intent.type, {})
                self._known[event.experience_id] = known
                entries.append(self._entry(known, event.experience_id, None, ()))
        return entries

    def judged(self, values: Iterable[bytes]) -> list[tuple[int, ScorerEntry]]:
        """Take feedback in; return what is to be learned, with a running number."""
        entries = []
        for value in values:
            try:
                event = Feedback.from_json(value)
            except ValidationError:
                continue
            known = self._known.get(event.experience_id)
            if known is None or event.feedback_id in self._seen:
                continue
            self._seen.add(event.feedback_id)
            judgement, before = Judgement.of(event), known.latest.get(event.source)
            if before is not None and not is_newer(judgement, before):
                continue
            known.latest[event.source] = judgement
            items = known.items
            rewards = tuple(item_rewards(known.latest, items.item_ids, items.item_types, self._settings.reward))
            entries.append(self._entry(known, event.experience_id, event.feedback_id, rewards))
        return entries

    def learn(self, entries: list[tuple[int, ScorerEntry]]) -> list[tuple[bytes, bytes]]:
        """Score and learn; return keys and values of the score updates."""
        scored = self._learner.apply(entries, self._learner.plan(entries, 1))
        now = time.time()
        return [(one.entry.experience_id.encode(), encode_update(one, 1, "peer", now)) for one in scored]

    def _entry(
        self, known: _Known, experience_id: str, feedback_id: str | None, rewards: tuple[float | None, ...]
    ) -> tuple[int, ScorerEntry]:
        offset = self._offset
        self._offset += 1
        kind = "arrived" if feedback_id is None else "feedback"
        entry = ScorerEntry(
            kind=kind,  # type: ignore[arg-type]
            experience_id=experience_id,
            feedback_id=feedback_id,
            origin=Origin(kind, 0, offset),
            received_at=time.time(),
            query_hash=known.query_hash,
            intent_type=known.intent_type,
            item_ids=known.items.item_ids,
            item_types=known.items.item_types,
            rewards=rewards,
            arrival=Arrival(0, 0),
            features=known.items.features,
        )
        return offset, entry
