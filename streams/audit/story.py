"""What became of one experience, gathered from the topics and the data directory."""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from schemas.base import Event
from schemas.errors import InputError
from schemas.events import Experience, Feedback
from schemas.records import Answer
from schemas.settings import Settings
from streams import topics
from streams.audit.collect import answers_of, fields
from streams.audit.reading import TopicReader
from streams.kafka.options import broker_errors
from streams.kafka.publisher import partition_for
from streams.topics import changelog
from streams.training.jobs_on_disk import read_json
from trainers.jobs.accumulate import RunRecord
from trainers.jobs.snapshot import DATASET_NAME, JOB_NAME, RESULT_NAME
from trainers.pairs.entry import UNPAIRED, WAITING, Entry, key_of
from trainers.pairs.funnel import KINDS
from trainers.pairs.rules import example_id
from trainers.traces.store import TraceStore
from trainers.versions.store import LINEAGE

_SUGGESTIONS_FROM = 50_000
E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pair or trace stands in its tier."""

    example_id: str
    sequence: int | None
    """Count of distinct examples before it; None where it was not counted yet."""
    run_start: int | None
    jobs: tuple[dict[str, Any], ...]
    """Jobs whose dataset holds it: id, state, version, promoted, and what it was used for."""


@dataclass(slots=True)
class Gathered:
    """All records that have to do with one experience."""

    experience_id: str
    experience: Experience | None = None
    arrived_at: float | None = None
    """Broker time in epoch seconds."""
    partition: int | None = None
    feedbacks: list[tuple[float, Feedback]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    """What the answers table remembers, by kind."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """The latest judged answer, by kind."""
    others: dict[str, list[Answer]] = field(default_factory=dict)
    """The latest judged answers of other experiences of the same intent, by kind."""
    waiting: dict[str, set[str]] = field(default_factory=dict)
    """Which of them wait for a partner, by kind."""
    pairs: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    traces: list[str] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)


async def gather(settings: Settings, experience_id: str) -> Gathered:
    """Read everything about an experience.

    Raises:
        InputError: nothing in the stream has this id.
        ConnectionFailedError: the broker cannot be reached.
    """
    found = Gathered(experience_id)
    with broker_errors(settings):
        async with TopicReader(settings) as reader:
            known = await _read_events(settings, reader, found)
            if found.experience is None and not found.feedbacks and not found.dead_letters:
                raise InputError(*_unknown(settings, experience_id, known))
            await _read_pairing(settings, reader, found)
            await _read_places(settings, reader, found)
    return found


def _unknown(settings: Settings, experience_id: str, known: list[str]) -> tuple[str, str]:
    near = difflib.get_close_matches(experience_id, known[-_SUGGESTIONS_FROM:], n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see that --bootstrap-servers and topics.prefix are those meant"
    where = f"{len(known):,} experiences of {settings.topic(topics.EXPERIENCES)}"
    return f"no experience, feedback or dead letter has the id {experience_id!r}, looked at {where}", hint


async def _read_events(settings: Settings, reader: TopicReader, found: Gathered) -> list[str]:
    key = found.experience_id.encode()
    known = []
    async for record in reader.records(settings.topic(topics.EXPERIENCES)):
        known.append((record.key or b"").decode(errors="replace"))
        # A producer need not set the key; what counts is the event's own id.
        if record.key == key or key in (record.value or b""):
            event = _decoded(record.value, Experience)
            if event is not None and event.experience_id == found.experience_id and found.experience is None:
                found.experience, found.arrived_at = event, record.timestamp / 1000
                found.partition = record.partition
    seen = set()
    async for record in reader.records(settings.topic(topics.FEEDBACK)):
        if key in (record.value or b""):
            judged = _decoded(record.value, Feedback)
            if judged and judged.experience_id == found.experience_id and judged.feedback_id not in seen:
                seen.add(judged.feedback_id)
                found.feedbacks.append((record.timestamp / 1000, judged))
    home = partition_for(key, settings.topics.partitions)
    async for record in reader.records(settings.topic(topics.SCORE_UPDATES), home):
        if record.key == key:
            found.updates.append(fields(record.value))
    async for record in reader.records(settings.topic(topics.DEAD_LETTERS)):
        value = fields(record.value)
        if value.get("key") and base64.b64decode(value["key"]) == key:
            found.dead_letters.append(value)
    return known


def _decoded(value: bytes | None, model: type[E]) -> E | None:
    try:
        return model.from_json(value or b"")
    except ValidationError:
        return None


async def _read_pairing(settings: Settings, reader: TopicReader, found: Gathered) -> None:
    if found.experience is None:
        return
    intent = found.experience.intent.type
    partition = partition_for(intent.encode(), settings.topics.partitions)
    latest: dict[tuple[str, str], Answer] = {}
    async for record in reader.records(settings.topic(topics.ANSWERS), partition):
        if (record.key or b"") == intent.encode():
            latest |= {(answer.kind, answer.experience_id): answer for answer in answers_of(record.value)}
    for kind in KINDS:
        mine = latest.pop((kind, found.experience_id), None)
        if mine is not None:
            found.answers[kind] = mine
        found.others[kind] = [answer for (of, _), answer in latest.items() if of == kind]
    table = await reader.table(changelog(settings, topics.ANSWERS_TABLE))
    values = table.partitions.get(partition, {})
    for kind in KINDS:
        if (value := values.get(key_of(kind, found.experience_id))) is not None:
            found.entries[kind] = Entry.decode(value)
        known = {answer.experience_id: values.get(key_of(kind, answer.experience_id)) for answer in found.others[kind]}
        found.waiting[kind] = {
            name for name, value in known.items() if value and Entry.decode(value).outcome == WAITING
        }
    async for record in reader.records(settings.topic(topics.PAIRS)):
        pair = fields(record.value)
        if found.experience_id in (pair.get("chosen_experience_id"), pair.get("rejected_experience_id")):
            found.pairs.append(pair)


async def _read_places(settings: Settings, reader: TopicReader, found: Gathered) -> None:
    folder = Path(settings.data_dir)
    stored = TraceStore(folder / "traces").read()
    found.traces = [one.trace.trace_id for one in stored if one.trace.experience_id == found.experience_id]
    unpaired = [kind for kind in KINDS if (entry := found.entries.get(kind)) and entry.outcome == UNPAIRED]
    for table, names in (
        (topics.DPO_EXAMPLES_TABLE, {str(pair["pair_id"]) for pair in found.pairs}),
        (topics.KTO_EXAMPLES_TABLE, {example_id(kind, found.experience_id) for kind in unpaired}),
        (topics.SFT_EXAMPLES_TABLE, set(found.traces)),
    ):
        if not names:
            continue
        counted = {
            key.decode(): RunRecord.decode(value)
            for _, key, value in (await reader.table(changelog(settings, table))).items()
            if key.decode() in names
        }
        in_jobs = dict(jobs_with(folder, names))
        for name in names:
            record = counted.get(name)
            found.places[name] = Place(
                name,
                None if record is None or record.is_held else record.sequence,
                None if record is None else record.start,
                tuple(in_jobs.get(name, ())),
            )


def jobs_with(folder: Path, names: set[str]) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """Return the jobs whose dataset holds an example, by its id, and what each job made of it."""
    jobs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    pattern = re.compile("|".join(re.escape(name) for name in sorted(names)).encode())
    for dataset in sorted((folder / "jobs").glob(f"*/{DATASET_NAME}")):
        result = read_json(dataset.with_name(RESULT_NAME)) or {}
        request = read_json(dataset.with_name(JOB_NAME)) or {}
        uses = uses_of(folder, request.get("tier"), result.get("version"))
        with dataset.open("rb") as lines:
            for line in lines:
                # The pattern finds an id within another one too, and in texts; what counts is the example's own.
                name = named_in(line) if pattern.search(line) else None
                if name in names:
                    jobs[name].append(
                        {
                            **uses.get(name, {}),
                            "job_id": dataset.parent.name,
                            "tier": request.get("tier"),
                            "state": result.get("state", "not ended"),
                            "version": result.get("version"),
                            "promoted": result.get("promoted"),
                        }
                    )
    return jobs.items()


def named_in(line: bytes) -> str:
    """Return the id of an example from its line of a dataset; empty where it has none."""
    content = fields(line)
    return str(content.get("pair_id") or content.get("answer_id") or content.get("trace_id") or "")


def uses_of(folder: Path, tier: str | None, version: str | None) -> dict[str, dict[str, Any]]:
    """Return `use`, and where it was dropped `reason`, of each example that a version's lineage names, by id."""
    path = folder / "models" / str(tier) / str(version) / LINEAGE
    lines = path.read_bytes().splitlines() if version and path.is_file() else []
    return {
        str(one["id"]): {name: one[name] for name in ("use", "reason", "cut") if name in one}
        for one in map(fields, lines)
        if "id" in one
    }
