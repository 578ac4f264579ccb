"""Topics, lag and produce, against Apache Kafka and lite."""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.errors import TopicsError
from schemas.events import Feedback
from schemas.settings import Settings
from streams.cli.main import main
from streams.client import Producer
from streams.kafka.admin import admin_client, ensure_topics, topic_states
from streams.kafka.lag import PartitionLag, measure_lag
from streams.kafka.options import client_options
from streams.state.belonging import check_belonging
from streams.topics import TopicSpec, topic_specs
from tests.live import records_of

pytestmark = pytest.mark.live


@pytest.fixture(params=["broker", "lite_broker"])
def settings(request: pytest.FixtureRequest, prefix: str, tmp_path: Any) -> Settings:
    live = request.getfixturevalue(request.param)
    return Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "kafka": {"bootstrap_servers": live.bootstrap},
            "topics": {"prefix": prefix, "partitions": 2},
        }
    )


def feedback(number: int) -> Feedback:
    return Feedback.model_validate(
        {
            "feedback_id": f"f{number}",
            "experience_id": f"e{number}",
            "timestamp": "2026-01-01T00:00:00Z",
            "source": "user",
            "reward": 0.5,
        }
    )


async def publish(settings: Settings, count: int) -> None:
    async with Producer(settings) as producer:
        for number in range(count):
            await producer.send("feedback", feedback(number))


async def commit(settings: Settings, offsets: dict[int, int]) -> None:
    consumer = AIOKafkaConsumer(
        **client_options(settings), group_id=f"{settings.group_id}-join", enable_auto_commit=False
    )
    await consumer.start()
    try:
        by_partition = {TopicPartition(settings.topic("feedback"), p): o for p, o in offsets.items()}
        consumer.assign(list(by_partition))
        await consumer.commit(by_partition)
    finally:
        await consumer.stop()


def of_feedback(settings: Settings, rows: list[PartitionLag]) -> list[PartitionLag]:
    return [row for row in rows if row.topic == settings.topic("feedback")]


def test_missing_topics_are_created_once_with_their_configs(settings: Settings) -> None:
    specs = topic_specs(settings)
    before = asyncio.run(ensure_topics(settings, specs))
    assert {state.condition for state in before} == {"missing"}
    assert {state.condition for state in asyncio.run(ensure_topics(settings, specs))} == {"ok"}
    assert [state.partitions for state in asyncio.run(topic_states(settings, specs))] == [s.partitions for s in specs]


