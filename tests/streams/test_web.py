"""The web servers on real loopback ports, a worker's and a role's: what is open, what needs the token, what is said."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, CookieJar
from faust.types import TP
from prometheus_client import CollectorRegistry, Gauge

from schemas.errors import SettingsError
from schemas.settings import Settings
from streams.topics import Role
from streams.worker.role_app import TierstreamApp
from streams.worker.role_web import RoleWeb
from streams.worker.web import WorkerWeb
from tests.streams.offline import offline_app

PAGES = ("/", "/metrics", "/status")
STREAM = "/events"
OPEN = ("/healthz", "/readyz")
TOKEN = "öpen sesame"
READY = {"ready": True, "reason": None, "scorer": None, "roles": {"join": {"ready": True}}}


class Told:
    """Stands in for the roles of a worker."""

    def __init__(self, account: Mapping[str, Any]) -> None:
        self._account = account

    async def status(self) -> Mapping[str, Any]:
        return self._account

    async def deployment(self) -> Mapping[str, Any]:
        return self._account

    async def metrics(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        Gauge("tierstream_ready", "x", ["role"], registry=registry).labels("join").set(self._account["ready"])
        return registry


def settings_of(tmp_path: Path, **web: Any) -> Settings:
    return Settings.model_validate({"data_dir": str(tmp_path), "web": {"port": 0, **web}})


async def get(port: int, *requests: tuple[str, Mapping[str, str]]) -> list[tuple[int, str, bytes]]:
    """Return status, content type and body of each page."""
    found = []
    async with ClientSession(f"http://127.0.0.1:{port}") as client:
        for path, headers in requests:
            async with client.get(path, headers=headers) as answer:
                found.append((answer.status, answer.content_type, await answer.read()))
    return found


def fetch(
    tmp_path: Path, *requests: tuple[str, Mapping[str, str]], account: Mapping[str, Any] = READY, **web: Any
) -> list[tuple[int, str, bytes]]:
    """Ask a worker's server."""

    async def run() -> list[tuple[int, str, bytes]]:
        server = WorkerWeb(settings_of(tmp_path, **web), Told(account))
        port = await server.start()
        try:
            return await get(port, *requests)
        finally:
            await server.stop()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1", "address already in use"), ("192.0.2.1", "cannot assign requested address")]
)
def test_an_address_that_cannot_be_listened_on_is_told_in_one_line(tmp_path: Path, host: str, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as told:
            fetch(tmp_path, host=host, port=port, token=TOKEN)
    assert str(told.value) == (
        f"web.host {host}, web.port {port} cannot be listened on: {reason}; web.port 0 picks a free one"
    )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_everything_is_open_without_a_token_in_the_settings(tmp_path: Path) -> None:
    answers = fetch(tmp_path, *((path, {}) for path in (*PAGES, *OPEN)))
    assert [status for status, _, _ in answers] == [200] * 5


@pytest.mark.parametrize(
    "headers", [{}, bearer("wrong"), bearer(""), bearer(TOKEN + "x"), {"Authorization": "Basic x"}]
)
def test_pages_with_data_need_the_token_and_health_does_not(tmp_path: Path, headers: dict[str, str]) -> None:
    answers = fetch(tmp_path, *((path, headers) for path in (*PAGES, "/nothing", *OPEN)), token=TOKEN)
    assert [status for status, _, _ in answers] == [401] * 4 + [200] * 2
    for _, _, body in answers[:4]:
        assert orjson.loads(body) == {"error": "a bearer token is needed: see web.token"}


def test_the_token_opens_every_page(tmp_path: Path) -> None:
    answers = fetch(tmp_path, *((path, bearer(TOKEN)) for path in (*PAGES, "/nothing")), token=TOKEN)
    assert [status for status, _, _ in answers] == [200, 200, 200, 404]


def test_status_is_json_of_what_all_roles_say(tmp_path: Path) -> None:
    [(_, kind, body)] = fetch(tmp_path, ("/status", {}))
    assert (kind, orjson.loads(body)) == ("application/json", READY)


def test_metrics_are_in_the_format_that_is_asked_for(tmp_path: Path) -> None:
    accepts = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    told, plain = fetch(tmp_path, ("/metrics", accepts), ("/metrics", {"Accept": "text/plain"}))
    assert [told[1], plain[1]] == ["application/openmetrics-text", "text/plain"]
    assert all(b'tierstream_ready{role="join"} 1.0\n' in body for _, _, body in (told, plain))
    assert told[2].endswith(b"# EOF\n")
    assert b"# EOF" not in plain[2]


@pytest.mark.parametrize(
    ("account", "answer"),
    [(READY, (200, b"ready\n")), ({"ready": False, "reason": "join: starting"}, (503, b"join: starting\n"))],
)
def test_a_worker_that_is_not_ready_lives_and_says_why(
    tmp_path: Path, account: dict[str, Any], answer: tuple[int, bytes]
) -> None:
    health, readiness = fetch(tmp_path, ("/healthz", {}), ("/readyz", {}), account=account)
    assert health[0] == 200
    assert (readiness[0], readiness[2]) == answer


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    parts = ["/", "/page/base.css", "/page/page.css", "/page/page.js", "/page/dom.js"]
    answers = fetch(tmp_path, *((path, {}) for path in (*parts, "/page/serving.py", "/page/..%2fapp.py")))
    assert [(code, kind) for code, kind, _ in answers[:5]] == [
        (200, "text/html"),
        (200, "text/css"),
        (200, "text/css"),
        (200, "text/javascript"),
        (200, "text/javascript"),
    ]
    assert [code for code, _, _ in answers[5:]] == [404, 404]
    page = answers[0][2].decode()
    assert set(re.findall(r'(?:src|href)="([^"#]*)"', page)) == {
        "data:,",
        *parts[1:4],
        "/audit",
        "/dead-letters",
    }
    assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", b"".join(body for _, _, body in answers[:5]))
    assert all(b"innerHTML" not in body for _, _, body in answers[3:5])


def test_a_browser_without_the_token_is_asked_to_log_in(tmp_path: Path) -> None:
    html = {"Accept": "text/html"}

    async def run() -> None:
        server = WorkerWeb(settings_of(tmp_path, token=TOKEN), Told(READY))
        port = await server.start()
        jar = CookieJar(unsafe=True)
        async with ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar, headers=html) as client:
            async with client.get("/") as answer:
                assert (answer.status, 'name="token"' in await answer.text()) == (401, True)
            async with client.post("/login", data={"token": "wrong"}, allow_redirects=False) as answer:
                assert (answer.status, "That is not the token." in await answer.text()) == (401, True)
                assert "Set-Cookie" not in answer.headers
            async with client.post("/login", data={"token": TOKEN}, allow_redirects=False) as answer:
                cookie = answer.headers["Set-Cookie"]
                assert (answer.status, answer.headers["Location"]) == (303, "/")
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert TOKEN not in cookie
            for path in ("/", "/status"):
                async with client.get(path) as answer:
                    assert answer.status == 200
            async with client.get("/events") as answer:
                assert await answer.content.readline() == b"event: status\n"
            jar.clear()
            async with client.get("/status", cookies={"tierstream": "x" * 64}) as answer:
                assert answer.status == 401
        await server.stop()

    asyncio.run(run())


