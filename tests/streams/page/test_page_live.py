"""The web page in headless Chromium, on a worker that learns while somebody looks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.live import Deployment, Process
from tests.scenarios.audit_day import AuditDay, audit_day, write_legacy_traces

pytestmark = pytest.mark.live

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "look-but-do-not-touch"
WAIT_MS = 60_000


@pytest.fixture(autouse=True)
def _chromium_is_there() -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


def logged_in(browser: Browser, worker: Process, width: int, complaints: list[str]) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(worker.url)
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{worker.url}/")
    # From here on: the answer to whoever has not logged in is a 401, which a browser logs.
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("TIERSTREAM_TEST_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / name), full_page=True)


def aside(work: Callable[..., Any], *arguments: Any) -> None:
    """Run something with a loop of its own: Playwright's runs on this thread."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(work, *arguments).result()


@pytest.mark.long
def test_numbers_move_while_events_flow(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    day, data = audit_day(1), tmp_path / "data"
    write_legacy_traces(data / "traces")
    with Deployment(bootstrap, prefix, data, traces={"max_tokens": 16384}, pairs={"patience": 0}) as stream:
        worker = stream.worker(TIERSTREAM_WEB__TOKEN=TOKEN)
        assert stream.command("import", "tierstream", str(data / "traces")).returncode == 0
        with chromium() as browser:
            look(browser, stream, worker, day)


def look(browser: Browser, stream: Deployment, worker: Process, day: AuditDay) -> None:
    complaints: list[str] = []
    page = logged_in(browser, worker, 1200, complaints)
    expect(page.locator("#state")).to_have_text("ready", timeout=WAIT_MS)
    half = len(day.experiences) // 2
    aside(stream.publish, "experiences", day.experiences[:half])
    aside(stream.publish, "feedback", day.feedbacks)
    expect(page.locator("#learned")).not_to_have_text("-", timeout=WAIT_MS)
    first = int(page.locator("#learned").inner_text().replace(",", ""))
    aside(stream.publish, "experiences", day.experiences[half:])
    expect(page.locator("#dpo-have")).to_have_text("15", timeout=WAIT_MS)
    expect(page.locator("#dpo-why")).to_contain_text("65 more needed")
    assert int(page.locator("#learned").inner_text().replace(",", "")) > first
    expect(page.locator("#throughput path.area")).to_have_count(1)
    names = ("join", "scorer", "pairs", "traces", "trainer")
    for place, (name, state) in enumerate(zip(names, ("ready",) * 4 + ("-",), strict=True)):
        row = page.locator("#roles tr").nth(place)
        expect(row.locator("td").nth(0)).to_have_text(name, timeout=WAIT_MS)
        expect(row.locator("td").nth(1)).to_have_text(state)

    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#findings")).to_contain_text("15 of 80 pairs are there", timeout=WAIT_MS)
    page.get_by_label("Experience id").fill(day.experiences[0].experience_id)
    page.keyboard.press("Enter")
    expect(page.locator("#story")).to_contain_text("scored on arrival", timeout=WAIT_MS)
    keep(page, "page.png")
    page.get_by_label("Experience id").fill("<img src=x onerror=alert(1)>")
    with page.expect_response("**/explain?**", timeout=WAIT_MS) as answered:
        page.keyboard.press("Enter")
    assert answered.value.status == 404
    expect(page.locator("#story")).to_contain_text("no experience, feedback or dead letter has the id '<img src=x")
    # The browser itself logs the 404 that was asked for.
    assert [one for one in complaints if "404" not in one] == []

    page.set_viewport_size({"width": 375, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    keep(page, "page-phone.png")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button,input,a,svg,progress')].filter(e => !(e.textContent.trim() || "
        "e.ariaLabel || e.getAttribute('aria-labelledby') || (e.labels && e.labels.length))).length"
    )
    assert unnamed == 0
    # An open event stream does not hold up a worker that is told to stop.
    assert worker.end(20) == 0
    expect(page.locator("#state")).to_have_text("the worker does not answer", timeout=WAIT_MS)
