"""What the agents share: settings, the publisher, the tables and the counters."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.events import DeadLetter
from schemas.settings import Settings
from streams import topics
from streams.agents.decoding import DecodedBatch
from streams.kafka.dead_letters import to_outgoing
from streams.kafka.publisher import Outgoing, Publisher
from streams.metrics import Metrics
from streams.state.tables import StateTable, write_state
from streams.state.write_buffer import WriteBuffer
from streams.transport.batch import RecordBatch


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

    async def deliver(
        self,
        batch: RecordBatch,
        decoded: DecodedBatch[Any],
        outgoing: Sequence[Outgoing],
        state: Sequence[WriteBuffer[StateTable]] | Callable[[], None],
        counts: Counter[str],
    ) -> None:
        """Perform what was decided of a batch, by the rule: outputs, then state, then the acknowledgement.

        The batch is acknowledged after this has returned. So whatever survives a crash is led to again: a repeated
        output is recognised by its id, and state that had come first would keep an output from ever being led to.

        Args:
            batch: what was decided of.
            decoded: records of it to be forwarded or dead-lettered.
            outgoing: further outputs.
            state: writes to tables, in order, or what writes a file.
            counts: outcomes of its events; those of `decoded` are added.

        Raises:
            PublishError: the broker did not acknowledge an output, or state; nothing after that was done.
            FencedError: the partition has another owner by now.
        """
        await self.publisher.publish([*decoded.forwards, *self.dead_letters(decoded.letters), *outgoing])
        if callable(state):
            await asyncio.to_thread(state)
        else:
            await write_state(self.publisher, state)
        counts["forwarded"] += len(decoded.forwards)
        counts["dead_lettered"] += len(decoded.letters)
        self.metrics.count(batch.topic.removeprefix(self.settings.topics.prefix), counts)

    def dead_letters(self, letters: Sequence[DeadLetter]) -> list[Outgoing]:
        """Address dead letters and count them by reason."""
        self.metrics.count_letters(Counter(letter.error_type for letter in letters))
        topic = self.settings.topic(topics.DEAD_LETTERS)
        return [to_outgoing(topic, letter) for letter in letters]
