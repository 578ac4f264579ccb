"""The consumers' library for Tier 1: ranks candidates in-process with the newest scorer, and follows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka import TopicPartition
from pydantic import ValidationError

from schemas.errors import InputError, TierstreamError
from schemas.events import ModelVersion, ScoreUpdate
from schemas.ranking import RankedItem, RankRequest
from schemas.settings import Settings
from streams import topics
from streams.kafka.consumer import Consumer
from streams.kafka.options import broker_errors
from trainers.embedding import Embedder
from trainers.scorer.ranking import embedder_of, rank
from trainers.scorer.reading import newest_first
from trainers.scorer.serving import FrozenScorer, newest_scorer

log = logging.getLogger("tierstream.reader")

OnUpdate = Callable[[ScoreUpdate], None]
OnVersion = Callable[[ModelVersion], None]


class ScorerReader:
    """Holds the newest scorer of a data directory; an async context manager.

    Weights come from the checkpoints, which a worker writes every `scorer.checkpoint_every_steps` steps and when it
    is idle; `score-updates` and `model-versions` tell when to look.

    Example::

        async with ScorerReader(settings) as reader:
            best = reader.rank(request)[0]

    Args:
        settings: data directory and broker.
        on_update: called with each score update; those of an epoch below the highest seen are void and left out.
        on_version: called with each change of the scorer in use.
        refresh_seconds: the files are looked at at most so often.
    """

    def __init__(
        self,
        settings: Settings,
        on_update: OnUpdate | None = None,
        on_version: OnVersion | None = None,
        refresh_seconds: float = 1.0,
    ) -> None:
        self._settings = settings
        self._on_update, self._on_version = on_update, on_version
        self._refresh = refresh_seconds
        self._epoch = 0
        self._loaded_from: tuple[list[Path], bytes] = ([], b"")
        self._scorer: FrozenScorer | None = None
        self._embedder: Embedder | None = None
        self._news = asyncio.Event()
        self._consumer: Consumer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._load()
        self._consumer = Consumer.of(self._settings, auto_offset_reset="latest")
        with broker_errors(self._settings):
            await self._consumer.__aenter__()
            try:
                self._consumer.assign(self._partitions())
                await self._consumer.seek_to_end()
            except BaseException:
                await self._consumer.stop()
                raise
        self._tasks = [asyncio.create_task(self._follow(self._consumer)), asyncio.create_task(self._keep_loading())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._consumer is not None:
            await self._consumer.stop()

    @property
    def scorer(self) -> FrozenScorer:
        """The scorer that ranks now.

        Raises:
            InputError: none has been written yet.
        """
        if self._scorer is None:
            raise InputError(
                f"{self._settings.data_dir} holds no scorer yet", "let a worker learn first, or name its data directory"
            )
        return self._scorer

    @property
    def step(self) -> int:
        """Optimizer updates in the life of the scorer that ranks now; 0 where there is none."""
        return 0 if self._scorer is None else self._scorer.about.step

    def rank(self, request: RankRequest) -> list[RankedItem]:
        """Return the candidates with their scores, the best first.

        Raises:
            InputError: there is no scorer yet.
            MissingEmbeddingError: the scorer needs embeddings that the request does not bring.
        """
        scorer = self.scorer
        assert self._embedder is not None  # comes with the scorer
        return rank(scorer, self._embedder, request)

    def _partitions(self) -> list[TopicPartition]:
        updates = self._settings.topic(topics.SCORE_UPDATES)
        found = [TopicPartition(updates, number) for number in range(self._settings.topics.partitions)]
        return [TopicPartition(self._settings.topic(topics.MODEL_VERSIONS), 0), *found]

    async def _follow(self, consumer: Consumer) -> None:
        versions = self._settings.topic(topics.MODEL_VERSIONS)
        async for record in consumer:
            try:
                if record.topic == versions:
                    self._take_version(ModelVersion.from_json(record.value or b""))
                else:
                    self._take_update(ScoreUpdate.from_json(record.value or b""))
            except ValidationError as error:
                log.warning("offset %d of %s is passed over: %s", record.offset, record.topic, error.errors()[0]["msg"])

    def _take_version(self, event: ModelVersion) -> None:
        if event.line == "scorer":
            self._news.set()
            if self._on_version is not None:
                self._on_version(event)

    def _take_update(self, update: ScoreUpdate) -> None:
        if update.scorer_epoch < self._epoch:
            return
        self._epoch = update.scorer_epoch
        self._news.set()
        if self._on_update is not None:
            self._on_update(update)

    async def _keep_loading(self) -> None:
        """Look after news, and a last time once they have ended, as a checkpoint comes later than its updates."""
        patience = self._settings.scorer.checkpoint_idle * 2 + self._refresh
        while True:
            await asyncio.sleep(self._refresh)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), patience)
            self._news.clear()
            try:
                await self._load()
            except TierstreamError as error:
                log.warning("%s; the scorer loaded before goes on ranking", error)

    async def _load(self) -> None:
        """Take the newest scorer, where the files have changed."""
        folder = Path(self._settings.data_dir)
        in_use = folder / "models" / "scorer" / "in-use.json"
        there = newest_first(folder / "scorer" / "checkpoints")[:1], in_use.read_bytes() if in_use.exists() else b""
        if there == self._loaded_from:
            return
        scorer = await asyncio.to_thread(newest_scorer, folder)
        self._embedder = embedder_of(scorer, self._settings.scorer)
        self._scorer, self._loaded_from = scorer, there
