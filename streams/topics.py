"""Names and specs of every topic and table, by the role that reads or keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from schemas.settings import Settings

Role = Literal["join", "scorer", "pairs", "traces"]
ROLES: tuple[Role, ...] = get_args(Role)
TIER_1: tuple[Role, ...] = ("join", "scorer")
"""They come first where cores are short."""

# Public topics.
EXPERIENCES = "experiences"
FEEDBACK = "feedback"
TRACES = "claude-traces"
SCORE_UPDATES = "score-updates"
PAIRS = "preference-pairs"
UNPAIRED = "unpaired-answers"
JOBS = "training-jobs"
JOB_UPDATES = "job-updates"
MODEL_VERSIONS = "model-versions"
DEAD_LETTERS = "dead-letters"

# Internal topics: hops between our own agents.
TICKS = "join-ticks"
SCORER_LOG = "scorer-log"
ANSWERS = "answers"
ELIGIBLE_TRACES = "eligible-traces"

INPUTS: Mapping[Role, tuple[str, ...]] = {
    "join": (EXPERIENCES, FEEDBACK, TICKS),
    "scorer": (SCORER_LOG,),
    "pairs": (ANSWERS, PAIRS, UNPAIRED),
    "traces": (TRACES, ELIGIBLE_TRACES),
}
"""What each role reads, in record batches."""

# Tables; each has a changelog topic with the partitions of the agent's input.
EXPERIENCES_TABLE = "experiences"
JUDGEMENTS_TABLE = "judgements"
ANSWERS_TABLE = "answers"
DPO_EXAMPLES_TABLE = "dpo-examples"
KTO_EXAMPLES_TABLE = "kto-examples"
SFT_EXAMPLES_TABLE = "sft-examples"

TABLES: Mapping[Role, tuple[str, ...]] = {
    "join": (EXPERIENCES_TABLE, JUDGEMENTS_TABLE),
    "scorer": (),
    "pairs": (ANSWERS_TABLE, DPO_EXAMPLES_TABLE, KTO_EXAMPLES_TABLE),
    "traces": (SFT_EXAMPLES_TABLE,),
}
"""The tables that each role keeps."""
OF_ONE_PARTITION = (DPO_EXAMPLES_TABLE, KTO_EXAMPLES_TABLE, SFT_EXAMPLES_TABLE)

AT_ONCE = 4
"""Partitions that an agent works on side by side, or chunks that the scorer is given: none waits for another's acks."""

_MAX_RECORD_BYTES = 8 * 1024 * 1024
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it must be on the broker."""

    name: str
    """Name on the broker, prefix included."""
    partitions: int
    """Count of partitions."""
    configs: Mapping[str, str] = field(default_factory=dict)
    """Topic configs that are set explicitly."""


def group(settings: Settings, role: Role) -> str:
    """Return the name of a role's consumer group."""
    return f"{settings.group_id}-{role}"


def changelog(settings: Settings, table: str) -> str:
    """Return the name of a table's changelog on the broker."""
    return f"{settings.group_id}-{table}-changelog"


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return every topic that must exist before a consumer starts."""
    n, retention = settings.topics.partitions, settings.topics.retention
    # Large enough for our own outputs, which hold whole inputs, and for the batches that they are published in.
    large = {"max.message.bytes": str(_MAX_RECORD_BYTES)}
    kept = {"cleanup.policy": "delete", "retention.bytes": "-1", **large}
    keep = {"retention.ms": str(-1 if retention < 0 else int(retention * 1000)), **kept}
    forever = {"retention.ms": "-1", **kept}
    broker_time = {"message.timestamp.type": "LogAppendTime"}
    compacted = {"cleanup.policy": "compact", **large}

    def topic(name: str, partitions: int, *configs: Mapping[str, str]) -> TopicSpec:
        merged = {key: value for config in configs for key, value in config.items()}
        return TopicSpec(settings.topic(name), partitions, merged)

    def table(name: str, partitions: int) -> TopicSpec:
        return TopicSpec(changelog(settings, name), partitions, compacted)

    return [
        topic(EXPERIENCES, n, keep, broker_time),
        topic(FEEDBACK, n, keep, broker_time),
        topic(TRACES, n, keep, broker_time),
        topic(SCORE_UPDATES, n, keep),
        topic(PAIRS, 1, keep),
        topic(UNPAIRED, 1, keep),
        topic(JOBS, 1, forever),
        topic(JOB_UPDATES, 1, forever),
        topic(MODEL_VERSIONS, 1, compacted),
        topic(DEAD_LETTERS, 1, forever),
        topic(TICKS, n, {"retention.ms": str(_DAY_MS), "cleanup.policy": "delete"}, broker_time),
        topic(SCORER_LOG, 1, forever),
        topic(ANSWERS, n, forever, broker_time),
        topic(ELIGIBLE_TRACES, 1, forever),
        table(EXPERIENCES_TABLE, n),
        table(JUDGEMENTS_TABLE, n),
        table(ANSWERS_TABLE, n),
        table(DPO_EXAMPLES_TABLE, 1),
        table(KTO_EXAMPLES_TABLE, 1),
        table(SFT_EXAMPLES_TABLE, 1),
    ]


def batch_topics(settings: Settings, role: Role) -> frozenset[str]:
    """Return the topics that a role's agents read in record batches; changelogs go record by record."""
    return frozenset(settings.topic(name) for name in INPUTS[role])
