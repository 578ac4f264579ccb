"""Inputs that are right, for the coverage-guided run to begin with: what is nearly right reaches furthest."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from schemas.records import (
    Arrival,
    Configure,
    Joined,
    Learning,
    Origin,
    ScorerEntry,
    encode_log,
    features_size,
)
from schemas.settings import ScorerSettings
from tests.fuzz.targets import EVENTS, a_checkpoint
from tests.trainers.jobs.tiny import answer
from trainers.scorer.log_settings import learning_settings

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
    log = [
        Joined((entry, arrived)),
        Configure(learning_settings(ScorerSettings(rank=1)), "scorer-x", 1),
        Learning(paused=True),
    ]
    progress = b'{"progress": 0.5, "metrics": {"loss": 1.5, "stage": "train"}}'
    answers = [answer(number, good).to_json() for number in (0, 1) for good in (True, False)]
    return [*map(encode_log, log), progress, *answers]


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
