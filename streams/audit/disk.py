"""What lies in the data directory: the scorer's checkpoint, traces, jobs, model versions, and how large it all is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from schemas.errors import TierstreamError
from schemas.events import ModelLine, ModelTier
from schemas.settings import Settings
from schemas.versions import TIERS, NotServed
from streams.history.legacy import old_traces
from streams.training.jobs_on_disk import job_folders, job_on_disk, read_json
from trainers.scorer.checkpoint_file import CheckpointFile, newest_file
from trainers.serving import refusals
from trainers.traces.store import StoredTrace, TraceStore
from trainers.versions import VersionStore

ADAPTER_NAME = "adapter_config.json"
_BLOCK_BYTES = 512  # POSIX: what `st_blocks` counts, whatever the file system's own blocks are


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file or folder of the data directory."""

    path: str
    """Relative to the data directory."""
    size_bytes: int
    """On the disk: a sparse file, as RocksDB and Kafka make, is longer than what it takes."""
    written_at: float
    """Epoch seconds; of a folder, when anything in it was last written."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The data directory at one moment."""

    folder: Path
    checkpoint: CheckpointFile | None
    checkpoints_refused: tuple[str, ...]
    """Unreadable checkpoint files."""
    traces: tuple[StoredTrace, ...]
    traces_skipped: dict[str, int]
    """Undecodable lines by file."""
    jobs: dict[str, dict[str, Any]]
    """By id: what `job_on_disk` returns."""
    versions: dict[str, list[dict[str, Any]]]
    """By line: every version's manifest, with `path` and, where it has one, its `adapter`."""
    in_use: dict[str, dict[str, Any]]
    """By line: what is in use, the newest entry of its history."""
    artefacts: tuple[Artefact, ...]
    missing_start: TierstreamError | None = None
    """What is to be decided before jobs run, where release 0.1 left a line for each tier."""
    not_served: Mapping[ModelLine, NotServed] = field(default_factory=dict)
    """By line: the version that the server did not take, where there is one."""


def look_at(settings: Settings) -> OnDisk:
    """Read the data directory; what is not there yet is empty.

    Raises:
        OSError: a file that is there cannot be read.
        InputError: the same, of an old trace file.
    """
    folder = Path(settings.data_dir)
    checkpoint, refused = newest_file(folder / "scorer")
    traces = TraceStore(folder / "traces")
    stored = {one.trace.trace_id: one for one in traces.read()}
    old, skipped = old_traces(traces)
    stored |= {one.trace.trace_id: one for one in old if one.trace.trace_id not in stored}
    versions = VersionStore(folder)
    return OnDisk(
        folder=folder,
        checkpoint=checkpoint,
        checkpoints_refused=tuple(refused),
        traces=tuple(stored.values()),
        traces_skipped=dict(traces.skipped + skipped),
        jobs={path.name: job for path in job_folders(folder) if (job := job_on_disk(path)) is not None},
        versions={line: list(_versions(versions, line)) for line in TIERS},
        in_use={line: found for line in TIERS if (found := _in_use(versions, line))},
        artefacts=tuple(_artefacts(folder)),
        missing_start=versions.missing_start(),
        not_served=refusals(folder),
    )


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _versions(store: VersionStore, line: ModelLine) -> Iterator[dict[str, Any]]:
    for record in store.versions(line):
        folder = store.folder(record.version)
        adapters = sorted(folder.rglob(ADAPTER_NAME))
        yield {
            **record.model_dump(mode="json"),
            "path": f"models/{record.tier}/{record.version}",
            "bytes": _size(folder)[0],
            "adapter": read_json(adapters[0]) if adapters else None,
        }


def _in_use(store: VersionStore, line: ModelLine) -> dict[str, Any] | None:
    newest = store.in_use(line).selection
    return None if newest is None else newest.model_dump(mode="json")


def _artefacts(folder: Path) -> Iterator[Artefact]:
    for name in ("scorer/checkpoints", "traces"):
        place = folder / name
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            yield _artefact(folder, path)
    for name in ("jobs", *(f"models/{tier}" for tier in get_args(ModelTier))):
        for path in _folders(folder / name):
            yield _artefact(folder, path)
    for name in ("state", "broker"):
        if (folder / name).is_dir():
            yield _artefact(folder, folder / name)


def _artefact(folder: Path, path: Path) -> Artefact:
    size, written = _size(path)
    return Artefact(str(path.relative_to(folder)), size, written)


def _size(path: Path) -> tuple[int, float]:
    size, newest = 0, 0.0
    for file in [path, *path.rglob("*")]:
        try:
            there = file.stat()
        except FileNotFoundError:  # the worker tidies while we look
            continue
        newest = max(newest, there.st_mtime)
        size += there.st_blocks * _BLOCK_BYTES if file.is_file() else 0
    return size, newest
