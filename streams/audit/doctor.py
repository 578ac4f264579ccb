"""What is in effect, where it came from, and what stands in the way of a start."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from schemas.config import LoadedSettings, setting_value
from schemas.errors import ArchitectureMismatchError, TierstreamError
from schemas.settings import Settings
from streams import topics
from streams.broker.java import find_java
from streams.kafka.admin import REMEDIES, topic_states
from streams.state.manifest import check_state
from trainers.embedding import build_embedder
from trainers.scorer.architecture import architecture
from trainers.scorer.checkpoint import CheckpointStore, check_start
from trainers.scorer.network import build_network, parameter_count
from trainers.serving import Server, in_use
from trainers.versions import VersionStore

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    detail: str


def examine(loaded: LoadedSettings) -> dict[str, Any]:
    """Return `settings` (value and source by key), `scorer_parameters`, `scorer_architecture` and `checks`."""
    settings = loaded.settings
    checks = [check(settings) for check in _CHECKS]
    return {
        "settings": {
            key: {"value": setting_value(settings, key), "source": source} for key, source in loaded.sources.items()
        },
        "scorer_parameters": parameter_count(build_network(settings.scorer)),
        "scorer_architecture": architecture(settings.scorer),
        "checks": checks,
    }


def _scorer(settings: Settings) -> Check:
    try:
        count = parameter_count(build_network(settings.scorer))
    except ArchitectureMismatchError as error:
        return Check("scorer", "failed", str(error))
    return Check("scorer", "ok", f"rank {settings.scorer.rank} has {count:,} parameters, read from the built network")


def _checkpoint(settings: Settings) -> Check:
    store = CheckpointStore(Path(settings.data_dir) / "scorer", settings.scorer)
    try:
        snapshot = store.load()
        if snapshot is not None:
            check_start(snapshot, settings.data_dir, settings.scorer)
    except TierstreamError as error:
        return Check("checkpoint", "failed", str(error))
    if store.refused:
        return Check("checkpoint", "warning", f"unreadable and passed over: {', '.join(store.refused)}")
    if snapshot is None:
        return Check("checkpoint", "ok", "none yet: the scorer starts from its first weights")
    if snapshot.meta["architecture"] != architecture(settings.scorer):
        return Check("checkpoint", "ok", "a worker goes on from the version in use, which fits the settings")
    return Check("checkpoint", "ok", f"epoch {snapshot.epoch}, step {snapshot.step} fits the settings")


def _embedder(settings: Settings) -> Check:
    name = settings.scorer.embedder
    try:
        build_embedder(settings.scorer)
    except TierstreamError as error:
        return Check("embedder", "failed", str(error))
    return Check("embedder", "ok", _EMBEDDERS[name])


def _version(settings: Settings) -> Check:
    try:
        version = VersionStore(settings.data_dir).in_use("scorer").version
    except TierstreamError as error:
        return Check("scorer version", "failed", str(error))
    return Check("scorer version", "ok", version or "none promoted: the scorer learns from its first weights on")


def _server(settings: Settings) -> Check:
    url = settings.serving.url
    if url is None:
        return Check("server", "ok", "serving.url is not set: nothing is loaded before a version is put into use")
    try:
        name = in_use(VersionStore(settings.data_dir))
        known = Server(settings.serving).models()
    except TierstreamError as error:
        return Check("server", "warning", str(error))
    if name not in known:
        return Check("server", "warning", f"{url} does not know {name}, which is in use: a trainer has it load that")
    return Check("server", "ok", f"{url} knows {name}, which is in use")


def _pause(settings: Settings) -> Check:
    snapshot = CheckpointStore(Path(settings.data_dir) / "scorer", settings.scorer).load()
    since = snapshot and snapshot.meta.get("paused_since")
    if since:
        at = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
        return Check("learning", "warning", f"paused since {at}: tierstream train --resume lets it go on")
    return Check("learning", "ok", "not paused, as of the newest checkpoint")


def _faust(settings: Settings) -> Check:
    if importlib.util.find_spec("faust._cython.streams") is None or os.environ.get("NO_CYTHON"):
        return Check("faust", "failed", "the compiled stream iterator is missing: install faust-streaming's wheel")
    return Check("faust", "ok", "the compiled stream iterator is in use")


def _data_dir(settings: Settings) -> Check:
    folder = Path(settings.data_dir).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check("data directory", "failed", f"{folder} cannot be written: give another one with --data-dir")
    return Check("data directory", "ok", str(folder))


def _state(settings: Settings) -> Check:
    try:
        check_state(settings, local=True, record=False)
    except TierstreamError as error:
        return Check("state", "failed", str(error))
    return Check("state", "ok", "what is on disk was written under these settings, or nothing is there yet")


def _java(settings: Settings) -> Check:
    try:
        java = find_java()
    except TierstreamError as error:
        return Check("java", "warning", str(error))
    return Check("java", "ok", f"{java.path}, version {java.version}, for the embedded Apache Kafka")


def _broker(settings: Settings) -> Check:
    try:
        states = asyncio.run(topic_states(settings, topics.topic_specs(settings)))
    except TierstreamError as error:
        return Check("broker", "failed", str(error))
    where = settings.kafka.bootstrap_servers
    if unfit := [state for state in states if state.fault is not None]:
        first = unfit[0]
        return Check("broker", "failed", f"{where}: {first.fault}: {REMEDIES[first.condition]}")
    missing = sum(state.condition == "missing" for state in states)
    if missing:
        return Check("broker", "warning", f"{where}: {missing} topics are missing: tierstream topics --create")
    return Check("broker", "ok", f"{where} has all {len(states)} topics")


def _partitions(settings: Settings) -> Check:
    count = settings.topics.partitions
    return Check("workers", "ok", f"up to {count} share the work, as topics.partitions is {count}; more would idle")


_EMBEDDERS = {
    "hash": "hash: word n-grams, some tens of microseconds a text",
    "minilm": "minilm: all-MiniLM-L6-v2, milliseconds a text that is not in the cache",
    "supplied": "supplied: events without embeddings are dead-lettered as missing_embedding",
}

_CHECKS: tuple[Callable[[Settings], Check], ...] = (
    _scorer,
    _checkpoint,
    _version,
    _server,
    _pause,
    _embedder,
    _faust,
    _data_dir,
    _state,
    _java,
    _broker,
    _partitions,
)
