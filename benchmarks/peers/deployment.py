"""What an engine is told on its command line, and the topics that it needs."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.system import settings_of
from schemas.settings import Settings
from streams.kafka.admin import ensure_topics
from streams.topics import TopicSpec
from trainers.parent import end_with_parent

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Deployment:
    """The broker, the topics' prefix, a folder for what outlives the process, and how to run."""

    bootstrap: str
    prefix: str
    folder: Path
    session_seconds: float
    """After so long without a sign of it, a consumer is held to be dead."""
    options: frozenset[str] = frozenset()
    """What the engine is to do besides, or instead."""

    @classmethod
    def from_arguments(cls) -> Deployment:
        """Read the command line and create inputs and outputs; the process ends with the one that started it."""
        end_with_parent()
        _, bootstrap, prefix, folder, session_seconds, *options = sys.argv
        of = cls(bootstrap, prefix, Path(folder), float(session_seconds), frozenset(options))
        of.folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(of.create_topics("experiences", "feedback", "score-updates"))
        return of

    async def create_topics(self, *names: str, partitions: int = PARTITIONS, compacted: bool = False) -> None:
        """Create what is missing of these topics, named without prefix."""
        # Room for the batches that events with embeddings are published in.
        configs = {"max.message.bytes": str(8 * 2**20), "cleanup.policy": "compact" if compacted else "delete"}
        specs = [TopicSpec(self.topic(name), partitions, configs) for name in names]
        await ensure_topics(self.settings, specs)

    @property
    def settings(self) -> Settings:
        """What names the broker and the folders; the topics' prefix is not in them."""
        return settings_of(self.bootstrap, self.folder, {})

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

    @property
    def session_ms(self) -> int:
        """The session timeout in milliseconds."""
        return int(self.session_seconds * 1000)
