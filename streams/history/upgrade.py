"""Taking over a deployment of the release before this one, which had one consumer group and a log of steps.

The retained history (`scorer-entries`) is copied into `scorer-log` with its features in this release's layout, a scorer
that has learned all of it becomes a version of the registry that the log puts into use behind it, and the new groups
begin where the old one stopped: nothing is published or paired anew. The old checkpoints stay where they are, unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.errors import StateError
from schemas.events import ItemType
from schemas.records import (
    FEATURES_PER_ITEM,
    Arrival,
    Configure,
    Joined,
    Learning,
    Origin,
    ScorerEntry,
    encode_joined,
)
from schemas.settings import Settings
from schemas.vectors import EMBEDDING_SIZE
from streams import topics
from streams.kafka.admin import apply_configs, ensure_topics, topic_states
from streams.kafka.lag import committed_offsets, members_of
from streams.kafka.options import broker_errors, client_options
from streams.kafka.publisher import Outgoing, Publisher
from streams.state.scorer_log import LogItem, LogReader, publish_control
from streams.state.scorer_state import Progress, ScorerState
from streams.state.upgrade_check import ENTRIES, UNFINISHED, has_log
from streams.topics import TopicSpec
from trainers.features import FEATURES, log_share
from trainers.files import write_atomically
from trainers.scorer.architecture import architecture
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.fold import ScorerFold
from trainers.scorer.kept import add_scorer
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.log_settings import learning_settings
from trainers.scorer.reading import checkpoints_of_before, read_header
from trainers.scorer.snapshot import Snapshot, check_architecture
from trainers.versions import VersionStore


class _Entry(msgspec.Struct, frozen=True):
    """An entry as that release wrote it: a line of JSON, then the features that it brings."""

    kind: Literal["arrived", "feedback"]
    experience_id: str
    feedback_id: str | None
    origin: Origin
    received_at: float
    query_hash: str
    intent_type: str
    item_ids: tuple[str, ...]
    item_types: tuple[ItemType, ...]
    rewards: tuple[float | None, ...]
    arrival: Arrival


_decode = msgspec.json.Decoder(_Entry).decode

_COUNTED = {"item_length_log": ("item_length", 64), "item_lines_log": ("item_lines", 8)}
"""Features that it had not: which of its own to take them from, and what that counted to."""

LAYOUT_OF_BEFORE = [feature.name for feature in FEATURES if feature.name not in _COUNTED]
"""Names of that release's structured features, in order."""
LAYOUT_OF_BEFORE.insert(28, "has_size")
LAYOUT_OF_BEFORE.insert(34, "devices_in_domains")


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What was taken over."""

    entries: int
    """Entries of the old log."""
    version: str | None
    """The scorer that learned them; None where the old release had no checkpoint, and the worker learns them."""
    step: int
    """Steps that it took."""
    partitions: int
    """Partitions whose committed offset the new groups have."""


async def upgrade(settings: Settings, progress: Progress) -> Upgraded:
    """Take the deployment over; one that was cut short goes on where it stopped.

    Raises:
        StateError: there is nothing to take over, or workers of the old release still run.
        ArchitectureMismatchError: the old entries were made with another embedder than the settings have.
        ConnectionFailedError: the broker cannot be reached.
    """
    folder = Path(settings.data_dir) / "scorer"
    [old] = await topic_states(settings, [TopicSpec(settings.topic(ENTRIES), 1)])
    unfinished = folder / UNFINISHED
    if old.condition == "missing" or not (unfinished.exists() or not await has_log(settings)):
        raise StateError(
            f"there is nothing to take over: {old.spec.name} is missing, or was taken over before",
            "look at topics.prefix and --data-dir, or just start a worker",
        )
    if await members_of(settings, settings.group_id):
        raise StateError(f"workers of the old release run in group {settings.group_id}", "stop them first")
    checkpoint = next(iter(checkpoints_of_before(folder / "checkpoints")), None)
    if checkpoint is not None:
        wanted = architecture(settings.scorer)
        found = {**wanted, "embedder": read_header(checkpoint)["architecture"]["embedder"]}
        check_architecture(found, wanted, f"checkpoint {checkpoint.name}")
    write_atomically(unfinished, b"")
    specs = topics.topic_specs(settings)
    # That release had the join's time on answers; how long they wait follows from the broker's.
    await apply_configs(settings, [spec for spec in specs if spec.name == settings.topic(topics.ANSWERS)])
    await ensure_topics(settings, specs)
    publisher = Publisher(client_options(settings))
    with broker_errors(settings):
        await publisher.start()
        try:
            entries = await _copy(settings, publisher, progress)
            version, step = await _learn_again(settings, publisher, checkpoint)
            partitions = await _take_offsets(settings)
            if (folder / "paused.json").exists():
                await publish_control(settings, publisher, Learning(paused=True))
        finally:
            await publisher.stop()
    unfinished.unlink()
    return Upgraded(entries, version, step, partitions)


async def _copy(settings: Settings, publisher: Publisher, progress: Progress) -> int:
    """Copy the old log's entries behind what an upgrade before has copied; return how many there are."""
    async with LogReader(settings) as reader:
        # Counted as they come: together with their features they may not fit into memory.
        entries_of = [
            len(item.record.entries) if isinstance(item.record, Joined) else 0
            async for items in reader.read(0, None)
            for item in items
        ]
    if not entries_of:
        await publish_control(settings, publisher, Configure(learning_settings(settings.scorer)))
    topic, copied, count = settings.topic(topics.SCORER_LOG), sum(entries_of), 0
    async for entries, end in _old_entries(settings):
        fresh = entries[max(0, copied - count) :]
        count += len(entries)
        await publisher.publish([Outgoing(topic, 0, None, record) for record in encode_joined(fresh)])
        progress(min(count, end), end)
    return count


