"""Runs of examples: the k-th run of `threshold` distinct ids, in the order of a one-partition topic, starts a job.

One table key an id. Its record says where the id stands in the topic's order, where its run began and whether it
closed it, so a single write is a whole transition, and a changed threshold moves only the end of the open run.

Examples that are good or bad by themselves make a run of both: what is too much of one side for the open run is held
back for the next one, in the order in which it came.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Self

from pydantic_core import from_json, to_json

from trainers.pairs.unpaired import LEAST_SHARE, least_of_a_side

Write = tuple[bytes, bytes | None]

HELD = -1
"""Sequence of an example that is in no run yet."""


@dataclass(frozen=True, slots=True)
class CompletedRun:
    """The examples of one job, in the topic's order."""

    ids: tuple[str, ...]
    contents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Added:
    """What one example leads to: a job where it completes a run, then table writes to make in this order."""

    writes: tuple[Write, ...]
    completed: CompletedRun | None
    repeated: bool


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the table remembers of one id; the content only until its run has closed."""

    sequence: int
    """Count of distinct ids before this one in runs; `HELD` while it is in none."""
    start: int
    """Sequence of the first id of its run."""
    closes: bool
    """Whether the run ends with it."""
    offset: int
    """Input offset at which the id was first seen."""
    content: str | None = None
    """The example, while its run is open."""
    good: bool | None = None
    """Which side it is on; None where examples have none."""

    @property
    def is_held(self) -> bool:
        """Whether it waits for the next run."""
        return self.sequence == HELD

    def encode(self) -> bytes:
        """Return the table value, without what is None."""
        return to_json({name: value for name in self.__slots__ if (value := getattr(self, name)) is not None})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a table value.

        Raises:
            ValueError: the value is not of this form.
        """
        return cls(**from_json(data))


class BatchAccumulator:
    """The ids seen so far and the open run.

    Args:
        threshold: a run closes once it has at least so many ids.
    """

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._records: dict[str, RunRecord] = {}
        self._with_content: dict[int, str] = {}
        self._held: dict[str, RunRecord] = {}
        self._placed = 0
        self._last: RunRecord | None = None
        self._jobs = 0

    @property
    def seen(self) -> int:
        """Count of distinct ids."""
        return len(self._records)

    @property
    def jobs(self) -> int:
        """Count of runs that have closed."""
        return self._jobs

    @property
    def waiting(self) -> int:
        """Count of ids in the open run."""
        return self._placed - self._open_start()

    @property
    def held(self) -> int:
        """Count of ids that the open run has too many of their side for."""
        return len(self._held)

    def pending(self) -> CompletedRun:
        """Return the examples of the open run as if it were complete."""
        ids = [self._with_content[place] for place in range(self._open_start(), self._placed)]
        return CompletedRun(tuple(ids), tuple((self._records[name].content or "").encode() for name in ids))

    def load(self, key: bytes, value: bytes) -> None:
        """Take in one key of the table, in any order.

        Raises:
            ValueError: the value is not a table value of this book.
        """
        self._put(key.decode(), RunRecord.decode(value))

    def add(self, example_id: str, content: bytes, offset: int, good: bool | None = None) -> Added:
        """Count one example; an id that is known changes nothing.

        Args:
            example_id: what makes examples distinct.
            content: one line of the dataset, UTF-8 without newline.
            offset: where the example stands in the topic.
            good: which side it is on, where examples have sides: then a run has at least a quarter of each.
        """
        known = self._records.get(example_id)
        if known is not None:
            return Added(self._freed(known.start) if known.closes else (), None, repeated=True)
        taken_up = self._take_up()
        record = RunRecord(HELD, HELD, closes=False, offset=offset, content=content.decode(), good=good)
        sides = self._sides()
        if not self._has_room(good, sides):
            return Added((*taken_up, self._put(example_id, record)), None, repeated=False)
        record = replace(record, sequence=self._placed, start=self._open_start())
        if not self._closes(good, sides):
            return Added((*taken_up, self._put(example_id, record)), None, repeated=False)
        before = self.pending()
        written = self._put(example_id, replace(record, closes=True, content=None))
        completed = CompletedRun((*before.ids, example_id), (*before.contents, content))
        return Added((*taken_up, written, *self._freed(record.start)), completed, repeated=False)

    def _take_up(self) -> tuple[Write, ...]:
        """Return the writes that place those who were held back, as far as there is room; they never close a run."""
        writes = []
        for name, record in sorted(self._held.items(), key=lambda item: item[1].offset):
            sides = self._sides()
            if self._has_room(record.good, sides) and not self._closes(record.good, sides):
                placed = replace(record, sequence=self._placed, start=self._open_start())
                writes.append(self._put(name, placed))
        return tuple(writes)

    def _sides(self) -> Counter[bool | None]:
        """Return how many of each side the open run has."""
        places = range(self._open_start(), self._placed)
        return Counter(self._records[self._with_content[place]].good for place in places)

    def _has_room(self, good: bool | None, sides: Counter[bool | None]) -> bool:
        if good is None:
            return True
        most = self._threshold - least_of_a_side(self._threshold)
        return sides[good] < max(most, sides[not good])

    def _closes(self, good: bool | None, sides: Counter[bool | None]) -> bool:
        """Whether one more of this side makes the open run a whole one."""
        total = sides.total() + 1
        if total < self._threshold or good is None:
            return total >= self._threshold
        return min(sides[good] + 1, sides[not good]) * LEAST_SHARE >= total

    def _open_start(self) -> int:
        if self._last is None:
            return 0
        return self._last.sequence + 1 if self._last.closes else self._last.start

    def _freed(self, start: int) -> tuple[Write, ...]:
        """Return the writes that drop the contents of the closed run that began at `start`."""
        places = range(start, self._open_start())
        names = [self._with_content[place] for place in places if place in self._with_content]
        return tuple(
            self._put(name, replace(record, content=None))
            for name in names
            if (record := self._records[name]).start == start
        )

    def _put(self, name: str, record: RunRecord) -> Write:
        before = self._records.get(name)
        self._jobs += record.closes - (before is not None and before.closes)
        self._records[name] = record
        if record.is_held:
            self._held[name] = record
            return name.encode(), record.encode()
        self._placed += before is None or before.is_held
        self._held.pop(name, None)
        if record.content is None:
            self._with_content.pop(record.sequence, None)
        else:
            self._with_content[record.sequence] = name
        if self._last is None or record.sequence >= self._last.sequence:
            self._last = record
        return name.encode(), record.encode()
