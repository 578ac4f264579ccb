"""Runs of examples: the k-th run of `threshold` distinct ids, in the order of a one-partition topic, starts a job.

One table key an id. Its record says where the id stands in the topic's order, where its run began and whether it
closed it, so a single write is a whole transition, and a changed threshold moves only the end of the open run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from pydantic_core import from_json, to_json

Write = tuple[bytes, bytes | None]


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
    """Count of distinct ids before this one."""
    start: int
    """Sequence of the first id of its run."""
    closes: bool
    """Whether the run ends with it."""
    offset: int
    """Input offset at which the id was first seen."""
    content: str | None = None
    """The example, while its run is open."""

    def encode(self) -> bytes:
        """Return the table value."""
        fields = {"sequence": self.sequence, "start": self.start, "closes": self.closes, "offset": self.offset}
        return to_json(fields if self.content is None else {**fields, "content": self.content})

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
        return len(self._records) - self._open_start()

    def pending(self) -> CompletedRun:
        """Return the examples of the open run as if it were complete."""
        ids = [self._with_content[place] for place in range(self._open_start(), len(self._records))]
        return CompletedRun(tuple(ids), tuple((self._records[name].content or "").encode() for name in ids))

    def load(self, key: bytes, value: bytes) -> None:
        """Take in one key of the table, in any order.

        Raises:
            ValueError: the value is not a table value of this book.
        """
        self._put(key.decode(), RunRecord.decode(value))

    def add(self, example_id: str, content: bytes, offset: int) -> Added:
        """Count one example; an id that is known changes nothing.

        Args:
            example_id: what makes examples distinct.
            content: one line of the dataset, UTF-8 without newline.
            offset: where the example stands in the topic.
        """
        known = self._records.get(example_id)
        if known is not None:
            return Added(self._freed(known.start) if known.closes else (), None, repeated=True)
        sequence, start = len(self._records), self._open_start()
        if sequence + 1 - start < self._threshold:
            record = RunRecord(sequence, start, closes=False, offset=offset, content=content.decode())
            return Added((self._put(example_id, record),), None, repeated=False)
        ids = [self._with_content[place] for place in range(start, sequence)]
        contents = [(self._records[name].content or "").encode() for name in ids]
        written = self._put(example_id, RunRecord(sequence, start, closes=True, offset=offset))
        completed = CompletedRun((*ids, example_id), (*contents, content))
        return Added((written, *self._freed(start)), completed, repeated=False)

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
        if record.content is None:
            self._with_content.pop(record.sequence, None)
        else:
            self._with_content[record.sequence] = name
        if self._last is None or record.sequence >= self._last.sequence:
            self._last = record
        return name.encode(), record.encode()
