"""Collects once what the audit judges: from the broker, the data directory and, where one answers, the worker.

Each source can be missing: what is there is reported, and what is not is said.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.config import LoadedSettings, setting_value
from schemas.errors import ConnectionFailedError
from schemas.records import Answer
from schemas.settings import Settings
from streams import topics
from streams.audit.deployment import ask_deployment
from streams.audit.disk import OnDisk, look_at
from streams.audit.drift import DriftReader
from streams.audit.outcome import outcome_of
from streams.audit.reading import Progress, TableContent, TopicReader
from streams.kafka.admin import TopicState, topic_states
from streams.kafka.lag import PartitionLag, group_members, measure_lag
from streams.kafka.options import broker_errors
from streams.state.workers import RUNNING
from streams.topics import changelog


@dataclass(slots=True)
class Arrival:
    """One record: what it is called, and when the broker had it."""

    name: str
    at: float
    """Epoch seconds."""
    kind: str = ""


@dataclass(slots=True)
class FromBroker:
    """What the topics hold."""

    lag: list[PartitionLag] = field(default_factory=list)
    members: dict[str, int] = field(default_factory=dict)
    """Consumers alive in each group."""
    topics_unfit: list[TopicState] = field(default_factory=list)
    """Topics with other partitions or configs than they must have."""
    records: dict[str, int] = field(default_factory=dict)
    """Records ever written, by topic without prefix."""
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    """Every judged answer in the topic's order, by partition."""
    answers_table: TableContent = field(default_factory=TableContent)
    dpo_examples: TableContent = field(default_factory=TableContent)
    kto_examples: TableContent = field(default_factory=TableContent)
    sft_examples: TableContent = field(default_factory=TableContent)
    pairs: list[Arrival] = field(default_factory=list)
    """Distinct pairs."""
    unpaired: list[Arrival] = field(default_factory=list)
    """Distinct labelled answers that train by themselves."""
    traces: list[Arrival] = field(default_factory=list)
    """Distinct traces."""
    eligible: list[Arrival] = field(default_factory=list)
    """Distinct traces that advance the threshold."""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    job_updates: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The newest update of each job."""
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The newest model version of each tier."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """By reason."""
    drift: Mapping[str, Any] = field(default_factory=dict)
    """What `DriftMonitor.as_dict` returns."""
    outcome: Mapping[str, Any] = field(default_factory=lambda: {"lines": [], "versions": [], "unnamed": 0})
    """What `outcome_of` returns."""


@dataclass(frozen=True, slots=True)
class Collected:
    """All that is known at one moment; a source that could not be had has its reason instead."""

    at: float
    """Epoch seconds."""
    settings: Settings
    configured: Mapping[str, Any]
    """Every setting that is not secret, by dotted key."""
    sources: Mapping[str, str]
    """Where each setting is from."""
    disk: OnDisk
    broker: FromBroker | None
    broker_error: str | None
    worker: Mapping[str, Any] | None
    """What the workers say together, as `ask_deployment` returns it."""
    worker_error: str | None
    capture: str | None
    """`ENABLE_TIER3_CAPTURE` as it is in this environment."""


async def collect(loaded: LoadedSettings, environ: Mapping[str, str], progress: Progress) -> Collected:
    """Ask every source once.

    Raises:
        OSError: a file of the data directory cannot be read.
    """
    settings = loaded.settings
    broker, broker_error = None, None
    try:
        broker = await _from_broker(settings, progress)
    except ConnectionFailedError as error:
        broker_error = str(error)
    worker = await ask_deployment(settings)
    nobody = f"no worker says in {settings.data_dir}/{RUNNING} that it runs"
    return Collected(
        at=time.time(),
        settings=settings,
        configured={key: setting_value(settings, key) for key in loaded.sources},
        sources=loaded.sources,
        disk=await asyncio.to_thread(look_at, settings),
        broker=broker,
        broker_error=broker_error,
        worker=worker if worker["workers"] else None,
        worker_error=None if worker["workers"] else nobody,
        capture=environ.get("ENABLE_TIER3_CAPTURE"),
    )


async def _from_broker(settings: Settings, progress: Progress) -> FromBroker:
    found = FromBroker(lag=await measure_lag(settings), members=await group_members(settings))
    states = await topic_states(settings, topics.topic_specs(settings))
    found.topics_unfit = [state for state in states if state.fault is not None]
    with broker_errors(settings):
        async with TopicReader(settings, progress) as reader:
            await _read_answers(settings, reader, found)
            for table, content in (
                (topics.ANSWERS_TABLE, found.answers_table),
                (topics.DPO_EXAMPLES_TABLE, found.dpo_examples),
                (topics.KTO_EXAMPLES_TABLE, found.kto_examples),
                (topics.SFT_EXAMPLES_TABLE, found.sft_examples),
            ):
                content.partitions.update((await reader.table(changelog(settings, table))).partitions)
            found.pairs = await _distinct(settings, reader, topics.PAIRS)
            found.unpaired = await _distinct(settings, reader, topics.UNPAIRED)
            found.traces = await _distinct(settings, reader, topics.TRACES)
            found.eligible = await _distinct(settings, reader, topics.ELIGIBLE_TRACES)
            await _read_jobs(settings, reader, found)
            found.records = await _ends(settings, reader)
    if found.lag:
        async with DriftReader(settings) as judged:
            found.drift = (await judged.look()).as_dict()
            found.outcome = await asyncio.to_thread(outcome_of, settings, judged.outcome)
    return found


async def _read_answers(settings: Settings, reader: TopicReader, found: FromBroker) -> None:
    async for record in reader.records(settings.topic(topics.ANSWERS)):
        found.answers.setdefault(record.partition, []).extend(answers_of(record.value))


def answers_of(value: bytes | None) -> list[Answer]:
    """Return the answers of a record; none of one that the worker has dead-lettered."""
    try:
        return [answer for answer, _ in Answer.each_from(value or b"")]
    except ValueError:
        return []


async def _distinct(settings: Settings, reader: TopicReader, topic: str) -> list[Arrival]:
    seen: dict[bytes, Arrival] = {}
    async for record in reader.records(settings.topic(topic)):
        key = record.key or b""
        if key not in seen and record.value is not None:
            value = fields(record.value) if topic == topics.PAIRS else {}
            seen[key] = Arrival(key.decode(errors="replace"), record.timestamp / 1000, value.get("kind", ""))
    return list(seen.values())


async def _read_jobs(settings: Settings, reader: TopicReader, found: FromBroker) -> None:
    requests: dict[str, dict[str, Any]] = {}
    async for record in reader.records(settings.topic(topics.JOBS)):
        value = fields(record.value)
        if "dataset_path" in value and "job_id" in value:
            requests[value["job_id"]] = value
    found.jobs = list(requests.values())
    async for record in reader.records(settings.topic(topics.JOB_UPDATES)):
        if (value := fields(record.value)).get("job_id"):
            found.job_updates[value["job_id"]] = value
    async for record in reader.records(settings.topic(topics.MODEL_VERSIONS)):
        if line := (value := fields(record.value)).get("line") or value.get("tier"):
            found.versions[line] = {**value, "at": record.timestamp / 1000}
    async for record in reader.records(settings.topic(topics.DEAD_LETTERS)):
        found.dead_letters[fields(record.value).get("error_type", "unreadable")] += 1


async def _ends(settings: Settings, reader: TopicReader) -> dict[str, int]:
    names = (topics.EXPERIENCES, topics.FEEDBACK, topics.TRACES, topics.SCORE_UPDATES, topics.PAIRS)
    return {name: await reader.end(settings.topic(name)) for name in names}


def fields(value: bytes | None) -> dict[str, Any]:
    """Return a record's JSON object; empty where it is none, which its own reader has dead-lettered."""
    try:
        content = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}
