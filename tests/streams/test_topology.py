"""The map, pinned: names are contracts with producers, consumers and stored data, and change by intent only."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from schemas.settings import Settings
from streams import topics, topology
from streams.agents import Agents
from streams.contract import CONTRACTS
from streams.kafka.admin import TopicState
from streams.kafka.lag import watched
from streams.topics import ROLES, Role
from tests.streams.offline import offline_app

WITH_OUR_CODE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

MAX_BYTES = {"max.message.bytes": "8388608"}
DELETED = {"cleanup.policy": "delete"}
FOREVER = {"retention.ms": "-1", "retention.bytes": "-1"} | DELETED | MAX_BYTES
KEPT = {"retention.ms": "2592000000", "retention.bytes": "-1"} | DELETED | MAX_BYTES
BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
COMPACTED = {"cleanup.policy": "compact", **MAX_BYTES}

PINNED = {
    "p-experiences": (3, KEPT | BROKER_TIME),
    "p-feedback": (3, KEPT | BROKER_TIME),
    "p-claude-traces": (3, KEPT | BROKER_TIME),
    "p-score-updates": (3, KEPT),
    "p-preference-pairs": (1, KEPT),
    "p-unpaired-answers": (1, KEPT),
    "p-training-jobs": (1, FOREVER),
    "p-job-updates": (1, FOREVER),
    "p-model-versions": (1, COMPACTED),
    "p-dead-letters": (1, FOREVER),
    "p-join-ticks": (3, {"retention.ms": "86400000"} | DELETED | BROKER_TIME),
    "p-scorer-log": (1, FOREVER),
    "p-answers": (3, FOREVER | BROKER_TIME),
    "p-eligible-traces": (1, FOREVER),
    "p-group-experiences-changelog": (3, COMPACTED),
    "p-group-judgements-changelog": (3, COMPACTED),
    "p-group-answers-changelog": (3, COMPACTED),
    "p-group-dpo-examples-changelog": (1, COMPACTED),
    "p-group-kto-examples-changelog": (1, COMPACTED),
    "p-group-sft-examples-changelog": (1, COMPACTED),
}
"""Partitions and configs of every topic, with three partitions, a retention of 30 days and the prefix `p-`."""

AGENTS: dict[Role, dict[str, list[str]]] = {
    "join": {"join-feedback": ["p-experiences", "p-feedback", "p-join-ticks"]},
    "scorer": {"learn-from-feedback": ["p-scorer-log"]},
    "pairs": {
        "pair-answers": ["p-answers"],
        "start-dpo-job": ["p-preference-pairs"],
        "start-kto-job": ["p-unpaired-answers"],
    },
    "traces": {"store-traces": ["p-claude-traces"], "start-sft-job": ["p-eligible-traces"]},
}
"""What each role's agents read."""

TABLES: dict[Role, dict[str, str]] = {
    "join": {"experiences": "p-experiences", "judgements": "p-feedback"},
    "scorer": {},
    "pairs": {
        "answers": "p-answers",
        "dpo-examples": "p-preference-pairs",
        "kto-examples": "p-unpaired-answers",
    },
    "traces": {"sft-examples": "p-eligible-traces"},
}
"""Each role's tables, with the input whose partitions they have."""

SIDE_BY_SIDE = {"join-feedback": 4, "learn-from-feedback": 4, "pair-answers": 4}


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "kafka": {"app_id": "group"},
            "topics": {"prefix": "p-", "partitions": 3, "retention": "30d"},
        }
    )


@pytest.mark.parametrize(
    ("found", "condition"),
    [
        ({}, "ok"),  # the broker does not tell
        ({"retention.ms": "-1", "max.message.bytes": "8388608", "cleanup.policy": "delete"}, "ok"),
        ({"max.message.bytes": "9000000"}, "ok"),
        ({"max.message.bytes": "1048588"}, "wrong configs"),
        ({"retention.ms": "604800000"}, "wrong configs"),
        ({"retention.bytes": "1000"}, "wrong configs"),
        ({"cleanup.policy": "compact"}, "wrong configs"),
        ({"message.timestamp.type": "CreateTime"}, "wrong configs"),
    ],
)
def test_a_topic_is_fit_where_every_config_that_matters_is_in_effect(found: dict[str, str], condition: str) -> None:
    spec = next(spec for spec in topics.topic_specs(Settings()) if spec.name == "feedback")
    state = TopicState(spec, spec.partitions, found)
    assert state.condition == condition
    assert (state.fault is None) == (condition == "ok")
    assert all(
        f"{name} = {value} ({spec.configs[name]} is needed)" in str(state.fault) for name, value in state.unfit.items()
    )


def test_topics_are_pinned_with_prefix_partitions_and_configs(settings: Settings) -> None:
    specs = topics.topic_specs(settings)
    assert {spec.name: (spec.partitions, dict(spec.configs)) for spec in specs} == PINNED
    assert len(specs) == len(PINNED)


