"""The one class that writes traces to disk and reads them back: what it has written, it finds.

`traces-<partition>-<epoch>.jsonl` holds one JSON object a line: a trace with `partition` and `offset`. Whoever takes
over a partition writes to the file of a new epoch, so that two writers never share one.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter

from schemas.events import Trace
from trainers.files import claim_number

_OWN_NAME = re.compile(r"traces-(\d+)-(\d+)\.jsonl")
_LEGACY_NAME = "traces.jsonl"


@dataclass(frozen=True, slots=True)
class _Place:
    partition: int
    offset: int


_PLACE = TypeAdapter(_Place)


@dataclass(frozen=True, slots=True)
class StoredTrace:
    """A trace and where it came from; those of the replaced system have no partition and offset."""

    trace: Trace
    file: str
    partition: int | None = None
    offset: int | None = None


class TraceWriter:
    """Appends the traces of one partition to its newest file; made by `TraceStore.open_writer`.

    Args:
        path: the file of this epoch, which nobody else writes.
        partition: the partition of the input topic.
        epoch: count of takeovers of the partition.
        last_offset: highest offset that is stored, -1 for none.
        known: ids that are stored in this partition.
    """

    def __init__(self, path: Path, partition: int, epoch: int, last_offset: int, known: set[str]) -> None:
        self.path = path
        self.partition = partition
        self.epoch = epoch
        self.last_offset = last_offset
        self._known = known
        self._file = path.open("ab", buffering=0)

    def unseen(self, records: Sequence[tuple[int, Trace]]) -> list[tuple[int, Trace]]:
        """Return the records that are not stored, repeats among themselves left out.

        A trace counts as done once it is stored, so what it leads to must be published before it is appended.
        """
        new: dict[str, tuple[int, Trace]] = {}
        for offset, trace in records:
            if offset > self.last_offset and trace.trace_id not in self._known:
                new.setdefault(trace.trace_id, (offset, trace))
        return list(new.values())

    def append(self, records: Sequence[tuple[int, Trace]]) -> list[Trace]:
        """Store those of the records that are new, durably, and return them.

        Args:
            records: offset and trace, offsets ascending.

        Raises:
            OSError: the disk is full or gone; what was written in part is cut again.
        """
        new = self.unseen(records)
        if new:
            self._write(b"".join(self._line(offset, trace) for offset, trace in new))
            self.last_offset = new[-1][0]
            self._known.update(trace.trace_id for _, trace in new)
        return [trace for _, trace in new]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, offset: int, trace: Trace) -> bytes:
        return b'{"partition":%d,"offset":%d,' % (self.partition, offset) + trace.to_json()[1:] + b"\n"

    def _write(self, data: bytes) -> None:
        size = self._file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise


class TraceStore:
    """The traces in a folder, whoever wrote them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped: Counter[str] = Counter()
        """Undecodable lines of the latest complete reading, by file name."""

    def open_writer(self, partition: int) -> TraceWriter:
        """Take over a partition: cut what its last writer left unfinished, and claim the next file.

        Raises:
            OSError: the folder cannot be written.
        """
        epoch, path = claim_number(self.folder, f"traces-{partition}-{{}}.jsonl")
        last_offset, known = -1, set()
        for _, earlier in self._own_files(partition):
            if earlier != path:
                _cut_torn_line(earlier)
            for stored in self._read_own(earlier, Counter()):
                known.add(stored.trace.trace_id)
                last_offset = max(last_offset, -1 if stored.offset is None else stored.offset)
        return TraceWriter(path, partition, epoch, last_offset, known)

    def read(self) -> Iterator[StoredTrace]:
        """Yield every trace once, partition by partition in the order of writing.

        Lines that cannot be decoded are skipped and counted in `skipped`; a last line that is still being written,
        or was torn by a crash, is no trace yet.
        """
        skipped: Counter[str] = Counter()
        seen: set[str] = set()
        for _, path in self._own_files():
            for stored in self._read_own(path, skipped):
                if stored.trace.trace_id not in seen:
                    seen.add(stored.trace.trace_id)
                    yield stored
        self.skipped = skipped

    def old_files(self) -> list[Path]:
        """Return the files of the replaced system: `traces.jsonl`, and one trace each in `*.json`."""
        if not self.folder.is_dir():
            return []
        old = self.folder / _LEGACY_NAME
        return [*([old] if old.is_file() else []), *sorted(self.folder.glob("*.json"))]

    def _own_files(self, partition: int | None = None) -> list[tuple[tuple[int, int], Path]]:
        if not self.folder.is_dir():
            return []
        matches = ((_OWN_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        files = [((int(match[1]), int(match[2])), path) for match, path in matches if match]
        return sorted(file for file in files if partition in (None, file[0][0]))

    def _read_own(self, path: Path, skipped: Counter[str]) -> Iterator[StoredTrace]:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    place = _PLACE.validate_json(line)
                    yield StoredTrace(Trace.from_json(line), path.name, place.partition, place.offset)
                except ValueError:
                    skipped[path.name] += 1


def _cut_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - 65536)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)
            os.fsync(file.fileno())