def test_explain_without_an_id_says_how(tmp_path: Path) -> None:
    [(code, _, body)] = fetch(tmp_path, ("/explain", {}))
    assert (code, orjson.loads(body)) == (400, {"error": "name an experience: /explain?experience_id=ID"})


def send(tmp_path: Path, request: bytes, **web: Any) -> bytes:
    """Return the status line of the answer to raw bytes."""

    async def run() -> bytes:
        server = WorkerWeb(settings_of(tmp_path, **web), Told(READY))
        reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
        writer.write(request)
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        await server.stop()
        return answer

    return asyncio.run(run())


def test_a_header_that_is_no_text_is_refused_like_any_wrong_token(tmp_path: Path) -> None:
    request = b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n\r\n"
    assert send(tmp_path, request, token="t").startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1", 200),
        (b"localhost:8321", 200),
        (b"[::1]:8321", 200),
        (b"rebound.example.org", 403),
        (b"rebound.example.org:8321", 403),
        (b"127.0.0.1.example.org", 403),
        (b"[::1", 403),
        (b"", 403),
    ],
)
def test_without_a_token_only_this_machines_own_names_are_answered(tmp_path: Path, host: bytes, status: int) -> None:
    request = b"GET /status HTTP/1.1\r\nHost: %s\r\n\r\n" % host
    assert send(tmp_path, request).startswith(b"HTTP/1.1 %d " % status)


def test_a_token_opens_by_any_name(tmp_path: Path) -> None:
    request = b"GET /status HTTP/1.1\r\nHost: worker-1\r\nAuthorization: bearer t\r\n\r\n"
    assert send(tmp_path, request, token="t").startswith(b"HTTP/1.1 200 ")


def test_the_token_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    answers = fetch(tmp_path, ("/status", {}), ("/status", bearer("from a file")), token_file=str(tmp_path / "token"))
    assert [status for status, _, _ in answers] == [401, 200]


