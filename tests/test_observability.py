"""Rules, scrape config and dashboard: what they ask for is exposed, and promtool accepts and tries them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import generate_latest as text_format
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streams.metrics import LATENCY_BUCKETS, Metrics
from streams.topics import ROLES
from streams.worker.exposition import StateCollector, deployment_families, of_roles, role_families
from trainers.pairs.funnel import empty_funnel

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
RULES = yaml.safe_load((CONFIG / "prometheus-rules.yml").read_text("utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((CONFIG / "grafana/dashboards/tierstream.json").read_text("utf-8"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]

SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
    "gauge": ("",),
}
COUNTS = {"waiting": 15, "threshold": 80, "distinct": 15, "jobs": 0}
JOB = {
    "job_id": "dpo-1",
    "tier": "dpo",
    "state": "running",
    "progress": 0.5,
    "metrics": {"loss": 0.6},
    "seconds": None,
    "requested_at": 40.0,
    "updated_at": 95.0,
}
REWARDS = {"answers": 212, "reward": 0.31, "low": 0.22, "high": 0.4}
NO_REWARDS = {"answers": 0, "reward": None, "low": None, "high": None}
LAG = {
    "group": "tierstream-join",
    "topic": "feedback",
    "partition": 0,
    "committed": 1,
    "end": 3,
    "lag": 2,
    "lag_seconds": 4.5,
}


def status(**changes: Any) -> dict[str, Any]:
    """What all roles tell, as if they were one, and what was observed beside them."""
    scorer = {
        "steps": 31,
        "learning_rate": 1e-3,
        "validation_loss": None,
        "samples_learned": 2404,
        "samples_held_out": 250,
        "groups_learned": 822,
        "groups_held_out": 86,
        "decays": 3,
        "decays_at_floor": 6,
        "score_quantiles": {"0.5": 0.25},
    }
    observed = {
        "at": 100.0,
        "lag": [LAG],
        "members": {"tierstream-join": 1, "tierstream-trainer": 0},
        "jobs": [JOB, {**JOB, "job_id": "dpo-0", "state": "failed", "seconds": 12.5, "updated_at": 60.0}],
        "checkpoint": {"name": "c", "size_bytes": 7, "written_at": 90.0},
        "drift": {
            "alarms": [{"series": "reward_rate", "of": "source=user", "at": 80.0, "before": 0.5, "experience_id": "e"}],
            "newest_judgement": 97.0,
            "unjudged": 3,
        },
        "outcome": {
            "lines": [{"line": "dpo", "version": "dpo-b", "before": "dpo-a", "comparison": None, "worse": True}],
            "versions": [
                {"version": "dpo-b", "known": True, "in_use": True, **REWARDS, "sources": {"user": REWARDS}},
                {"version": "dpo-a", "known": True, "in_use": False, **NO_REWARDS, "sources": {}},
            ],
            "unnamed": 0,
        },
        "not_served": {"policy": {"version": "dpo-c", "reason": "it is away", "in_use": False}},
    }
    whole = {
        "ready": True,
        "learning_paused_since": None,
        "scorer": scorer,
        "pair_funnel": empty_funnel(),
        "dpo": COUNTS,
        "sft": COUNTS,
    }
    return {**whole, "observed": observed, **changes}


def registry_of(account: dict[str, Any], role: str = "any") -> CollectorRegistry:
    """Return what a worker exposes of one role with this status, and of the deployment."""
    metrics = Metrics()
    metrics.count("claude-traces", {"stored": 1, "excellent": 1})
    metrics.count_letters({"invalid": 1})
    own: CollectorRegistry = metrics.registry
    own.register(StateCollector(lambda: role_families(account)))
    of_role = generate_latest(own).decode()  # type: ignore[no-untyped-call]

    def families() -> Iterator[Metric]:
        yield from of_roles({role: of_role})
        if "observed" in account:
            yield from deployment_families(account["observed"])

    whole = CollectorRegistry()
    whole.register(StateCollector(families))
    return whole


def exposed(account: dict[str, Any], role: str = "any") -> str:
    """Return it as OpenMetrics."""
    return generate_latest(registry_of(account, role)).decode()  # type: ignore[no-any-return, no-untyped-call]


def sample_names(text: str) -> set[str]:
    """Every name that a query can ask for."""
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    return {name + suffix for name, kind in types for suffix in SUFFIXES[kind]}


def asked(text: str) -> set[str]:
    return set(re.findall(r"\btierstream_[a-z0-9_]+", text))


def values(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and its labels' values, sorted."""
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }


