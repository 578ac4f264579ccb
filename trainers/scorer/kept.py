"""Scorers in the registry: one that was relearned, and the one in use as far as it has learned."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.settings import ScorerSettings
from schemas.versions import VersionRecord
from trainers.files import write_atomically
from trainers.scorer.architecture import architecture
from trainers.scorer.checkpoint import architecture_of
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.model import Arrays
from trainers.scorer.reading import VERSION_FILE, encode, header, readable_checkpoints
from trainers.scorer.snapshot import Snapshot
from trainers.versions import VersionStore, library_versions, version_name


def add_scorer(store: VersionStore, arrays: Arrays, meta: dict[str, Any], **fields: Any) -> str:
    """Put a scorer into the registry, with further fields of its record, and return the version's name.

    Raises:
        OSError: the disk is full or read-only; nothing was added.
    """
    version = version_name("scorer", header(arrays, meta))
    record = VersionRecord(
        tier="scorer",
        version=version,
        created_at=datetime.now(UTC),
        libraries=library_versions("torch", "numpy", "safetensors"),
        seed=meta["seed"],
        **fields,
    )
    with store.staging(version) as folder:
        write_atomically(folder / VERSION_FILE, encode(arrays, meta))
        store.add(record, folder)
    return version


def keep_in_use(store: VersionStore, data_dir: Path | str, settings: ScorerSettings) -> str:
    """Return the version that holds the scorer in use, as far as it has learned, so that there is a way back to it.

    Before the first checkpoint that is its first weights, which learn the retained stream from its start.

    Raises:
        VersionError: the registry cannot be read.
        OSError: the disk is full or read-only; nothing was added.
    """
    history = store.in_use("scorer")
    newest = next(readable_checkpoints(Path(data_dir) / "scorer"), None)
    if newest is None or newest[1]["changes"] < len(history.history):
        if history.version is not None:
            return history.version  # nobody has gone on from it yet
        first = Snapshot.of(OnlineLearner(settings))
        newest = first.arrays, first.meta
    arrays, meta = newest
    return add_scorer(
        store,
        arrays,
        meta,
        parent_version=meta.get("base"),
        reason=f"the scorer in use, as it was at step {meta['step']}",
        metrics={"end_offset": meta["next_offset"], "step": meta["step"], **meta["validated"]},
        settings=meta["architecture"],
    )


def settings_needed(store: VersionStore, version: str, settings: ScorerSettings) -> tuple[dict[str, Any], list[str]]:
    """Return what the settings would have to be for a version: names with values, and what no setting can change.

    Raises:
        VersionError: there is no such version, or it is not as it was added.
    """
    found, wanted = architecture_of(store, version), architecture(settings)
    differing = {key: found.get(key) for key in wanted if found.get(key) != wanted[key]}
    # The embedder can be set, but the retained entries were made with one.
    can_be_set = set(ScorerSettings.model_fields) - {"embedder"}
    follows = {"parameters"} if "rank" in differing else set()
    needed = {key: value for key, value in differing.items() if key in can_be_set}
    return needed, sorted(differing.keys() - needed.keys() - follows)
