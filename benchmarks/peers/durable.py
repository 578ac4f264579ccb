"""Durable state for engines that bring none: the join's in RocksDB with a changelog, the learner's in checkpoints."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from rocksdict import Options, Rdict, WriteOptions

from benchmarks.peers.deployment import Deployment
from benchmarks.peers.work import Joined, Known, Messages, OurLearner
from schemas.events import FeedbackSource
from schemas.settings import Settings
from trainers.reward import Judgement
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.snapshot import Snapshot

CHANGELOG = "changelog"
_known = msgspec.msgpack.Decoder(Known)
_latest = msgspec.msgpack.Decoder(dict[FeedbackSource, Judgement])
_encode = msgspec.msgpack.Encoder().encode


class Stored:
    """What the join keeps of one experience, as bytes by name: the cost of a feedback does not grow with their number.

    Args:
        get: returns a value of this experience.
        put: keeps one.
    """

    def __init__(self, get: Callable[[str], bytes | None], put: Callable[[str, bytes], None]) -> None:
        self._get, self._put = get, put

    @property
    def known(self) -> Known | None:
        """Nothing before it has arrived."""
        data = self._get("known")
        return None if data is None else _known.decode(data)

    @property
    def latest(self) -> dict[FeedbackSource, Judgement]:
        """Each source's judgement that counts."""
        data = self._get("latest")
        return {} if data is None else _latest.decode(data)

    def arrive(self, known: Known) -> None:
        """Keep the experience."""
        self._put("known", _encode(known))

    def has_seen(self, feedback_id: str) -> bool:
        """Whether this feedback was taken in before."""
        return self._get(f"seen/{feedback_id}") is not None

    def see(self, feedback_id: str, latest: dict[FeedbackSource, Judgement]) -> None:
        """Keep that a feedback was taken in, and what counts now."""
        self._put(f"seen/{feedback_id}", b"1")
        self._put("latest", _encode(latest))


class Store:
    """The join's state in a local RocksDB, and the changes that are to go into its changelog.

    The order that loses nothing: outputs are acknowledged, then `take`'s changes, then offsets are committed. A process
    that was killed may have more in its RocksDB than was acknowledged, so a start makes it anew of the changelog, as
    Kafka Streams does under `exactly_once_v2`.

    Args:
        folder: of the RocksDB.
        changes: what the changelog holds.
    """

    def __init__(self, folder: Path, changes: Iterable[tuple[bytes, bytes]] = ()) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._db = Rdict(str(folder), Options(raw_mode=True))
        without_log = WriteOptions()
        without_log.disable_wal = True
        self._db.set_write_options(without_log)
        for key, value in changes:
            self._db[key] = value
        self._changes: dict[bytes, bytes] = {}

    @classmethod
    async def open(cls, of: Deployment) -> Store:
        """Return the store as the changelog has it, which is created if it is missing."""
        await of.create_topics(CHANGELOG, partitions=1, compacted=True)
        return cls(of.folder / "state", await _read(of))

    def kept_of(self, experience_id: str) -> Stored:
        """Find what is kept of an experience."""

        def get(name: str) -> bytes | None:
            value: bytes | None = self._db.get(f"{experience_id}/{name}".encode())
            return value

        def put(name: str, value: bytes) -> None:
            key = f"{experience_id}/{name}".encode()
            self._db[key] = self._changes[key] = value

        return Stored(get, put)

    def take(self) -> Messages:
        """Return the changes since the last call."""
        changes, self._changes = self._changes, {}
        return list(changes.items())


async def _read(of: Deployment) -> Messages:
    found: Messages = []
    options: dict[str, Any] = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
    async with AIOKafkaConsumer(of.topic(CHANGELOG), bootstrap_servers=of.bootstrap, **options) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while not all(await asyncio.gather(*(_is_at(consumer, tp, end) for tp, end in ends.items()))):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += [(record.key, record.value) for record in records]
    return found


async def _is_at(consumer: AIOKafkaConsumer, tp: Any, end: int) -> bool:
    position: int = await consumer.position(tp)
    return position >= end


class CheckpointedLearner(OurLearner):
    """Tierstream's learner, which goes on from its newest checkpoint; one is written every 50 steps, beside the work.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        settings = Settings().scorer
        self._store, self._every = CheckpointStore(folder, settings), settings.checkpoint_every_steps
        snapshot = self._store.load()
        if snapshot is not None:
            snapshot.write_into(self.learner)
        self._saved = self.learner.step
        self._pool = ThreadPoolExecutor(1)
        self._saving: Future[Path] | None = None

    def learn(self, joined: list[Joined]) -> Messages:
        """Return the score updates."""
        updates = super().learn(joined)
        if self.learner.step >= self._saved + self._every:
            if self._saving is not None:
                self._saving.result()
            self._saved = self.learner.step
            self._saving = self._pool.submit(self._store.save, Snapshot.of(self.learner))
        return updates

    def close(self) -> None:
        """Wait until what was begun to be written is written."""
        self._pool.shutdown()