def test_rules_and_dashboard_ask_for_nothing_that_is_not_exposed() -> None:
    names = sample_names(exposed(status()))
    expressions = [rule["expr"] for rule in RULES]
    expressions += [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    wanted = set().union(*map(asked, expressions))
    assert len(wanted) > 30
    assert wanted <= names


def test_the_state_comes_out_as_it_is() -> None:
    found = values(exposed(status(), "r"))
    assert found["tierstream_ready", ("r",)] == 1
    assert found["tierstream_scorer_steps_total", ("r",)] == 31
    assert found["tierstream_scorer_decays_total", ("at_floor", "r")] == 6
    assert found["tierstream_scorer_score", ("50", "r")] == 0.25
    assert found["tierstream_scorer_learning_paused", ("r",)] == 0
    assert found["tierstream_scorer_version_refused", ("r",)] == 0
    refusing = status()
    refusing["scorer"] = {**refusing["scorer"], "version_refused": {"scorer-a": "it has rank 8"}}
    assert values(exposed(refusing, "r"))["tierstream_scorer_version_refused", ("r",)] == 1
    assert found["tierstream_pending_examples", ("dpo", "r")] == 15
    assert found["tierstream_consumer_lag_records", ("0", "feedback", "tierstream-join")] == 2
    assert found["tierstream_consumer_lag_seconds", ("0", "feedback", "tierstream-join")] == 4.5
    assert found["tierstream_consumers", ("tierstream-trainer",)] == 0
    assert found["tierstream_jobs", ("dpo", "running")] == found["tierstream_jobs", ("dpo", "failed")] == 1
    assert found["tierstream_job_seconds_sum", ("dpo", "failed")] == 12.5
    assert found["tierstream_job_progress_ratio", ("dpo", "dpo-1")] == 0.5
    assert found["tierstream_jobs_oldest_request_timestamp_seconds", ("dpo", "running")] == 40.0
    assert found["tierstream_job_report_timestamp_seconds", ("dpo", "dpo-1")] == 95.0
    assert found["tierstream_jobs_newest_end_timestamp_seconds", ("dpo", "failed")] == 60.0
    assert ("tierstream_job_report_timestamp_seconds", ("dpo", "dpo-0")) not in found
    assert found["tierstream_scorer_checkpoint_timestamp_seconds", ()] == 90.0
    assert found["tierstream_drift_alarm_timestamp_seconds", ("reward_rate", "source=user")] == 80.0
    assert found["tierstream_newest_judgement_timestamp_seconds", ()] == 97.0
    assert found["tierstream_unjudged_experiences", ()] == 3
    assert found["tierstream_version_reward", ("dpo-b", "user")] == 0.31
    assert found["tierstream_version_reward_low", ("all", "dpo-b")] == 0.22
    assert found["tierstream_version_reward_high", ("all", "dpo-b")] == 0.4
    assert found["tierstream_version_answers", ("all", "dpo-a")] == 0
    assert ("tierstream_version_reward", ("all", "dpo-a")) not in found
    assert found["tierstream_version_worse", ("dpo",)] == 1
    assert found["tierstream_version_not_served", ("policy",)] == 1
    served = status()
    served["observed"]["not_served"] = {}
    assert values(exposed(served))["tierstream_version_not_served", ("policy",)] == 0
    assert ("tierstream_scorer_validation_loss", ("r",)) not in found


def test_a_role_that_is_not_ready_says_only_what_it_knows() -> None:
    found = values(exposed({"ready": False, "reason": "recovering tables", "scorer": None}, "r"))
    assert found["tierstream_ready", ("r",)] == 0
    assert not any(name.startswith("tierstream_scorer") for name, _ in found)


def test_names_follow_the_conventions() -> None:
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", exposed(status()), re.MULTILINE):
        assert re.fullmatch(r"tierstream_[a-z][a-z0-9_]*", name), name
        assert not name.endswith(("_total", "_ms", "_milliseconds", "_percent")), (name, kind)
    for name in re.findall(r"^# HELP (\S+)$", exposed(status()), re.MULTILINE):
        pytest.fail(f"{name} has no help")


def test_every_rule_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["remedy"]


def test_the_dashboard_is_provisioned_from_the_files_that_compose_mounts() -> None:
    datasource = yaml.safe_load((CONFIG / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    provider = yaml.safe_load((CONFIG / "grafana/provisioning/dashboards/tierstream.yml").read_text("utf-8"))
    [source] = datasource["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {p["datasource"]["uid"] for p in DASHBOARD["panels"] if "datasource" in p} == {source["uid"]}
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["grafana"]["volumes"])
    assert mounts["./config/grafana/dashboards"] == provider["providers"][0]["options"]["path"]
    assert all((ROOT / place).exists() for place in mounts if place.startswith("."))
    assert all(port.startswith("127.0.0.1:") for name in ("prometheus", "grafana") for port in COMPOSE[name]["ports"])


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_scrape_config_names_the_rules_and_the_worker() -> None:
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text("utf-8"))
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["prometheus"]["volumes"])
    assert config["rule_files"] == [mounts["./config/prometheus-rules.yml"]]
    [targets] = config["scrape_configs"][0]["static_configs"]
    assert targets["targets"] == [f"{role}:8321" for role in ROLES]
    token = config["scrape_configs"][0]["authorization"]["credentials_file"]
    assert token == COMPOSE["join"]["environment"]["TIERSTREAM_WEB__TOKEN_FILE"]
    assert mounts["tierstream-data"] == COMPOSE["join"]["environment"]["TIERSTREAM_DATA_DIR"]
    user = re.search(r"^USER (\d+):", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert user is not None  # the token is readable by whoever made it alone
    assert COMPOSE["prometheus"]["user"].partition(":")[0] == user[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "config/prometheus-rules.yml"),
        ("check", "config", "--syntax-only", "config/prometheus.yml"),
        ("test", "rules", "tests/prometheus/rules_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: it comes with Prometheus")
    done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_where_it_must_fire_and_where_it_must_not() -> None:
    tried = yaml.safe_load((ROOT / "tests/prometheus/rules_test.yml").read_text("utf-8"))["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tried for case in test["alert_rule_test"]]
    assert set(cases) == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


def test_promtool_accepts_the_metrics_in_prometheus_own_format() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: it comes with Prometheus")
    text = text_format(registry_of(status())).decode()
    assert "tierstream_events_total{" in text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_an_event_is_counted_once_and_what_else_is_said_of_it_beside() -> None:
    metrics = Metrics()
    metrics.count("claude-traces", {"stored": 2, "excellent": 1, "no_thinking": 1, "dead_lettered": 1})
    metrics.count("experiences", {"arrived": 3, "joined": 2})  # feedback that had come before them
    metrics.count("feedback", {"joined": 4, "early": 2, "unknown_widget": 1, "orphan_feedback": 1, "expired": 5})
    metrics.count("preference-pairs", {"pending": 80, "jobs": 1})
    read = metrics.registry.get_sample_value
    by_topic: Counter[str] = Counter()
    for sample in (sample for family in metrics.events.collect() for sample in family.samples):
        by_topic[sample.labels["topic"]] += int(sample.value)
    assert by_topic == {"claude-traces": 3, "experiences": 3, "feedback": 6, "preference-pairs": 80}
    assert read("tierstream_event_remarks_total", {"topic": "claude-traces", "remark": "excellent"}) == 1
    assert metrics.totals()["feedback"] == {
        "joined": 4,
        "early": 2,
        "unknown_widget": 1,
        "orphan_feedback": 1,
        "expired": 5,
    }


def test_many_latencies_at_once_are_the_histogram_that_one_at_a_time_gives() -> None:
    seconds = [0.0, 0.004, 0.005, 0.0051, 0.25, 59.0, 60.0, 61.0, 1e9]
    ours, theirs = Metrics(), CollectorRegistry()
    single = Histogram("tierstream_feedback_to_score_seconds", "x", buckets=LATENCY_BUCKETS, registry=theirs)
    ours.observe_latency(seconds[:4])
    ours.observe_latency(seconds[4:])
    for value in seconds:
        single.observe(value)
    names = ("tierstream_feedback_to_score_seconds_bucket", "tierstream_feedback_to_score_seconds_count")
    for name in names:
        for bound in (*map(str, LATENCY_BUCKETS), "+Inf") if name.endswith("bucket") else (None,):
            labels = {"le": bound} if bound else {}
            expected = theirs.get_sample_value(name, labels)
            assert expected is not None
            assert ours.registry.get_sample_value(name, labels) == expected
    assert ours.registry.get_sample_value("tierstream_feedback_to_score_seconds_sum") == pytest.approx(sum(seconds))
