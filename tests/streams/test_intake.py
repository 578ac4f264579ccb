"""The intake over HTTP on a real loopback port; the broker's producer is a stand-in that acknowledges, or does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from schemas.base import Event
from schemas.errors import ConnectionFailedError
from schemas.events import Feedback, Trace
from schemas.settings import Settings
from streams.contract import INTAKE_PATHS, openapi
from streams.worker.intake import Rate
from streams.worker.web import WorkerWeb
from tests.streams.test_web import READY, TOKEN, Told, bearer, settings_of

DATA = Path(__file__).parents[1] / "data" / "imports"
KEPT = Path(__file__).parents[2] / "docs" / "contract" / "openapi.json"
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
GOOD = {"feedback_id": "f1", "experience_id": "e1", "timestamp": 1764000000, "source": "user", "reward": 1}


class Broker:
    """Stands in for the producer: keeps what it acknowledges."""

    def __init__(self, *, away: bool = False) -> None:
        self.kept: list[tuple[str, Event]] = []
        self._away = away

    async def enqueue(self, topic: str, event: Event) -> asyncio.Future[None]:
        if self._away:
            raise ConnectionFailedError("broker away")
        self.kept.append((topic, event))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def __aexit__(self, *_: object) -> None:
        return None


def post(
    settings: Settings, broker: Broker, *posts: tuple[str, bytes | str, Mapping[str, str]], method: str = "POST"
) -> list[tuple[int, Mapping[str, str], Any]]:
    """Return status, headers and JSON of each answer."""

    async def run() -> list[tuple[int, Mapping[str, str], Any]]:
        server = WorkerWeb(settings, Told(READY))
        server._intake._producer = broker  # type: ignore[assignment]
        answers = []
        async with ClientSession(f"http://127.0.0.1:{await server.start()}") as client:
            for path, body, headers in posts:
                sent = BytesIO(body) if isinstance(body, bytes) else body
                async with client.request(method, path, data=sent, headers=headers) as answer:
                    text = await answer.text()
                    told = json.loads(text) if answer.content_type == "application/json" else text
                    answers.append((answer.status, dict(answer.headers), told))
        await server.stop()
        return answers

    return asyncio.run(run())


def test_an_event_is_accepted_once_the_broker_has_it(tmp_path: Path) -> None:
    broker = Broker()
    [(status, _, told)] = post(settings_of(tmp_path), broker, ("/v1/feedback", json.dumps(GOOD), JSON))
    assert (status, told) == (202, {"accepted": 1})
    assert broker.kept == [("feedback", Feedback.model_validate(GOOD))]


def test_lines_go_in_together_or_not_at_all(tmp_path: Path) -> None:
    broker = Broker()
    second, bad = {**GOOD, "feedback_id": "f2"}, {**GOOD, "reward": 2}
    lines = "\n".join(map(json.dumps, (GOOD, second)))
    answers = post(
        settings_of(tmp_path),
        broker,
        ("/v1/feedback", f"{lines}\n\n", LINES),
        ("/v1/feedback", f"{lines}\n{json.dumps(bad)}\n", LINES),
    )
    assert [(status, told) for status, _, told in answers] == [
        (202, {"accepted": 2}),
        (400, {"error": "line 3: reward: Input should be less than or equal to 1", "field": "reward", "line": 3}),
    ]
    assert len(broker.kept) == 2


def test_what_is_refused_says_why_and_publishes_nothing(tmp_path: Path) -> None:
    broker = Broker()
    settings = settings_of(tmp_path)
    answers = post(
        settings,
        broker,
        ("/v1/feedback", "{", JSON),
        ("/v1/feedback", "", JSON),
        ("/v1/feedback", "\n", LINES),
        ("/v1/feedback", json.dumps(GOOD), {"Content-Type": "text/plain"}),
        ("/v1/feedback", b"x" * (4096 * 1024 + 1), JSON),
        ("/v1/otlp/traces", "x", JSON),
        ("/v1/otlp/traces", '{"resourceSpans": {}}', JSON),
        ("/v1/otlp/traces", b"", {"Content-Type": "application/x-protobuf"}),
    )
    assert [status for status, _, _ in answers] == [400, 400, 400, 415, 413, 400, 400, 415]
    assert all(set(told) >= {"error"} for _, _, told in answers)
    assert broker.kept == []


def test_a_broker_that_does_not_acknowledge_is_no_acceptance(tmp_path: Path) -> None:
    [(status, headers, told)] = post(settings_of(tmp_path), Broker(away=True), ("/v1/feedback", json.dumps(GOOD), JSON))
    assert (status, headers["Retry-After"]) == (503, "1")
    assert told == {"error": "the broker has not acknowledged: send it again, the same ids change nothing"}


def test_the_token_is_for_writing_too(tmp_path: Path) -> None:
    broker = Broker()
    settings = settings_of(tmp_path, token=TOKEN)
    posts = [("/v1/feedback", json.dumps(GOOD), {**JSON, **more}) for more in ({}, bearer("wrong"), bearer(TOKEN))]
    assert [status for status, _, _ in post(settings, broker, *posts)] == [401, 401, 202]
    assert len(broker.kept) == 1


def test_another_origin_posts_only_where_it_is_on_the_list(tmp_path: Path) -> None:
    origin = {**JSON, "Origin": "https://app.example.org"}
    closed = settings_of(tmp_path, token=TOKEN)
    listed = {"cors_origins": "https://app.example.org,http://localhost:3000"}
    opened = Settings.model_validate({**closed.model_dump(exclude={"web"}), "web": closed.web, "intake": listed})
    one = ("/v1/feedback", json.dumps(GOOD), {**origin, **bearer(TOKEN)})
    assert [status for status, _, _ in post(closed, Broker(), one)] == [403]
    [(status, headers, _)] = post(opened, Broker(), one)
    assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (
        202,
        "https://app.example.org",
        "Origin",
    )
    asked = ("/v1/feedback", "", {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"})
    [(status, headers, _)] = post(opened, Broker(), asked, method="OPTIONS")
    assert (status, headers["Access-Control-Allow-Headers"]) == (204, "authorization, content-type")
    assert [status for status, _, _ in post(closed, Broker(), asked, method="OPTIONS")] == [403]


def test_beyond_the_rate_is_refused_until_time_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("streams.worker.intake.time.monotonic", lambda: now[0])
    rate = Rate(10)
    assert [rate.allows(6), rate.allows(6), rate.allows(1)] == [True, True, False]
    now[0] = 0.3
    assert [rate.allows(1), rate.allows(1)] == [True, False]


def test_a_post_beyond_the_rate_says_when_to_come_again(tmp_path: Path) -> None:
    values = {**settings_of(tmp_path).model_dump(), "intake": {"events_per_second": 0.1}}
    one, broker = ("/v1/feedback", json.dumps(GOOD), JSON), Broker()
    (first, _, _), (status, headers, told) = post(Settings.model_validate(values), broker, one, one)
    assert (first, status, headers["Retry-After"]) == (202, 429, "1")
    assert told == {"error": "more than intake.events_per_second: send them again later"}
    assert len(broker.kept) == 1


def test_spans_become_experiences_and_traces(tmp_path: Path) -> None:
    broker = Broker()
    body = (DATA / "otel-spans.json").read_bytes()
    [(status, _, told)] = post(settings_of(tmp_path), broker, ("/v1/otlp/traces", body, JSON))
    assert (status, told) == (200, {"partialSuccess": {}})
    assert sorted(topic for topic, _ in broker.kept) == ["claude-traces"] * 2 + ["experiences"] * 2
    thoughts = {event.thinking for _, event in broker.kept if isinstance(event, Trace)}
    assert thoughts == {"Chiller 2 is at 9.1 degrees, its limit is 8.", "I need the sensor."}


def test_a_bad_span_is_told_and_the_others_go_in(tmp_path: Path) -> None:
    broker = Broker()
    body = json.loads((DATA / "otel-spans.json").read_bytes())
    body["resourceSpans"][0]["scopeSpans"][0]["spans"] += [{"spanId": "broken"}, 5]
    [(status, _, told)] = post(settings_of(tmp_path), broker, ("/v1/otlp/traces", json.dumps(body), JSON))
    assert (status, told["partialSuccess"]["rejectedSpans"]) == (200, "2")
    assert told["partialSuccess"]["errorMessage"] == "body span broken: startTimeUnixNano is missing"
    assert len(broker.kept) == 4


@pytest.mark.parametrize("body", ["{}", '{"resourceSpans": []}', '{"of a later version": 1}'])
def test_an_export_without_spans_is_a_success_as_otlp_has_it(tmp_path: Path, body: str) -> None:
    [(status, _, told)] = post(settings_of(tmp_path), Broker(), ("/v1/otlp/traces", body, JSON))
    assert (status, told) == (200, {"partialSuccess": {}})


def test_kept_openapi_document_is_the_models() -> None:
    remedy = "write it anew: tierstream schema --openapi docs/contract/openapi.json"
    assert json.loads(KEPT.read_text()) == openapi(Settings()), remedy


def test_the_served_document_names_every_path(tmp_path: Path) -> None:
    [(status, _, told)] = post(settings_of(tmp_path), Broker(), ("/v1/openapi.json", b"", {}), method="GET")
    assert (status, told["openapi"]) == (200, "3.1.0")
    assert set(told["paths"]) == {*INTAKE_PATHS, "/v1/otlp/traces"}
    assert told["security"] == [{}, {"bearer": []}]
    asked = ("/v1/openapi.json", b"", bearer(TOKEN))
    [(status, _, told)] = post(settings_of(tmp_path, token=TOKEN), Broker(), asked, method="GET")
    assert (status, told["security"]) == (200, [{"bearer": []}])
