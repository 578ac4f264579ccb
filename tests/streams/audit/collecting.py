"""The audit's day as if it had been collected, without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas.config import setting_fields, setting_value
from schemas.records import Answer
from schemas.settings import Settings
from streams.audit.collect import Arrival, Collected, FromBroker
from streams.audit.disk import OnDisk, look_at
from streams.audit.reading import TableContent
from streams.kafka.lag import PartitionLag, trainer_group
from streams.topics import ROLES, group
from tests.scenarios import audit_day as audit
from tests.scenarios.test_audit_day import in_order, joined
from trainers.jobs.accumulate import BatchAccumulator
from trainers.pairs.matcher import PairMatcher
from trainers.scorer.architecture import architecture, expected_parameters
from trainers.scorer.checkpoint_file import CheckpointFile

NOW = 1_770_000_000.0
ANSWERS = list(joined(in_order(audit.audit_day(7))))
FEW = 120
"""Answers that are enough where their figures do not matter."""


def checkpoint(settings: Settings, rank: int, **counts: Any) -> CheckpointFile:
    """A checkpoint of a scorer that has learned a little, of any rank."""
    figures = {"steps": 60, "groups_learned": 600, "groups_held_out": 130, "samples_learned": 2000, "decays": 3}
    return CheckpointFile(
        path=Path("scorer-000000000060.safetensors"),
        size_bytes=8_000_000,
        written_at=NOW - 5,
        meta={
            "epoch": 1,
            "step": 60,
            "next_offset": 60,
            "seed": 0,
            "architecture": {**architecture(settings.scorer), "rank": rank},
            "decay": {"start": settings.scorer.learning_rate, "learning_rate": 1.25e-4, "best": 0.07},
            "validated": {"validation_loss": 0.0792, "validation_accuracy": 0.8, "validation_pairs": 399},
            "counts": {**figures, "decays_at_floor": 0, "samples_held_out": 400, **counts},
        },
        rank=rank,
        parameters=expected_parameters(rank),
        samples={"replay": 2000, "validation": 400},
        window=np.zeros((0, 3)),
    )


def on_broker(settings: Settings, answers: Sequence[Answer]) -> FromBroker:
    """The topics after the day: 15 pairs, two old traces, one of them eligible."""
    matcher, runs = PairMatcher(settings.pairs, settings.unpaired), BatchAccumulator(settings.pairs.threshold)
    broker = FromBroker(answers={0: list(answers)})
    table = broker.answers_table.partitions.setdefault(0, {})
    examples = broker.dpo_examples.partitions.setdefault(0, {})
    decisions = [matcher.decide(answer, offset, NOW - 86_400) for offset, answer in enumerate(answers)]
    for offset, decision in enumerate([*decisions, matcher.tick(len(answers), NOW)]):
        table.update((key, value) for key, value in decision.writes if value is not None)
        for pair in decision.pairs:
            examples.update((k, v) for k, v in runs.add(pair.pair_id, pair.to_json(), offset).writes if v is not None)
            broker.pairs.append(Arrival(pair.pair_id, NOW - 86_400 * (15 - len(broker.pairs)), pair.kind))
    broker.lag = [PartitionLag("tierstream-scorer", "scorer-log", 0, 10, 10, 0, 0.0)]
    broker.members = dict.fromkeys((*(group(settings, role) for role in ROLES), trainer_group(settings)), 1)
    return broker


def collected(folder: Path, rank: int = 32, *, few: bool = False, **changes: Any) -> Collected:
    """The day, collected; traces lie in `folder`, and the stream has seen them."""
    settings = Settings.model_validate({"data_dir": str(folder), "traces": {"max_tokens": 16_384}})
    if not (folder / "traces").exists():
        audit.write_legacy_traces(folder / "traces")
    broker = on_broker(settings, ANSWERS[:FEW] if few else ANSWERS)
    traces = look_at(settings).traces
    broker.traces = [Arrival(stored.trace.trace_id, NOW - 100) for stored in traces]
    broker.eligible = broker.traces[:1]
    runs = BatchAccumulator(settings.traces.threshold)
    broker.sft_examples = TableContent({0: {k: v for k, v in runs.add("first", b"{}", 0).writes if v is not None}})
    disk = OnDisk(
        folder=folder,
        checkpoint=checkpoint(settings, rank),
        checkpoints_refused=(),
        traces=traces,
        traces_skipped={},
        jobs={},
        versions={"scorer": [], "policy": []},
        in_use={},
        artefacts=(),
    )
    found = Collected(
        at=NOW,
        settings=settings,
        configured={key: setting_value(settings, key) for key, _ in setting_fields()},
        sources={"scorer.rank": "file tierstream.toml"},
        disk=disk,
        broker=broker,
        broker_error=None,
        worker={"ready": True, "reason": None, "scorer": None},
        worker_error=None,
        capture="true",
    )
    return replace(found, **changes)