def test_topics_made_with_the_brokers_defaults_are_refused_by_name_and_mended_with_consent(
    broker: Any, prefix: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.model_validate(
        {"data_dir": str(tmp_path), "kafka": {"bootstrap_servers": broker.bootstrap}, "topics": {"prefix": prefix}}
    )
    specs = topic_specs(settings)

    async def create() -> None:
        async with admin_client(settings) as admin:
            await admin.create_topics(
                [NewTopic(s.name, s.partitions, 1, topic_configs={"compression.type": "zstd"}) for s in specs]
            )

    asyncio.run(create())
    with pytest.raises(TopicsError) as refused:
        asyncio.run(ensure_topics(settings, specs))
    for said in (
        f"{prefix}experiences has ",
        "message.timestamp.type = CreateTime (LogAppendTime is needed)",
        "--apply",
    ):
        assert said in str(refused.value)

    here = ("--bootstrap-servers", broker.bootstrap, "--data-dir", str(tmp_path), "--json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIERSTREAM_TOPICS__PREFIX", prefix)
        for flags, code in (((), 1), (("--apply",), 0), ((), 0)):
            with pytest.raises(SystemExit) as ended:
                main(["topics", *here, *flags])
            assert ended.value.code == code
            rows = json.loads(capsys.readouterr().out)
            assert {row["state"] for row in rows} == ({"ok"} if code == 0 else {"wrong configs"})

    async def compression() -> set[str]:
        async with admin_client(settings) as admin:
            resources = [ConfigResource(ConfigResourceType.TOPIC, s.name, {"compression.type": None}) for s in specs]
            [response] = await admin.describe_configs(resources)
            return {entry[1] for *_, entries in response.resources for entry in entries}

    assert asyncio.run(compression()) == {"zstd"}


def test_topic_with_other_partitions_is_refused_with_the_remedy(settings: Settings) -> None:
    name = settings.topic("feedback")
    asyncio.run(ensure_topics(settings, [TopicSpec(name, 3)]))
    with pytest.raises(TopicsError) as refused:
        asyncio.run(ensure_topics(settings, [TopicSpec(name, 2)]))
    assert f"topic {name} has 3 partitions, 2 are needed" in str(refused.value)
    assert "topics.partitions" in str(refused.value)


def test_two_that_create_the_same_topics_at_once_both_succeed(settings: Settings) -> None:
    async def both() -> None:
        await asyncio.gather(*(ensure_topics(settings, topic_specs(settings)) for _ in range(3)))

    asyncio.run(both())
    assert {state.condition for state in asyncio.run(topic_states(settings, topic_specs(settings)))} == {"ok"}


def test_data_directory_of_another_cluster_is_refused(settings: Settings, tmp_path: Any) -> None:
    asyncio.run(check_belonging(settings))
    asyncio.run(check_belonging(settings))
    (tmp_path / "cluster-id").write_text("another")
    with pytest.raises(TopicsError, match="belongs to cluster another, and the broker is"):
        asyncio.run(check_belonging(settings))


def test_lag_counts_what_is_not_committed_and_its_age(settings: Settings) -> None:
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    started = time.time()
    asyncio.run(publish(settings, 10))
    rows = of_feedback(settings, asyncio.run(measure_lag(settings)))
    assert [row.committed for row in rows] == [None, None]
    assert sum(row.lag for row in rows) == sum(row.end for row in rows) == 10
    ends = {row.partition: row.end for row in rows}
    assert min(ends.values()) > 1
    # Of every partition: a small fetch used to tell the age in the first one only, and 0 in the others.
    assert all(0 < row.lag_seconds <= time.time() - started + 1 for row in rows)

    asyncio.run(commit(settings, {0: ends[0], 1: ends[1] - 1}))
    rows = of_feedback(settings, asyncio.run(measure_lag(settings)))
    assert [(row.committed, row.end, row.lag) for row in rows] == [(ends[0], ends[0], 0), (ends[1] - 1, ends[1], 1)]
    assert rows[0].lag_seconds == 0.0
    assert rows[1].lag_seconds > 0.0


def test_lag_beyond_a_limit_is_one_line_and_exit_1(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    asyncio.run(publish(settings, 10))
    command = ["lag", "--bootstrap-servers", settings.kafka.bootstrap_servers, "--json"]

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TIERSTREAM_TOPICS__PREFIX", settings.topics.prefix)
            patch.setenv("TIERSTREAM_TOPICS__PARTITIONS", "2")
            with pytest.raises(SystemExit) as ended:
                main([*command, *arguments])
        return int(ended.value.code or 0), *capsys.readouterr()

    code, out, err = run("--max-lag", "10", "--max-seconds", "3600")
    assert (code, err) == (0, "")
    assert sum(row["lag"] for row in json.loads(out)) == 10
    code, out, err = run("--max-lag", "0")
    assert code == 1
    assert sum(row["lag"] for row in json.loads(out)) == 10
    assert err.startswith("error: 2 of ")
    assert err.count("\n") == 1
    assert settings.topic("feedback") in err


def test_lag_of_a_deployment_without_topics_is_empty(settings: Settings) -> None:
    assert asyncio.run(measure_lag(settings)) == []


def test_lag_names_the_groups_of_workers_and_trainers(settings: Settings) -> None:
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    groups = {(row.group, row.topic) for row in asyncio.run(measure_lag(settings))}
    assert (f"{settings.group_id}-trainer", settings.topic("training-jobs")) in groups
    assert (f"{settings.group_id}-scorer", settings.topic("scorer-log")) in groups


def test_produce_names_bad_lines_and_sends_the_good_ones(
    settings: Settings, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    monkeypatch.setenv("TIERSTREAM_TOPICS__PREFIX", settings.topics.prefix)
    good = [feedback(n).to_json().decode() for n in range(3)]
    without_reward = json.dumps({k: v for k, v in json.loads(good[0]).items() if k != "reward"})
    (tmp_path / "lines.jsonl").write_text("\n".join([good[0], "{oops", "", good[1], without_reward, good[2]]))
    flags = ["--bootstrap-servers", settings.kafka.bootstrap_servers]
    with pytest.raises(SystemExit) as ended:
        main(["produce", "feedback", str(tmp_path / "lines.jsonl"), *flags, "--rate", "1000"])
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert shown.out == "3 delivered, 2 bad\n"
    assert [line.partition(":")[0] for line in shown.err.splitlines()] == ["line 2", "line 5"]
    assert "no reward" in shown.err
    records = records_of(settings.topic("feedback"), **client_options(settings))
    assert sorted((record.key, record.value) for record in records) == sorted(
        (f"e{n}".encode(), good[n].encode()) for n in range(3)
    )


def test_produce_reads_standard_input(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    monkeypatch.setenv("TIERSTREAM_TOPICS__PREFIX", settings.topics.prefix)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(feedback(1).to_json() + b"\n")))
    with pytest.raises(SystemExit) as ended:
        main(["produce", "feedback", "-", "--bootstrap-servers", settings.kafka.bootstrap_servers])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "1 delivered, 0 bad\n"


def test_topics_command_lists_and_creates(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIERSTREAM_TOPICS__PREFIX", settings.topics.prefix)
    flags = ["--bootstrap-servers", settings.kafka.bootstrap_servers, "--json"]
    for arguments, code, state in (([], 1, "missing"), (["--create"], 0, "ok"), ([], 0, "ok")):
        with pytest.raises(SystemExit) as ended:
            main(["topics", *flags, *arguments])
        assert ended.value.code == code
        listed = json.loads(capsys.readouterr().out)
        assert {row["state"] for row in listed} == {state}
        # The settings of this command come from variables: four partitions by default.
        assert len(listed) == len(topic_specs(settings))


def test_connection_options_follow_the_security_protocol() -> None:
    secured = Settings.model_validate(
        {"kafka": {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": "p"}}
    )
    options = client_options(secured)
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "p")
    assert options["ssl_context"].check_hostname
    assert client_options(Settings()) == {"bootstrap_servers": "127.0.0.1:9092", "security_protocol": "PLAINTEXT"}
