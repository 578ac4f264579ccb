"""What the page changes: after a question, with the token, from a form of its own, and as the command does it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import ClientSession

from schemas.errors import ConnectionFailedError
from schemas.settings import Settings
from streams.history import dead_letter_queue
from streams.history.dead_letter_queue import Filter, Letter, RetriedLog
from streams.kafka.dead_letters import ATTEMPT_HEADER
from streams.training import model_versions
from streams.worker.page import changes, events
from streams.worker.web import WorkerWeb
from tests.serving_peer import ServingPeer
from tests.streams.page.made import add_version
from tests.streams.page.test_details import letter
from tests.streams.test_web import READY, Told
from trainers.serving import refusals
from trainers.versions import VersionStore

TOKEN = "öpen sesame"
BACK = "/versions/sft-v2/rollback"
Answer = tuple[int, str]
Post = tuple[str, Mapping[str, str] | None, Mapping[str, str]]


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    """Stands in for the broker."""
    monkeypatch.setattr(changes, "WRONG_TOKEN_SECONDS", 0.0)
    monkeypatch.setattr(model_versions, "publish_now", there := AsyncMock())
    return there


def settings_of(data_dir: Path, **more: Any) -> Settings:
    return Settings.model_validate({"data_dir": str(data_dir), "web": {"port": 0, "token": TOKEN}, **more})


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    add_version(tmp_path, "sft-v1")
    add_version(tmp_path, "sft-v2", "sft-v1")
    return tmp_path


def ask(settings: Settings, *posts: Post) -> list[Answer]:
    """Return status and text of each answer: of a form that is sent, or of a page where there is no form."""

    async def run() -> list[Answer]:
        server, found = WorkerWeb(settings, Told(READY)), []
        async with ClientSession(f"http://127.0.0.1:{await server.start()}") as client:
            token = settings.web.token
            session = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
            for path, form, headers in posts:
                method = "GET" if form is None else "POST"
                async with client.request(method, path, data=form, headers=session | dict(headers)) as answer:
                    found.append((answer.status, re.sub("<[^>]*>", " ", await answer.text())))
        await server.stop()
        return found

    return asyncio.run(run())


def history(data_dir: Path) -> list[tuple[str, str, str]]:
    return [(one.action, one.version, one.reason) for one in VersionStore(data_dir).in_use("policy").history]


def test_a_rollback_asks_first_and_with_consent_and_token_does_what_the_command_does(
    data_dir: Path, published: AsyncMock
) -> None:
    settings, before = settings_of(data_dir), history(data_dir)
    [(status, question)] = ask(settings, (BACK, None, {}))
    assert (status, history(data_dir)) == (200, before)
    assert "The line policy goes back from sft-v2 to sft-v1" in question
    assert "Token (web.token)" in question
    [(status, told)] = ask(settings, (BACK, {"token": TOKEN, "reason": "  worse\nat night "}, {}))
    assert status == 200
    assert "sft-v1 is in use: rolled back: worse at night" in told.replace("  ", " ")
    assert history(data_dir) == [*before, ("rolled back", "sft-v1", "worse at night")]
    published.assert_awaited_once_with(settings)


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token": "wrong"}, {"token": TOKEN + "x"}])
def test_without_the_token_nothing_is_changed_however_somebody_is_logged_in(
    data_dir: Path, form: Mapping[str, str]
) -> None:
    before = history(data_dir)
    [(status, told)] = ask(settings_of(data_dir), (BACK, form, {}))
    assert (status, history(data_dir)) == (401, before)
    assert "That is not the token (web.token): nothing was changed." in told


def test_who_is_not_logged_in_is_not_even_asked(data_dir: Path) -> None:
    before, nobody = history(data_dir), {"Authorization": "Bearer wrong"}
    answers = ask(settings_of(data_dir), (BACK, None, nobody), (BACK, {"token": TOKEN}, nobody))
    assert [status for status, _ in answers] == [401, 401]
    assert history(data_dir) == before


@pytest.mark.parametrize("origin", ["https://evil.example.org", "null", "http://127.0.0.1.example.org", "http://["])
@pytest.mark.parametrize("token", [TOKEN, None])
def test_a_form_of_another_site_is_refused(data_dir: Path, origin: str, token: str | None) -> None:
    before, of = history(data_dir), {"Origin": origin}
    settings = settings_of(data_dir, web={"port": 0, "token": token})
    forms: list[Post] = [(path, {"token": TOKEN}, of) for path in (BACK, "/dead-letters/3/retry", "/login")]
    assert [status for status, _ in ask(settings, *forms)] == [403, 403, 403]
    assert history(data_dir) == before


def test_a_form_of_ours_is_taken_and_consent_suffices_where_there_is_no_token(data_dir: Path) -> None:
    settings = settings_of(data_dir, web={"port": 0})

    async def run() -> int:
        server = WorkerWeb(settings, Told(READY))
        url = f"http://127.0.0.1:{await server.start()}"
        async with ClientSession() as client, client.post(url + BACK, data={}, headers={"Origin": url}) as answer:
            status = answer.status
        await server.stop()
        return status

    assert asyncio.run(run()) == 200
    assert history(data_dir)[-1] == ("rolled back", "sft-v1", "back from sft-v2")
    [(_, question)] = ask(settings, ("/versions/sft-v1/rollback", None, {}))
    assert "to policy-base" in question
    assert "web.token" not in question


def test_nothing_to_go_back_to_and_a_page_that_is_not_of_now_are_one_line(tmp_path: Path) -> None:
    add_version(tmp_path, "sft-v1")
    settings, form = settings_of(tmp_path), {"token": TOKEN}
    first = ("/versions/sft-v1/rollback", form, {})
    done, again, base, scorer, odd = ask(
        settings,
        first,
        first,
        ("/versions/policy-base/rollback", form, {}),
        ("/versions/scorer-a/rollback", form, {}),
        ("/versions/..%2f..%2fx/rollback", form, {}),
    )
    assert (done[0], again[0], base[0], scorer[0], odd[0]) == (200, 409, 409, 409, 409)
    assert "no version of policy was in use before" in again[1]
    assert "no version of policy was in use before" in base[1]
    assert "no version of scorer was in use before" in scorer[1]
    add_version(tmp_path, "sft-v2")
    add_version(tmp_path, "sft-v3")
    [(status, told)] = ask(settings, (BACK, form, {}))
    assert (status, "sft-v3 is in use by now, not sft-v2" in told) == (409, True)
    assert history(tmp_path)[-1][1] == "sft-v3"


def test_a_version_that_the_server_does_not_take_is_not_gone_back_to(data_dir: Path) -> None:
    before = history(data_dir)
    with ServingPeer("policy-base") as peer:
        settings = settings_of(data_dir, serving={"url": peer.url})
        [(_, question)] = ask(settings, (BACK, None, {}))
        peer.fail["/v1/load_lora_adapter"] = 500, "out of memory"
        [(status, told)] = ask(settings, (BACK, {"token": TOKEN}, {}))
    assert f"First the server at {settings.serving.url} loads it" in question
    assert (status, "out of memory" in told) == (409, True)
    assert (history(data_dir), refusals(data_dir)["policy"].version) == (before, "sft-v1")


def test_a_page_that_is_not_of_now_has_no_server_load_anything(data_dir: Path) -> None:
    add_version(data_dir, "sft-v3")
    with ServingPeer("policy-base") as peer:
        [(status, _)] = ask(settings_of(data_dir, serving={"url": peer.url}), (BACK, {"token": TOKEN}, {}))
    assert (status, peer.asked) == (409, [])


def test_a_rollback_that_the_broker_does_not_hear_of_stands_and_says_so(data_dir: Path, published: AsyncMock) -> None:
    published.side_effect = ConnectionFailedError("the broker is away")
    [(status, told)] = ask(settings_of(data_dir), (BACK, {"token": TOKEN}, {}))
    assert (status, history(data_dir)[-1][1]) == (503, "sft-v1")
    assert "sft-v1 is in use now, but its event is not published yet: the broker is away" in told


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes, bytes]]:
    """One letter that can be sent again, and one that cannot; what is sent."""
    valid = b'{"feedback_id": "f", "experience_id": "exp-7", "timestamp": 1, "source": "user", "reward": 1.0}'
    there, sent = [letter(3, valid), letter(4, b"{", "not_json")], []

    async def read(settings: Settings, chosen: Filter, progress: object) -> Any:
        retried = RetriedLog(settings)
        for one in there:
            if chosen.takes(one, settings):
                yield Letter(one.offset, one.content, one in retried)

    async def send(topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> None:
        sent.append((topic, key, dict(headers)[ATTEMPT_HEADER]))

    producer = SimpleNamespace(start=AsyncMock(), stop=AsyncMock(), send_and_wait=send)
    monkeypatch.setattr(events, "read_letters", read)
    monkeypatch.setattr(dead_letter_queue, "AIOKafkaProducer", lambda **_: producer)
    return sent


def test_a_dead_letter_is_sent_again_as_its_next_attempt(
    tmp_path: Path, letters: list[tuple[str, bytes, bytes]]
) -> None:
    settings, path = settings_of(tmp_path), "/dead-letters/3/retry"
    page, question = ask(settings, ("/dead-letters/3", None, {}), (path, None, {}))
    assert "Send it again" in page[1]
    assert "Letter 3 is sent to feedback again, as attempt 2." in question[1]
    assert letters == []
    wrong, done, asked = ask(settings, (path, {}, {}), (path, {"token": TOKEN}, {}), (path, None, {}))
    assert [wrong[0], done[0]] == [401, 200]
    assert "letter 3  was sent to feedback again" in done[1]
    assert letters == [("feedback", b"exp-7", b"2")]
    assert "It was sent again before" in asked[1]


def test_one_that_cannot_be_sent_again_says_why(tmp_path: Path, letters: list[tuple[str, bytes, bytes]]) -> None:
    answers = ask(settings_of(tmp_path), *((f"/dead-letters/{n}/retry", {"token": TOKEN}, {}) for n in (4, 5)))
    assert [status for status, _ in answers] == [409, 409]
    assert "letter 4 cannot be sent again: still no Feedback" in answers[0][1]
    assert "there is no dead letter 5" in answers[1][1]
    assert letters == []
