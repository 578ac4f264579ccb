"""Inputs that are right, for the coverage-guided run to begin with: what is nearly right reaches furthest."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from schemas.records import Arrival, Origin, ScorerEntry, StepRecord, features_size
from tests.fuzz.targets import EVENTS, a_checkpoint
from tests.trainers.jobs.tiny import answer

EXAMPLES = Path(__file__).parents[1] / "contract" / "v1"
DEFAULTS = Path(__file__).parents[2] / "config" / "default.toml"


def seeds(target: str) -> list[bytes]:
    """Return inputs of a target that are right."""
    return SEEDS[target]()


def _events() -> list[bytes]:
    return [
        bytes([number]) + line
        for number, event in enumerate(EVENTS)
        for line in (EXAMPLES / f"{event.__name__}.jsonl").read_bytes().splitlines()
    ]


def _records() -> list[bytes]:
    entry = ScorerEntry(
        kind="feedback",
        experience_id="e",
        feedback_id="f",
        origin=Origin("feedback", 0, 1),
        received_at=1.0,
        query_hash="0123456789abcdef",
        intent_type="status",
        item_ids=("w",),
        item_types=("widget",),
        rewards=(0.5,),
        arrival=Arrival(0, 0),
    )
    arrived = replace(entry, kind="arrived", feedback_id=None, rewards=(), features=bytes(features_size(1)))
    step = StepRecord(kind="step", epoch=1, step=1, first_offset=0, last_offset=1, seed=7)
    progress = b'{"progress": 0.5, "metrics": {"loss": 1.5, "stage": "train"}}'
    answers = [answer(number, good).to_json() for number in (0, 1) for good in (True, False)]
    return [entry.encode(), arrived.encode(), step.to_json(), progress, *answers]


def _batches() -> list[bytes]:
    return [b"3\n" + line for line in (EXAMPLES / "Trace.jsonl").read_bytes().splitlines()]


def _traces() -> list[bytes]:
    lines = (EXAMPLES / "Trace.jsonl").read_bytes().splitlines()
    placed = [b'{"partition":0,"offset":%d,' % number + line[1:] for number, line in enumerate(lines)]
    return [*lines, b"".join(line + b"\n" for line in placed)]


def _settings() -> list[bytes]:
    return [DEFAULTS.read_bytes(), b"SCORER__RANK=8", b"KAFKA__SESSION_TIMEOUT=6s"]


SEEDS = {
    "events": _events,
    "records": _records,
    "batches": _batches,
    "settings": _settings,
    "traces": _traces,
    "checkpoints": lambda: [a_checkpoint()],
}
