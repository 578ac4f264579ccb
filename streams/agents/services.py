"""What the agents share: settings, the publisher, the tables and the counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.events import DeadLetter
from schemas.settings import Settings
from streams import topics
from streams.kafka.dead_letters import to_outgoing
from streams.kafka.publisher import Outgoing, Publisher
from streams.metrics import Metrics
from streams.state.tables import StateTable


@dataclass(frozen=True, slots=True)
class Services:
    """Handed to every agent; made once, in `streams.worker.app`."""

    settings: Settings
    publisher: Publisher
    tables: Mapping[str, StateTable]
    metrics: Metrics

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return Path(self.settings.data_dir)

    @property
    def state_dir(self) -> Path:
        """This worker's own directory of local state, which can be made again from the topics."""
        return Path(self.settings.state_dir or self.data_dir / "state")

    def dead_letters(self, letters: Sequence[DeadLetter]) -> list[Outgoing]:
        """Address dead letters and count them by reason."""
        self.metrics.count_letters(Counter(letter.error_type for letter in letters))
        topic = self.settings.topic(topics.DEAD_LETTERS)
        return [to_outgoing(topic, letter) for letter in letters]