def test_events_are_kept_forever_unless_set_otherwise() -> None:
    kept = {spec.name: spec.configs.get("retention.ms") for spec in topics.topic_specs(Settings())}
    assert {name for name, retention in kept.items() if retention not in ("-1", None)} == {"join-ticks"}


@pytest.mark.parametrize("role", ROLES)
def test_a_prefix_is_before_every_name_that_the_broker_sees(settings: Settings, role: Role) -> None:
    with offline_app(settings, role) as (app, _):
        changelogs = {table.changelog_topic_name for table in app.tables.values()}
        read = {name for agent in app.agents.values() for name in agent.channel.topics}
        names = {app.conf.id, *changelogs, *read, *watched(settings)}
    assert all(name.startswith("p-") for name in names)
    assert app.conf.id == f"p-group-{role}"
    assert changelogs == {f"p-group-{table}-changelog" for table in TABLES[role]}
    assert changelogs | read <= PINNED.keys()


def test_every_changelog_is_of_one_roles_table() -> None:
    tables = [table for role in ROLES for table in TABLES[role]]
    assert Counter(f"p-group-{table}-changelog" for table in tables) == Counter(
        name for name in PINNED if name.endswith("-changelog")
    )


@pytest.mark.parametrize("role", ROLES)
def test_every_agent_is_named_and_reads_its_topics_alone(settings: Settings, role: Role) -> None:
    with offline_app(settings, role) as (app, _):
        assert {name: list(agent.channel.topics) for name, agent in app.agents.items()} == AGENTS[role]
        assert {name: agent.concurrency for name, agent in app.agents.items()} == {
            name: SIDE_BY_SIDE.get(name, 1) for name in AGENTS[role]
        }


@pytest.mark.parametrize("role", ROLES)
def test_every_batch_topic_is_bound_once(settings: Settings, role: Role) -> None:
    bound: Counter[str] = Counter()
    bodies = []

    class Recorder:
        def agent_on(self, *topics: str, name: str, body: Any, at_once: int = 1) -> None:
            bound.update(settings.topic(topic) for topic in topics)
            bodies.append(body)

    with offline_app(settings, role) as (app, _):
        topology.connect(Recorder(), app.agents_of_ours)  # type: ignore[arg-type]
        ours = [getattr(app.agents_of_ours, name) for name in Agents.__dataclass_fields__]
        assert set(bodies) == {agent.process for agent in ours if agent}
        assert app.transport_options.batch_topics == topics.batch_topics(settings, role)
    assert bound == dict.fromkeys(topics.batch_topics(settings, role), 1)
    assert bound.keys() <= PINNED.keys()


def test_no_topic_is_read_by_two_roles_and_only_topics_connect_them(settings: Settings) -> None:
    read = Counter(name for role in ROLES for name in topics.batch_topics(settings, role))
    assert set(read.values()) == {1}
    assert watched(settings) == {
        **{f"p-group-{role}": sorted(topics.batch_topics(settings, role)) for role in ROLES},
        "p-group-trainer": ["p-training-jobs"],
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_its_own_agents_alone_and_only_the_scorer_brings_torch(role: Role) -> None:
    code = f"""
import sys
from schemas.settings import Settings
from streams.worker.app import build_app
assert "torch" not in sys.modules
app = build_app(Settings(), {role!r})
print(*sorted(name for name in app.agents_of_ours.__dataclass_fields__ if getattr(app.agents_of_ours, name)))
print("torch" in sys.modules)
"""
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder, env=WITH_OUR_CODE
        )
    agents, torch = done.stdout.splitlines()
    assert agents.split() == {"pairs": ["dpo", "kto", "pairs"], "traces": ["sft", "traces"]}.get(role, [role])
    assert torch == str(role == "scorer")


@pytest.mark.parametrize("role", ROLES)
def test_a_table_has_the_partitions_of_its_agents_input(settings: Settings, role: Role) -> None:
    with offline_app(settings, role) as (app, _):
        assert {name: table.partitions for name, table in app.tables.items()} == {
            table: PINNED[topic][0] for table, topic in TABLES[role].items()
        }
    for table, topic in TABLES[role].items():
        assert PINNED[topics.changelog(settings, table)][0] == PINNED[topic][0]


def test_every_public_topic_has_a_contract(settings: Settings) -> None:
    internal = {"join-ticks", "scorer-log", "answers", "eligible-traces"}
    public = {name.removeprefix("p-") for name in PINNED if not name.endswith("-changelog")} - internal
    assert public == set(CONTRACTS)


def test_the_map_is_read_in_one_go_and_names_every_role_and_agent() -> None:
    source = inspect.getsource(topology)
    assert len(source.splitlines()) <= 170
    assert all(f"role {role} " in str(topology.__doc__) for role in ROLES)
    assert all(name in str(topology.__doc__) for agents in AGENTS.values() for name in agents)


def test_tier_1_comes_first() -> None:
    assert topics.TIER_1 == ("join", "scorer")
