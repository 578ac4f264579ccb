"""OAUTHBEARER on Apache Kafka: tokens of a small endpoint, of a command, renewed while a worker runs, and refused."""

from __future__ import annotations

import base64
import json
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.live import Deployment
from tests.secured import SecuredBroker, secured_broker
from tests.streams.test_security_live import EXPERIENCE, FEEDBACK, TRACE

pytestmark = pytest.mark.live

CLIENT, SECRET = "stream", "of the:client"
LIFE_SECONDS = 4


def unsecured_jwt(lasts: float) -> str:
    """Return a token as Kafka's own validator takes it."""
    now = time.time()
    parts: list[dict[str, Any]] = [{"alg": "none"}, {"sub": CLIENT, "iat": now - 60, "exp": now + lasts}]
    return "".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") + "." for part in parts)


class Endpoint(ThreadingHTTPServer):
    """An OIDC provider in so far as client credentials need it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.given: list[float] = []
        self.lasts = float(LIFE_SECONDS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"


class Answer(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        expected = base64.b64encode(b"stream:of+the%3Aclient").decode()
        allowed = self.headers["Authorization"] == f"Basic {expected}"
        body = b'{"error": "invalid_client"}'
        if allowed and form == {"grant_type": ["client_credentials"], "scope": ["kafka"]}:
            self.server.given.append(time.monotonic())
            body = json.dumps({"access_token": unsecured_jwt(self.server.lasts), "expires_in": LIFE_SECONDS}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    with secured_broker(tmp_path_factory.mktemp("secured")) as running:
        yield running


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def deployment(secured: SecuredBroker, prefix: str, folder: Path, **kafka: Any) -> Deployment:
    given = {
        "bootstrap_servers": secured.bearer,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
    }
    return Deployment(
        secured.plain,
        prefix,
        folder / "data",
        kafka={**given, **kafka},
        topics={"partitions": 2},
        traces={"threshold": 1},
    )


def by_endpoint(endpoint: Endpoint, secret: str = SECRET) -> dict[str, str]:
    return {
        "oauth_token_url": endpoint.url,
        "oauth_scope": "kafka",
        "sasl_username": CLIENT,
        "sasl_password": secret,
    }


@pytest.mark.slow
def test_events_go_all_the_way_and_tokens_are_renewed_while_they_do(
    secured: SecuredBroker, endpoint: Endpoint, prefix: str, tmp_path: Path
) -> None:
    with deployment(secured, prefix, tmp_path, **by_endpoint(endpoint)) as live:
        worker = live.worker()
        live.start("trainer")
        for number in range(3):
            events = {
                "experiences": {**EXPERIENCE, "experience_id": f"e{number}"},
                "feedback": {**FEEDBACK, "feedback_id": f"f{number}", "experience_id": f"e{number}"},
                "claude-traces": {**TRACE, "trace_id": f"t{number}"},
            }
            for topic, event in events.items():
                file = tmp_path / f"{topic}.jsonl"
                file.write_text(json.dumps(event) + "\n")
                assert live.command("produce", topic, str(file)).stdout == "1 delivered, 0 bad\n"
            live.wait_for("score-updates", lambda found, so_far=2 * (number + 1): len(found) == so_far)
            before = len(endpoint.given)
            deadline = time.monotonic() + 60
            # Whoever came with the token by now has to come back with another one.
            while len(endpoint.given) < before + 4:
                assert time.monotonic() < deadline, endpoint.given
                time.sleep(0.2)
        live.wait_for("job-updates", lambda found: len({one["job_id"] for one in found}) == 3)
        assert worker.get("/readyz")[0] == 200
        assert "ended with code" not in worker.log.read_text()


def test_a_token_of_a_command_is_taken(secured: SecuredBroker, prefix: str, tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-c", f"print({unsecured_jwt(600)!r})"])
    done = deployment(secured, prefix, tmp_path, oauth_token_command=command).command("lag", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_client_that_the_endpoint_refuses_is_one_line(
    secured: SecuredBroker, endpoint: Endpoint, prefix: str, tmp_path: Path
) -> None:
    live = deployment(secured, prefix, tmp_path, **by_endpoint(endpoint, "wrong"))
    for command in ("lag", "worker", "trainer"):
        done = live.command(command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"error: broker {secured.bearer} is not asked: {endpoint.url} gives client stream no token: 401 "
            "Unauthorized; see kafka.oauth_token_url or kafka.oauth_token_command, and the provider's log\n"
        )


def test_a_token_that_the_broker_refuses_is_one_line(
    secured: SecuredBroker, endpoint: Endpoint, prefix: str, tmp_path: Path
) -> None:
    endpoint.lasts = -30.0
    for command in ("lag", "worker", "trainer"):
        done = deployment(secured, prefix, tmp_path, **by_endpoint(endpoint)).command(command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"error: broker {secured.bearer} refuses the token (OAUTHBEARER); see what it expects of issuer, audience "
            "and scope, and both clocks\n"
        )
