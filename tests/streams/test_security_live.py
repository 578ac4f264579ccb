"""Apache Kafka with TLS, SCRAM, PLAIN and client certificates: who is let in, who is not, and what is told of it."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.live import Deployment
from tests.secured import MECHANISMS, PASSWORD, USER, SecuredBroker, secured_broker

pytestmark = [pytest.mark.live, pytest.mark.long]

TOKEN = "t0ken-of-the-web-server"
EXPERIENCE = {
    "experience_id": "e1",
    "timestamp": 1,
    "query": "how is pump 4",
    "intent": {"type": "status", "domains": ["pumps"], "devices": ["pump"]},
    "widget_plan": [{"widget_id": "w1", "widget_type": "gauge", "text": "pressure"}],
    "voice_reply": "it runs",
}
FEEDBACK = {"feedback_id": "f1", "experience_id": "e1", "timestamp": 2, "source": "user", "reward": 1.0}
TRACE = {
    "trace_id": "t1",
    "timestamp": 1,
    "kind": "user_query",
    "prompt": "why?",
    "thinking": "hm",
    "response": "because",
    "model": "m",
}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    with secured_broker(tmp_path_factory.mktemp("secured")) as running:
        yield running


def deployment(secured: SecuredBroker, prefix: str, folder: Path, **overrides: Any) -> Deployment:
    password = folder / "password.txt"
    password.write_text(PASSWORD + "\n")
    kafka = {**secured.settings(), "sasl_password_file": str(password), **overrides.pop("kafka", {})}
    kafka = {key: value for key, value in kafka.items() if value is not None}
    return Deployment(secured.plain, prefix, folder / "data", kafka=kafka, topics={"partitions": 2}, **overrides)


def test_events_go_all_the_way_and_secrets_stay_where_they_are(
    secured: SecuredBroker, prefix: str, tmp_path: Path
) -> None:
    said: list[bytes] = []

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = live.command(*arguments)
        said.append((done.stdout + done.stderr).encode())
        return done

    with deployment(
        secured,
        prefix,
        tmp_path,
        traces={"threshold": 1},
        stream={"log_level": "debug"},
        web={"token": TOKEN},
    ) as live:
        worker = live.worker()
        live.start("trainer")
        for topic, event in (("experiences", EXPERIENCE), ("feedback", FEEDBACK), ("claude-traces", TRACE)):
            file = tmp_path / f"{topic}.jsonl"
            file.write_text(json.dumps(event) + "\n")
            assert command("produce", topic, str(file)).stdout == "1 delivered, 0 bad\n"
        live.publish("feedback", [b"no JSON"], key="e1")
        updates = live.wait_for("score-updates", lambda found: len(found) == 2)
        assert {one["experience_id"] for one in updates} == {"e1"}
        live.wait_for("job-updates", lambda found: len(found) > 0)
        live.wait_for("dead-letters", lambda found: len(found) == 1)
        lags = json.loads(command("lag", "--json").stdout)
        assert {row["group"] for row in lags} == {
            f"{prefix}tierstream-{name}" for name in ("join", "scorer", "pairs", "traces", "trainer")
        }
        report = json.loads(command("doctor", "--json").stdout)
        assert report["settings"]["web.token"]["value"] == "**********"
        assert {check["verdict"] for check in report["checks"] if check["name"] == "broker"} == {"ok"}
        command("doctor")
        said += [worker.get(path)[1] for path in ("/", "/status", "/metrics")]
        assert worker.get("/status")[0] == 401
        topics = ("training-jobs", "job-updates", "dead-letters", "score-updates", "scorer-log")
        said += [record.value or b"" for topic in topics for record in live.records(live.settings.topic(topic))]
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "password.txt"]
    assert len(written) > 10
    said += [path.read_bytes() for path in written]
    for secret in (PASSWORD, TOKEN):
        for form in (secret.encode(), base64.b64encode(secret.encode()).rstrip(b"=")[:-1]):
            assert not [text[:200] for text in said if form in text]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("listener", ["sasl_ssl", "sasl_plaintext"])
def test_every_mechanism_lets_the_right_password_in_and_no_other(
    secured: SecuredBroker, prefix: str, tmp_path: Path, mechanism: str, listener: str
) -> None:
    place = {"bootstrap_servers": getattr(secured, listener), "security_protocol": listener.upper()}
    live = deployment(secured, prefix, tmp_path, kafka={"sasl_mechanism": mechanism, **place})
    done = live.command("lag", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    (tmp_path / "password.txt").write_text("wrong\n")
    done = live.command("lag", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: broker {place['bootstrap_servers']} refuses user {USER} with that password ({mechanism}); "
        "see kafka.sasl_username, kafka.sasl_password or kafka.sasl_password_file, and kafka.sasl_mechanism\n"
    )


@pytest.mark.parametrize("command", ["worker", "trainer", "topics"])
def test_a_wrong_password_is_one_line_from_every_command(
    secured: SecuredBroker, prefix: str, tmp_path: Path, command: str
) -> None:
    live = deployment(secured, prefix, tmp_path)
    (tmp_path / "password.txt").write_text("wrong\n")
    done = live.command(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: broker {secured.sasl_ssl} refuses user {USER} with that password")
    assert done.stderr.count("\n") == 1


def test_a_broker_whose_certificate_nobody_vouches_for_is_not_spoken_to(
    secured: SecuredBroker, prefix: str, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    live = deployment(secured, prefix, tmp_path, kafka={"ssl_cafile": str(stranger.certificate)})
    done = live.command("topics")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: broker {secured.sasl_ssl} shows a certificate that is not trusted: ")
    assert done.stderr.endswith("; name the PEM file of the authority that signed it with kafka.ssl_cafile\n")
    assert done.stderr.count("\n") == 1


def test_a_client_certificate_is_shown_where_the_broker_asks_for_one(
    secured: SecuredBroker, prefix: str, tmp_path: Path
) -> None:
    mutual = {
        "bootstrap_servers": secured.mutual,
        "security_protocol": "SSL",
        "sasl_mechanism": None,
        "sasl_username": None,
        "sasl_password_file": None,
    }
    certificate, key = secured.client
    known = deployment(
        secured, prefix, tmp_path, kafka={**mutual, "ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    )
    done = known.command("lag", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    done = deployment(secured, prefix, tmp_path, kafka=mutual).command("lag", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: broker {secured.mutual} closes the connection; see kafka.security_protocol, and kafka.ssl_certfile "
        "where it asks for a certificate\n"
    )
