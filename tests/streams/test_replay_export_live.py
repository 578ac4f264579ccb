"""Exporting topics and publishing them once more, as on the command line."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer

from schemas.events import Experience, Feedback
from schemas.settings import Settings
from streams.cli.main import main
from streams.client import Client, follow
from streams.kafka.admin import ensure_topics
from streams.kafka.options import client_options
from streams.topics import topic_specs

pytestmark = pytest.mark.live

EXPERIENCE = Experience.model_validate(
    {
        "experience_id": "e1",
        "timestamp": "2026-01-01T00:00:00Z",
        "query": "how is pump 4",
        "intent": {"type": "status", "domains": ["pumps"]},
        "widget_plan": [{"widget_id": "w1", "widget_type": "gauge"}],
        "query_embedding": [0.25] * 384,
        "confidence": 0.5,
    }
)


def feedback(number: int) -> Feedback:
    return Feedback.model_validate(
        {
            "feedback_id": f"f{number}",
            "experience_id": f"e{number}",
            "timestamp": f"2026-01-0{number + 1}T00:00:00Z",
            "source": "user",
            "reward": 0.5,
        }
    )


@pytest.fixture
def settings(request: pytest.FixtureRequest, prefix: str) -> Settings:
    """A deployment with five feedbacks, one experience, and one record that is no feedback."""
    live = request.getfixturevalue(getattr(request, "param", "broker"))
    made = of(live.bootstrap, prefix)
    asyncio.run(ensure_topics(made, topic_specs(made)))
    with Client(made) as client:
        client.publish(EXPERIENCE)
        client.publish_all(feedback(n) for n in range(5))
    asyncio.run(send_bytes(made, b"no feedback"))
    return made


def of(bootstrap: str, prefix: str) -> Settings:
    values = {"kafka": {"bootstrap_servers": bootstrap}, "topics": {"prefix": prefix, "partitions": 2}}
    return Settings.model_validate(values)


async def send_bytes(settings: Settings, value: bytes) -> None:
    async with AIOKafkaProducer(**client_options(settings)) as producer:
        await producer.send_and_wait(settings.topic("feedback"), value, partition=0)


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("TIERSTREAM_TOPICS__PREFIX", settings.topics.prefix)
    monkeypatch.setenv("TIERSTREAM_TOPICS__PARTITIONS", "2")
    monkeypatch.setenv("TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS", settings.kafka.bootstrap_servers)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return command


def read(settings: Settings) -> set[str]:
    async def collect() -> set[str]:
        events = follow(settings, "feedback", Feedback, start="earliest", idle_seconds=1)
        return {event.feedback_id async for event in events}

    return asyncio.run(collect())


@pytest.mark.parametrize("settings", ["broker", "lite_broker"], indirect=True)
def test_exported_topic_can_be_produced_into_another_deployment(settings: Settings, run: Any, tmp_path: Path) -> None:
    code, out, _ = run("export", "experiences", "feedback", "--to", str(tmp_path))
    assert (code, out.splitlines()) == (
        0,
        [f"{tmp_path}/experiences.jsonl: 1 events, 0 bad", f"{tmp_path}/feedback.jsonl: 5 events, 1 bad"],
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experiences.jsonl", "feedback.jsonl"]
    assert Experience.from_json((tmp_path / "experiences.jsonl").read_bytes()) == EXPERIENCE

    other = of(settings.kafka.bootstrap_servers, f"{settings.topics.prefix}b-")
    asyncio.run(ensure_topics(other, topic_specs(other)))
    file = str(tmp_path / "feedback.jsonl")
    code, out, _ = run("replay", "feedback", "--file", file, "--to-prefix", other.topics.prefix)
    assert (code, out) == (
        0,
        f"5 published to {other.topic('feedback')}, 0 bad, "
        "from 2026-01-01 00:00:00+00:00 to 2026-01-05 00:00:00+00:00\n",
    )
    assert read(other) == {f"f{n}" for n in range(5)}


def test_parquet_has_a_typed_column_a_field_and_the_records_place(run: Any, tmp_path: Path) -> None:
    assert run("export", "feedback", "experiences", "--to", str(tmp_path), "--format", "parquet")[0] == 0
    rows = sorted(pq.read_table(tmp_path / "feedback.parquet").to_pylist(), key=lambda row: row["feedback_id"])
    assert [(row["feedback_id"], row["reward"], row["timestamp"].day) for row in rows] == [
        (f"f{n}", 0.5, n + 1) for n in range(5)
    ]
    assert {(row["record_partition"] in (0, 1), row["record_offset"] >= 0) for row in rows} == {(True, True)}
    [experience] = pq.read_table(tmp_path / "experiences.parquet").to_pylist()
    assert json.loads(experience["intent"])["domains"] == ["pumps"]
    assert json.loads(experience["widget_plan"])[0]["widget_type"] == "gauge"
    assert experience["voice_reply"] is None


def test_topic_is_published_into_another_deployment_and_bad_records_are_named(settings: Settings, run: Any) -> None:
    other = of(settings.kafka.bootstrap_servers, f"{settings.topics.prefix}c-")
    asyncio.run(ensure_topics(other, topic_specs(other)))
    code, out, err = run("replay", "feedback", "--to-prefix", other.topics.prefix, "--rate", "1000", "--json")
    assert code == 1
    assert re.fullmatch(r"partition 0 offset \d+: Invalid JSON.*\n", err)
    report = json.loads(out)
    assert (report["published"], report["bad"], report["dry_run"]) == (5, 1, False)
    assert report["topic"] == other.topic("feedback")
    assert read(other) == {f"f{n}" for n in range(5)}


def test_dry_run_publishes_nothing(settings: Settings, run: Any) -> None:
    code, out, _ = run("replay", "feedback", "--dry-run", "--rate", "10", "--json")
    assert code == 1
    report = json.loads(out)
    assert (report["published"], report["bad"], report["seconds_at_rate"]) == (5, 1, 0.5)
    assert read(settings) == {f"f{n}" for n in range(5)}


def test_stretch_of_a_file_is_by_the_events_own_time(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_bytes(b"".join(feedback(n).to_json() + b"\n" for n in range(5)))
    stretch = ("--since", "2026-01-02T00:00:00Z", "--until", "2026-01-04T00:00:00Z")
    _, out, _ = run("replay", "feedback", "--file", str(file), *stretch, "--dry-run", "--json")
    assert json.loads(out)["published"] == 2


def test_stretch_of_a_topic_is_by_the_brokers_time(run: Any) -> None:
    assert json.loads(run("replay", "feedback", "--since", "2100-01-01T00:00:00Z", "--dry-run", "--json")[1]) == {
        "topic": json.loads(run("replay", "feedback", "--dry-run", "--json")[1])["topic"],
        "dry_run": True,
        "published": 0,
        "bad": 0,
        "first": None,
        "last": None,
    }
    assert json.loads(run("replay", "feedback", "--since", "0", "--dry-run", "--json")[1])["published"] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["replay"], 2, "give TOPIC"),
        (["replay", "feedback"], 2, "drops what it has seen"),
        (["replay", "feedback", "--tier", "scorer"], 2, "not both"),
        (["replay", "--tier", "scorer"], 2, "--tier needs --verify"),
        (["replay", "feedback", "--since", "soon", "--dry-run"], 2, "'soon' is no time"),
        (["replay", "feedback", "--to-prefix", "a/b"], 2, "String should match pattern"),
        (["replay", "feedback", "--file", "gone.jsonl", "--dry-run"], 1, "gone.jsonl cannot be read"),
        (["export", "feedback", "--to", "/proc/1/x"], 1, "cannot be written"),
        (["export", "nothing", "--to", "x"], 2, "is not one of"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], code: int, line: str, run: Any) -> None:
    ended, _, err = run(*arguments)
    assert (ended, err.count("\n"), line in err) == (code, 1, True), err
