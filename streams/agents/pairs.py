"""pair-answers: judged answers in, preference pairs out."""

from __future__ import annotations

from collections import Counter

from schemas.records import Answer
from streams import topics
from streams.agents.decoding import letter
from streams.agents.services import Services
from streams.kafka.publisher import Outgoing
from streams.state.tables import write_state
from streams.state.write_buffer import WriteBuffer
from streams.transport.batch import RecordBatch
from trainers.pairs.book import PairBook
from trainers.pairs.funnel import Funnel


class PairAgent:
    """Pairs the answers of each partition."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._table = services.tables[topics.ANSWERS_TABLE]
        self._books: dict[int, PairBook] = {}

    def forget(self) -> None:
        """Drop what was derived from the table: partitions may have moved."""
        self._books.clear()

    async def process(self, batch: RecordBatch) -> None:
        """Decide one chunk of answers."""
        book = self._book(batch.partition)
        overlay = WriteBuffer(self._table, batch.partition)
        topic = self._services.settings.topic(topics.PAIRS)
        outgoing: list[Outgoing] = []
        outcomes: Counter[str] = Counter()
        letters = []
        for record in batch.records:
            try:
                answers = Answer.each_from(record.value or b"")
            except ValueError as error:
                letters.append(letter(batch, record, "invalid_answer", str(error)))
                continue
            for answer, encoded in answers:
                decision = book.decide(answer, record.offset, encoded)
                outcomes[decision.outcome] += 1
                outgoing += [Outgoing(topic, 0, pair.pair_id.encode(), pair.to_json()) for pair in decision.pairs]
                for key, value in decision.writes:
                    overlay.set(key, value)
        outgoing += self._services.dead_letters(letters)
        outcomes["dead_lettered"] = len(letters)
        await self._services.publisher.publish(outgoing)
        await write_state(self._services.publisher, [overlay])
        self._services.metrics.count(topics.ANSWERS, outcomes)

    def funnel(self, partition: int) -> Funnel:
        """Return the pair funnel of one partition."""
        return self._book(partition).funnel()

    def _book(self, partition: int) -> PairBook:
        if partition not in self._books:
            book = PairBook(self._services.settings.pairs)
            for key, value in self._table.items(partition):
                book.load(key, value)
            self._books[partition] = book
        return self._books[partition]