async def _old_entries(settings: Settings) -> AsyncIterator[tuple[list[ScorerEntry], int]]:
    """Yield the old log's entries in chunks, with the topic's end; unreadable ones had become dead letters."""
    async with LogReader(settings, ENTRIES) as reader:
        end = await reader.end()
        async for records in reader.raw(await reader.first(), None):
            entries = []
            for record in records:
                head, _, features = (record.value or b"").partition(b"\n")
                try:
                    entry = _decode(head)
                except (msgspec.DecodeError, RecursionError):
                    continue
                entries.append(ScorerEntry(**msgspec.structs.asdict(entry), features=in_this_layout(features)))
            yield entries, end


def in_this_layout(features: bytes) -> bytes:
    """Return an entry's features as this release lays them out.

    That release ended counting at 64 words and 8 lines, so that longer answers count as being of that length.
    """
    vector = np.frombuffer(features, "<f4").copy()
    structured = vector[EMBEDDING_SIZE:].reshape(-1, FEATURES_PER_ITEM)[:, EMBEDDING_SIZE:]
    before = dict(zip(LAYOUT_OF_BEFORE, structured.T.copy(), strict=True))
    for place, feature in enumerate(FEATURES):
        if feature.name in _COUNTED:
            of, most = _COUNTED[feature.name]
            structured[:, place] = [log_share(share * most) for share in before[of].tolist()]
        else:
            structured[:, place] = before[feature.name]
    return vector.tobytes()


async def _learn_again(settings: Settings, publisher: Publisher, checkpoint: Path | None) -> tuple[str | None, int]:
    """Put a scorer into use that learns all of the copied history, and leave a checkpoint of what that gives."""
    if checkpoint is None:
        return None, 0
    store, reason = VersionStore(settings.data_dir), "first weights, to learn what the release before this one retained"
    first = Snapshot.of(OnlineLearner(settings.scorer))
    version = await asyncio.to_thread(
        add_scorer, store, first.arrays, first.meta, reason=reason, settings=first.meta["architecture"]
    )
    store.promote(version, reason)
    history, epoch = store.in_use("scorer").history, _last_epoch(settings, int(read_header(checkpoint)["epoch"]))
    learning = learning_settings(settings.scorer)
    control = Configure(learning, version, len(history), epoch + 1)
    receipt = await publish_control(settings, publisher, control)
    with TemporaryDirectory(prefix="tierstream-features-") as features:
        state = ScorerState(settings, Path(features))
        state.fold = ScorerFold(learning).arrive(receipt.offset - 1)
        await state.take(LogItem(receipt.offset, 0.0, control))
        state.features.close()
        CheckpointStore(Path(settings.data_dir) / "scorer", settings.scorer).save(state.fold.snapshot())
    return version, state.fold.learner.step


def _last_epoch(settings: Settings, at_least: int) -> int:
    """Return the highest epoch that an owner of the old release has claimed, so that ours is above it."""
    claimed = (Path(settings.data_dir) / "scorer" / "epochs").glob("epoch-*")
    return max((int(path.name.rpartition("-")[2]) for path in claimed), default=at_least)


async def _take_offsets(settings: Settings) -> int:
    """Let the new groups begin where the old one stopped; return the count of partitions."""
    taken = 0
    for role in topics.ROLES:
        inputs = sorted(topics.batch_topics(settings, role) - {settings.topic(topics.SCORER_LOG)})
        offsets = {
            tp: offset
            for tp, offset in (await committed_offsets(settings, settings.group_id, inputs)).items()
            if offset is not None
        }
        if offsets:
            await _commit(settings, topics.group(settings, role), offsets)
        taken += len(offsets)
    return taken


async def _commit(settings: Settings, group: str, offsets: dict[TopicPartition, int]) -> None:
    async with AIOKafkaConsumer(group_id=group, enable_auto_commit=False, **client_options(settings)) as consumer:
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
