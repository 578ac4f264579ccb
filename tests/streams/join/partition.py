"""One partition of the join in memory: events go through the real decisions, and what comes out is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas.events import Experience, Feedback
from schemas.records import Answer, ScorerEntry
from schemas.settings import RewardSettings, ScorerSettings
from streams.join.decide import Joiner
from streams.join.kept import Memory
from streams.state.write_buffer import WriteBuffer
from trainers.embedding import build_embedder
from trainers.prepare import prepare, query_hash
from trainers.scorer.entries import Origins

RETENTION = 7 * 86_400.0
EMBEDDER = build_embedder(ScorerSettings())


class FakeTable:
    """A table of one partition in a dict."""

    name = changelog = "fake"
    generation = 0

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.data.get(key)

    def under(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return (item for item in list(self.data.items()) if item[0].startswith(prefix))

    def take(self, overlay: WriteBuffer, count: int | None = None) -> None:
        for key, value in overlay.writes[:count]:
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value


class Partition:
    """Runs batches of events through a joiner, as the agent does, and keeps what came out."""

    def __init__(self) -> None:
        self.experiences, self.judgements = FakeTable(), FakeTable()
        self.memory = Memory()
        self.entries: list[ScorerEntry] = []
        self.answers: list[Any] = []
        self.orphans: list[Any] = []
        self.counts: dict[str, int] = {}

    def joiner(self) -> Joiner:
        overlays = WriteBuffer(self.experiences, 0), WriteBuffer(self.judgements, 0)  # type: ignore[arg-type]
        return Joiner(RewardSettings(), RETENTION, *overlays, self.memory)

    def run(self, topic: str, events: list[tuple[int, Any]], at: float = 1000.0, persist: bool = True) -> Joiner:
        joiner = self.joiner()
        for offset, event in events:
            if isinstance(event, Experience):
                items = prepare(event, EMBEDDER)
                joiner.arrive(event, query_hash(event.query), items, offset, at)
            else:
                joiner.judge(event, offset, at)
        self.keep(joiner, persist)
        return joiner

    def keep(self, joiner: Joiner, persist: bool = True) -> None:
        self.entries += joiner.out.entries
        self.answers += [answer for sent in joiner.out.answers for answer, _ in Answer.each_from(sent.value)]
        self.orphans += joiner.out.orphans
        for name, count in joiner.out.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        if persist:
            self.judgements.take(joiner.judgements)
            self.experiences.take(joiner.experiences)


def experience(name: str = "e1", **fields: Any) -> Experience:
    plan = [
        {"widget_id": "w1", "widget_type": "gauge", "text": "pump one"},
        {"widget_id": "w2", "widget_type": "table"},
    ]
    values = {
        "experience_id": name,
        "timestamp": 1.0,
        "query": "show pump 1",
        "intent": {"type": "status", "domains": ["pumps"], "devices": ["pump"]},
        "widget_plan": plan,
        "voice_reply": "here it is",
    }
    return Experience.model_validate({**values, **fields})


def feedback(name: str = "f1", of: str = "e1", **fields: Any) -> Feedback:
    values: dict[str, Any] = {"feedback_id": name, "experience_id": of, "timestamp": 2.0, "source": "user"}
    if not {"reward", "voice_reward", "per_widget_feedback"} & fields.keys():
        fields["reward"] = 1.0
    return Feedback.model_validate({**values, **fields})


def applied(entries: list[ScorerEntry]) -> list[tuple[str, str | None, tuple[float | None, ...]]]:
    """What a reader that knows the origins it has applied learns."""
    origins = Origins()
    result = []
    for entry in entries:
        if entry.origin not in origins:
            origins.add(entry.origin)
            result.append((entry.experience_id, entry.feedback_id, entry.rewards))
    return result
