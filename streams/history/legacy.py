"""Trace files of the replaced system in the data directory: the worker reports them until they are imported."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from schemas.events import Trace
from schemas.settings import Settings
from streams.imports.files import Files
from streams.imports.found import Bad, Ready, Record
from streams.imports.tierstream import FORMAT
from trainers.traces.store import StoredTrace, TraceStore

log = logging.getLogger("tierstream")


def old_traces(store: TraceStore) -> tuple[list[StoredTrace], Counter[str]]:
    """Return the traces of old files, each once, and the count of what is no trace by file.

    Raises:
        InputError: a file that is there cannot be read.
    """
    found: dict[str, StoredTrace] = {}
    skipped: Counter[str] = Counter()
    for path in store.old_files():
        for one in FORMAT.read(_whole(Files([path]).read(), path, skipped)):
            if isinstance(one, Ready) and isinstance(one.event, Trace):
                found.setdefault(one.event.trace_id, StoredTrace(one.event, path.name))
            else:
                skipped[path.name] += 1
    return list(found.values()), skipped


def tell_of_old_traces(settings: Settings) -> int:
    """Log how many traces of old files are not in the store, and the command that takes them in; return how many.

    Raises:
        InputError: a file that is there cannot be read.
    """
    store = TraceStore(Path(settings.data_dir) / "traces")
    old, _ = old_traces(store)
    stored = {one.trace.trace_id for one in store.read()} if old else set()
    unseen = sum(one.trace.trace_id not in stored for one in old)
    if unseen:
        log.warning("%d traces of the replaced system are not in the stream: %s", unseen, remedy(store))
    return unseen


def remedy(store: TraceStore) -> str:
    """Return the command that takes the old files of a store in."""
    files = store.old_files()
    return f"tierstream import tierstream {' '.join(map(str, files)) if len(files) < 4 else store.folder}"


def _whole(records: Iterable[Record | Bad], path: Path, skipped: Counter[str]) -> Iterable[Record]:
    for record in records:
        if isinstance(record, Bad):
            skipped[path.name] += 1
        else:
            yield record