@pytest.mark.parametrize("kind", [b"Content-Length: 65537", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_body_above_the_limit_is_refused(tmp_path: Path, kind: bytes, method: bytes) -> None:
    body = b"10001\r\n" + b"x" * 65537 + b"\r\n0\r\n\r\n" if b"chunked" in kind else b"x" * 65537
    request = method + b" /status HTTP/1.1\r\nHost: localhost\r\n" + kind + b"\r\n\r\n" + body
    assert send(tmp_path, request).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    ],
)
def test_a_head_above_the_limit_is_refused(tmp_path: Path, head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert b" 400 " in send(tmp_path, head)
    assert not caplog.records, "what a stranger sends is not to fill the log"


def test_events_repeat_the_status_and_need_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.worker.web.EVENT_SECONDS", 0.01)

    async def run() -> list[bytes]:
        server = WorkerWeb(settings_of(tmp_path, token=TOKEN), Told(READY))
        async with ClientSession(f"http://127.0.0.1:{await server.start()}") as client:
            async with client.get(STREAM) as refused:
                assert refused.status == 401
            async with client.get(STREAM, headers=bearer(TOKEN)) as answer:
                assert (answer.status, answer.content_type) == (200, "text/event-stream")
                lines = [await answer.content.readline() for _ in range(6)]
        await server.stop()
        return lines

    lines = asyncio.run(run())
    assert [lines[0], lines[2], lines[3], lines[5]] == [b"event: status\n", b"\n", b"event: status\n", b"\n"]
    assert orjson.loads(lines[1].removeprefix(b"data: ")) == READY


# A role's own server, which answers its worker


def ready(app: TierstreamApp) -> None:
    """Let the role hold two partitions, one of them with a record to go."""
    ends = {TP("answers", 1): (4, 5), TP("feedback", 1): (7, 7)}
    app.consumer = SimpleNamespace(assignment=ends.keys, progress=lambda: ends)
    app.tables.actives_ready = True


def ask_role(
    tmp_path: Path, role: Role, *requests: tuple[str, Mapping[str, str]], prepare: Any = ready, **web: Any
) -> list[tuple[int, str, bytes]]:
    """Ask a role's server."""

    async def run(app: TierstreamApp, listener: socket.socket) -> list[tuple[int, str, bytes]]:
        server = RoleWeb(app, app.settings.web, listener)
        app.stream_web = server
        await server.on_start()
        try:
            return await get(listener.getsockname()[1], *requests)
        finally:
            await server.on_stop()

    with offline_app(settings_of(tmp_path, **web), role) as (app, _):
        prepare(app)
        return asyncio.run(run(app, socket.create_server(("127.0.0.1", 0))))


def account_of(tmp_path: Path, role: Role, prepare: Any = ready) -> dict[str, Any]:
    [(code, _, body)] = ask_role(tmp_path, role, ("/status", {}), prepare=prepare)
    assert code == 200
    found: dict[str, Any] = orjson.loads(body)
    return found


def test_a_role_tells_what_it_holds(tmp_path: Path) -> None:
    found = account_of(tmp_path, "pairs")
    assert (found["role"], found["ready"], found["reason"]) == ("pairs", True, None)
    assert found["partitions"] == {"answers[1]": {"position": 4, "end": 5}, "feedback[1]": {"position": 7, "end": 7}}
    assert found["pair_funnel"]["widget"]["answers"] == 0
    assert not {"dpo", "sft", "scorer", "embedding"} & found.keys()
    assert account_of(tmp_path, "join")["embedding"]["supplied"] == 0


def test_a_roles_pages_need_the_token_too(tmp_path: Path) -> None:
    paths = ("/status", "/metrics")
    answers = ask_role(tmp_path, "traces", *((path, {}) for path in paths), token=TOKEN)
    assert [status for status, _, _ in answers] == [401, 401]
    answers = ask_role(tmp_path, "traces", *((path, bearer(TOKEN)) for path in (*paths, "/")), token=TOKEN)
    assert [status for status, _, _ in answers] == [200, 200, 404]


def test_a_role_counts_what_happened(tmp_path: Path) -> None:
    def counted(app: TierstreamApp) -> None:
        ready(app)
        app.services.metrics.count("feedback", {"joined": 3, "early": 0})

    [(_, kind, body)] = ask_role(tmp_path, "join", ("/metrics", {}), prepare=counted)
    assert kind == "text/plain"
    assert b'tierstream_events_total{outcome="joined",topic="feedback"} 3.0\n' in body
    assert b"tierstream_ready 1.0\n" in body
    assert b"early" not in body


def test_a_scorer_that_stands_by_is_ready_and_tells_no_figures(tmp_path: Path) -> None:
    def standing_by(app: TierstreamApp) -> None:
        without_partitions(app)
        app.tables.actives_ready = True
        app.agents_of_ours.scorer._reader = object()  # type: ignore[assignment, union-attr]

    found = account_of(tmp_path, "scorer", standing_by)
    assert (found["ready"], found["active"], found["scorer"]) == (True, False, None)
    idle = account_of(tmp_path, "scorer", without_partitions)
    assert (idle["ready"], idle["reason"]) == (False, "waiting for partitions")


def rebalancing(app: TierstreamApp) -> None:
    ready(app)
    app.rebalancing = True


def without_partitions(app: TierstreamApp) -> None:
    app.consumer = SimpleNamespace(assignment=set, progress=dict)


def recovering(app: TierstreamApp) -> None:
    ready(app)
    app.tables.actives_ready = False


def stalled(app: TierstreamApp) -> None:
    ready(app)
    app.watchdog._moved[TP("answers", 1)] = (4, float("-inf"))


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (rebalancing, "waiting for partitions"),
        (without_partitions, "waiting for partitions"),
        (recovering, "recovering tables"),
        (stalled, "no progress on answers[1]"),
    ],
)
def test_a_role_that_is_not_ready_says_why(tmp_path: Path, prepare: Any, reason: str) -> None:
    found = account_of(tmp_path, "pairs", prepare)
    assert (found["ready"], found["reason"]) == (False, reason)
