"""The pages about one thing: a job, a version, dead letters; what was read of them is text, and ids lead on."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from schemas.errors import JobError, VersionError
from schemas.settings import Settings
from streams.audit.page import linked
from streams.history.dead_letter_queue import Filter, Letter
from streams.worker.page import events, training
from streams.worker.page.answer import POLICY
from streams.worker.page.parts import error_page
from streams.worker.web import WorkerWeb
from tests.streams.page.made import HOSTILE, add_job, add_version, dead_letter
from tests.streams.test_web import READY, Told


def settings_of(tmp_path: Path) -> Settings:
    return Settings.model_validate({"data_dir": str(tmp_path), "web": {"port": 0}})


def commands(html: str) -> list[str]:
    return re.findall("<code>(.*?)</code>", re.sub("</?a[^>]*>", "", html))


def test_a_job_shows_its_curves_the_end_of_its_log_and_what_became_of_its_examples(tmp_path: Path) -> None:
    add_version(tmp_path, "sft-v2")
    add_job(tmp_path)
    html = training.job_page(settings_of(tmp_path), "sft-1")
    assert html.count('class="series lines"') == 2
    assert "Loss by step" in html
    assert "Reward margin by step" in html
    assert "the last words" in html
    assert "0.125" in html
    assert "gate.accuracy" in html
    assert "dropped: too long" in html
    assert '<a href="/versions/sft-v2">sft-v2</a>' in html
    assert '<a href="/explain?experience_id=exp%2F1">exp/1</a>' in html
    assert HOSTILE not in html
    assert commands(html) == ["tierstream jobs logs sft-1 --follow"]
    with pytest.raises(JobError, match="no job nothing"):
        training.job_page(settings_of(tmp_path), "nothing")


def test_a_version_shows_where_it_comes_from_what_differs_and_the_way_back(tmp_path: Path) -> None:
    add_version(tmp_path, "sft-v1", metrics={"accuracy": 0.5}, settings={"rank": 4})
    add_version(tmp_path, "sft-v2", "sft-v1", metrics={"accuracy": 0.75}, settings={"rank": 4}, job_id="sft-job")
    html = training.version_page(settings_of(tmp_path), "sft-v2")
    picture = re.sub("<[^>]*>", "|", html[html.index('<ol class="lineage"') : html.index("</ol>")])
    assert re.findall(r"policy-base|sft-v\d|this one, in use", picture) == [
        "policy-base",
        "sft-v1",
        "sft-v2",
        "this one, in use",
    ]
    assert '<a href="/versions/sft-v1">' in html
    assert '<a href="/jobs/sft-job">' in html
    difference = html[html.index('id="diff"') : html.index('id="examples"')]
    assert re.findall('data-label="[^"]*">([^<]*)', difference) == ["metrics.accuracy", "0.5", "0.75"]
    assert commands(html) == ["tierstream models rollback policy"]
    parent = training.version_page(settings_of(tmp_path), "sft-v1")
    assert '<a href="/versions/sft-v2">' in parent
    assert commands(parent) == ["tierstream models promote sft-v1"]
    with pytest.raises(VersionError):
        training.version_page(settings_of(tmp_path), "sft-none")


def letter(number: int, value: bytes, error_type: str = "invalid_event") -> Letter:
    return Letter(number, dead_letter(number, value, error_type))


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two letters, of which the topic would tell."""
    there = [letter(3, b'{"experience_id": "exp-8"}'), letter(4, b"{", "not_json")]

    async def read(settings: Settings, chosen: Filter, progress: object) -> Any:
        for one in there:
            if chosen.takes(one, settings):
                yield one

    monkeypatch.setattr(events, "read_letters", read)


@pytest.mark.usefixtures("letters")
def test_dead_letters_are_counted_by_reason_and_each_leads_to_its_record(tmp_path: Path) -> None:
    html = events.letters_page(settings_of(tmp_path), None)
    assert '<a href="/dead-letters?reason=not_json">not_json</a>' in html
    assert '<a href="/dead-letters/4">letter 4</a>' in html
    assert HOSTILE not in html
    of = [f"tierstream dead-letters retry --reason {reason}" for reason in ("invalid_event", "not_json")]
    assert commands(html) == of
    assert commands(events.letters_page(settings_of(tmp_path), "not_json")) == of[1:]
    assert commands(events.letters_page(settings_of(tmp_path), "no_such")) == []


@pytest.mark.usefixtures("letters")
def test_a_dead_letter_shows_record_and_reason_and_how_it_is_retried_where_it_can_be(tmp_path: Path) -> None:
    html = events.letter_page(settings_of(tmp_path), 3)
    assert "{&quot;experience_id&quot;: &quot;" in html
    assert '<a href="/explain?experience_id=exp-8">exp-8</a>' in html
    assert '<a href="/explain?experience_id=exp-7">exp-7</a>' in html
    assert "still no Feedback" in html
    assert commands(html) == []


def test_the_pages_are_sent_with_the_policy_of_the_page_and_what_is_not_there_is_a_404(tmp_path: Path) -> None:
    add_version(tmp_path, "sft-v2")
    add_job(tmp_path)

    async def run() -> dict[str, tuple[int, str, str]]:
        server, found = WorkerWeb(settings_of(tmp_path), Told(READY)), {}
        async with ClientSession(f"http://127.0.0.1:{await server.start()}") as client:
            for path in (
                "/jobs/sft-1",
                "/versions/sft-v2",
                "/jobs/sft-9",
                "/versions/..%2f..",
                "/chart/lag.svg",
                "/chart/x.svg",
            ):
                async with client.get(path) as answer:
                    policy = answer.headers.get("Content-Security-Policy", "")
                    found[path] = (answer.status, answer.content_type, policy.partition(";")[0])
        await server.stop()
        return found

    found, ours = asyncio.run(run()), "default-src 'none'"
    assert found["/jobs/sft-1"] == found["/versions/sft-v2"] == (200, "text/html", ours)
    assert found["/jobs/sft-9"] == (404, "text/html", ours)
    assert found["/chart/lag.svg"] == (200, "image/svg+xml", ours)
    assert (found["/chart/x.svg"][0], found["/versions/..%2f.."][0]) == (404, 404)
    assert not re.search(r"unsafe|http|\*", POLICY)


def test_a_name_is_a_link_as_a_whole_and_in_texts_only() -> None:
    links = {"a-1": "/x?a=1&b=2", "<b>": "/y"}
    html = '<td data-label="a-1">a-1, a-12, ba-1 &lt;b&gt;</td>'
    assert linked(html, links) == (
        '<td data-label="a-1"><a href="/x?a=1&amp;b=2">a-1</a>, a-12, ba-1 <a href="/y">&lt;b&gt;</a></td>'
    )


def test_what_could_not_be_found_is_told_as_text() -> None:
    html = error_page(f"no experience has the id {HOSTILE!r}")
    assert HOSTILE not in html
    assert "no experience has the id" in html
