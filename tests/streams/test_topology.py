"""The map, pinned: names are contracts with producers, consumers and stored data, and change by intent only."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import pytest

from schemas.settings import Settings
from streams import topology
from streams.admin import TopicState
from streams.agents import Agents
from streams.contract import CONTRACTS
from streams.lag import watched
from tests.streams.offline import offline_app

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
    "p-training-jobs": (1, FOREVER),
    "p-job-updates": (1, FOREVER),
    "p-model-versions": (1, COMPACTED),
    "p-dead-letters": (1, FOREVER),
    "p-join-ticks": (3, {"retention.ms": "86400000"} | DELETED | BROKER_TIME),
    "p-scorer-entries": (1, FOREVER),
    "p-scorer-steps": (1, FOREVER),
    "p-answers": (3, FOREVER),
    "p-eligible-traces": (1, FOREVER),
    "p-group-experiences-changelog": (3, COMPACTED),
    "p-group-judgements-changelog": (3, COMPACTED),
    "p-group-answers-changelog": (3, COMPACTED),
    "p-group-dpo-examples-changelog": (1, COMPACTED),
    "p-group-sft-examples-changelog": (1, COMPACTED),
}
"""Partitions and configs of every topic, with three partitions, a retention of 30 days and the prefix `p-`."""

AGENTS = {
    "join-feedback": ["p-experiences", "p-feedback", "p-join-ticks"],
    "learn-from-feedback": ["p-scorer-entries"],
    "pair-answers": ["p-answers"],
    "start-dpo-job": ["p-preference-pairs"],
    "store-traces": ["p-claude-traces"],
    "start-sft-job": ["p-eligible-traces"],
}
"""What each agent reads."""


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "kafka": {"app_id": "group"},
            "topics": {"prefix": "p-", "partitions": 3, "retention": "30d"},
            "stream": {"table_store": "memory"},
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
    spec = next(spec for spec in topology.topic_specs(Settings()) if spec.name == "feedback")
    state = TopicState(spec, spec.partitions, found)
    assert state.condition == condition
    assert (state.fault is None) == (condition == "ok")
    assert all(
        f"{name} = {value} ({spec.configs[name]} is needed)" in str(state.fault) for name, value in state.unfit.items()
    )


def test_topics_are_pinned_with_prefix_partitions_and_configs(settings: Settings) -> None:
    specs = topology.topic_specs(settings)
    assert {spec.name: (spec.partitions, dict(spec.configs)) for spec in specs} == PINNED
    assert len(specs) == len(PINNED)


def test_events_are_kept_forever_unless_set_otherwise() -> None:
    kept = {spec.name: spec.configs.get("retention.ms") for spec in topology.topic_specs(Settings())}
    assert {name for name, retention in kept.items() if retention not in ("-1", None)} == {"join-ticks"}


def test_a_prefix_is_before_every_name_that_the_broker_sees(settings: Settings) -> None:
    with offline_app(settings) as (app, _):
        changelogs = {table.changelog_topic_name for table in app.tables.values()}
        read = {name for agent in app.agents.values() for name in agent.channel.topics}
        names = {app.conf.id, *changelogs, *read, *watched(settings)}
    assert all(name.startswith("p-") for name in names)
    assert app.conf.id == "p-group"
    assert changelogs == {name for name in PINNED if name.endswith("-changelog")}
    assert changelogs | read <= PINNED.keys()


def test_every_agent_is_named_and_reads_its_topics_alone(settings: Settings) -> None:
    with offline_app(settings) as (app, _):
        assert {name: list(agent.channel.topics) for name, agent in app.agents.items()} == AGENTS
        side_by_side = {"join-feedback": 4, "learn-from-feedback": 4, "pair-answers": 4}
        assert {name: agent.concurrency for name, agent in app.agents.items()} == dict.fromkeys(
            AGENTS, 1
        ) | side_by_side


def test_every_batch_topic_is_bound_once(settings: Settings) -> None:
    bound: Counter[str] = Counter()
    bodies = []

    class Recorder:
        def agent_on(self, *topics: str, name: str, body: Any, at_once: int = 1) -> None:
            bound.update(settings.topic(topic) for topic in topics)
            bodies.append(body)

    with offline_app(settings) as (app, _):
        topology.connect(Recorder(), app.agents_of_ours)  # type: ignore[arg-type]
        assert set(bodies) == {getattr(app.agents_of_ours, name).process for name in Agents.__dataclass_fields__}
    assert bound == dict.fromkeys(topology.batch_topics(settings), 1)
    assert bound.keys() <= PINNED.keys()


def test_a_table_has_the_partitions_of_its_agents_input(settings: Settings) -> None:
    inputs = {
        topology.EXPERIENCES_TABLE: "p-experiences",
        topology.JUDGEMENTS_TABLE: "p-feedback",
        topology.ANSWERS_TABLE: "p-answers",
        topology.DPO_EXAMPLES_TABLE: "p-preference-pairs",
        topology.SFT_EXAMPLES_TABLE: "p-eligible-traces",
    }
    with offline_app(settings) as (app, _):
        assert {name: table.partitions for name, table in app.tables.items()} == {
            table: PINNED[topic][0] for table, topic in inputs.items()
        }
    for table, topic in inputs.items():
        assert PINNED[topology.changelog(settings, table)][0] == PINNED[topic][0]


def test_every_public_topic_has_a_contract(settings: Settings) -> None:
    internal = {"join-ticks", "scorer-entries", "scorer-steps", "answers", "eligible-traces"}
    public = {name.removeprefix("p-") for name in PINNED if not name.endswith("-changelog")} - internal
    assert public == set(CONTRACTS)


def test_the_map_is_one_screen_long_and_names_every_agent() -> None:
    source = inspect.getsource(topology)
    assert len(source.splitlines()) <= 130
    assert all(name in str(topology.__doc__) for name in AGENTS)
