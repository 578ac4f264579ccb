"""The web pages in headless Chromium, on a deployment of two workers that learns while somebody looks.

With TIERSTREAM_TEST_SCREENSHOTS set to a folder, every view is kept there at both widths, as `docs/images` has them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.live import Deployment, Process
from tests.scenarios.audit_day import AuditDay, audit_day, write_legacy_traces
from tests.streams.page.made import add_job, add_version

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
WIDTHS = {"": 1280, "-phone": 390}
UNNAMED = (
    "[...document.querySelectorAll('button,input,select,a,img,progress,figure')].filter(e => !(e.textContent.trim() || "
    "e.ariaLabel || e.alt || e.getAttribute('aria-labelledby') || (e.labels && e.labels.length))).length"
)
CUT = (
    "[...document.querySelectorAll('td,p,li,pre,code,img,svg,button')].filter(e => e.getBoundingClientRect().right > "
    "innerWidth + 1 || e.closest('.scroll')?.scrollWidth > e.closest('.scroll')?.clientWidth + 1).length"
)
"""Elements that reach out of the window, or of a box that would have to be scrolled sideways."""


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


class Visit:
    """A page that has logged in, and whatever is wrong with what it was sent."""

    def __init__(self, browser: Browser, worker: Process) -> None:
        self.url = worker.url
        self.complaints: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": WIDTHS[""], "height": 900})
        self.page.goto(worker.url)
        self.page.get_by_label("Token").fill(TOKEN)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(f"{worker.url}/")
        # From here on: the answer to whoever has not logged in is a 401, which a browser logs.
        self.page.on("console", lambda told: self.complaints.append(told.text) if told.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self._must_be_ours(asked.url))

    def _must_be_ours(self, url: str) -> None:
        if not url.startswith((f"{self.url}/", "data:")):
            self.complaints.append(f"asked for {url}")

    def must_fit(self, view: str) -> None:
        """Look at the view at both widths, and in the dark; keep what is seen."""
        for suffix, width in WIDTHS.items():
            self.page.set_viewport_size({"width": width, "height": 900})
            assert self.page.evaluate("document.documentElement.scrollWidth") <= width, (view, width)
            assert self.page.evaluate(CUT) == 0, (view, width)
            assert self.page.evaluate(UNNAMED) == 0, (view, width)
            keep(self.page, f"{view}{suffix}.png")
        self.page.set_viewport_size({"width": WIDTHS[""], "height": 900})
        self.page.emulate_media(color_scheme="dark")
        red, green, blue = map(int, re.findall(r"\d+", background(self.page))[:3])
        assert red + green + blue < 150, (view, "dark")
        keep(self.page, f"{view}-dark.png")
        self.page.emulate_media(color_scheme="light")


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("TIERSTREAM_TEST_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / name), full_page=True)


def until(page: Page, holds: str) -> None:
    """Wait as Playwright does, whose own way is to evaluate a text in the page: the page's policy forbids that."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(holds):
        assert time.monotonic() < deadline, holds
        page.wait_for_timeout(200)


def aside(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run something with a loop of its own: Playwright's runs on this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments).result()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_page_shows_the_whole_deployment_at_every_width(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    day, data = audit_day(1), tmp_path / "data"
    write_legacy_traces(data / "traces")
    with Deployment(bootstrap, prefix, data, traces={"max_tokens": 16384}, pairs={"patience": 0}) as stream:
        first = stream.start("worker", "--roles", "join,traces", TIERSTREAM_WEB__TOKEN=TOKEN)
        second = stream.worker("--roles", "scorer,pairs", TIERSTREAM_WEB__TOKEN=TOKEN)
        first.wait_until_ready()
        assert stream.command("import", "tierstream", str(data / "traces")).returncode == 0
        with chromium() as browser:
            visit = Visit(browser, first)
            see_it_learn(visit, stream, day)
            look_around(visit, stream, day)
            see_a_worker_fall_silent(visit, second)
            assert visit.complaints == []
            # An open event stream does not hold up a worker that is told to stop.
            assert first.end(20) == 0
            expect(visit.page.locator("#state")).to_have_text("the worker does not answer", timeout=WAIT_MS)


def see_it_learn(visit: Visit, stream: Deployment, day: AuditDay) -> None:
    """The worker that is asked has neither scorer nor pairs."""
    page, half = visit.page, len(day.experiences) // 2
    expect(page.locator("#state")).to_have_text("ready", timeout=WAIT_MS)
    expect(page.locator("#seen")).to_contain_text("2 workers,")
    aside(stream.publish, "feedback", [b"{", *day.feedbacks], "k")
    aside(stream.publish, "experiences", day.experiences[:half])
    expect(page.locator("#learned")).not_to_have_text("-", timeout=WAIT_MS)
    before = int(page.locator("#learned").inner_text().replace(",", ""))
    aside(stream.publish, "experiences", day.experiences[half:])
    expect(page.locator("#dpo-have")).to_have_text("15", timeout=WAIT_MS)
    expect(page.locator("#dpo-why")).to_contain_text("65 more needed")
    assert int(page.locator("#learned").inner_text().replace(",", "")) > before
    for place, name in enumerate(("join", "scorer", "pairs", "traces")):
        cells = page.locator("#roles tr").nth(place).locator("td")
        expect(cells.nth(0)).to_have_text(name, timeout=WAIT_MS)
        expect(cells.nth(1)).to_contain_text("process ")
        expect(cells.nth(2)).to_have_text("ready")
    expect(page.locator("#roles tr").nth(4)).to_contain_text("runs nowhere")
    processes = {page.locator("#roles tr").nth(place).locator("td").nth(1).inner_text() for place in range(4)}
    assert len(processes) == 2
    aside(stream.wait_until_idle)


def look_around(visit: Visit, stream: Deployment, day: AuditDay) -> None:
    """Every view, each reached from the one before."""
    page, wanted = visit.page, day.experiences[0].experience_id
    add_version(stream.data_dir, "sft-v1")
    add_version(stream.data_dir, "sft-v2", "sft-v1", metrics={"accuracy": 0.75}, job_id="sft-1")
    add_job(stream.data_dir)
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#findings")).to_contain_text("15 of 80 pairs are there", timeout=WAIT_MS)
    expect(page.locator("#versions a")).to_have_count(2)
    expect(page.locator("#jobs a")).to_have_count(1, timeout=WAIT_MS)
    # What was sampled before a page is opened is on it.
    until(page, "async () => /series lines/.test(await (await fetch('/chart/arrived.svg')).text())")
    page.reload()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    expect(page.locator("#dpo-have")).to_have_text("15", timeout=WAIT_MS)
    expect(page.locator("#findings")).to_contain_text("15 of 80 pairs are there", timeout=WAIT_MS)
    page.get_by_text("By partition").click()
    assert page.locator("#partitions tr").count() >= 8
    until(page, "[...document.images].every(image => image.complete && image.naturalWidth)")
    visit.must_fit("partitions")
    page.get_by_text("By partition").click()
    visit.must_fit("page")

    page.get_by_label("Experience id").focus()
    page.keyboard.type(wanted)
    page.keyboard.press("Enter")
    page.wait_for_url("**/explain?**")
    expect(page.locator("main")).to_contain_text("scored on arrival", timeout=WAIT_MS)
    visit.must_fit("experience")
    page.locator("main").get_by_role("link", name="Dead letters").click()
    page.get_by_role("link", name="letter 0").click()
    expect(page.locator("#record")).to_contain_text("{")
    visit.must_fit("dead-letter")
    page.go_back()
    expect(page.locator("code")).to_contain_text("tierstream dead-letters retry --reason")
    visit.must_fit("dead-letters")
    page.get_by_role("link", name="Overview").click()
    page.locator("#jobs a").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#curves svg")).to_have_count(2)
    visit.must_fit("job")
    page.get_by_role("link", name="sft-v2").first.click()
    expect(page.locator("code")).to_contain_text("tierstream models rollback policy")
    visit.must_fit("version")
    page.get_by_role("link", name="Audit").click()
    visit.must_fit("audit")
    page.goto(f"{visit.url}/")


def see_a_worker_fall_silent(visit: Visit, worker: Process) -> None:
    """What it told last stays, with its age."""
    row = visit.page.locator("#roles tr").nth(1)
    expect(row).to_contain_text("ready", timeout=WAIT_MS)
    worker.popen.send_signal(signal.SIGSTOP)
    try:
        expect(row.locator("td").nth(3)).to_have_text(re.compile(r"^([5-9]|\d\d)(\.\d)? s ago"), timeout=WAIT_MS)
        expect(visit.page.locator("#scorer")).to_contain_text("(told ")
        expect(row).to_contain_text("silent", timeout=WAIT_MS)
        expect(visit.page.locator("#state")).to_contain_text("has said nothing for", timeout=WAIT_MS)
    finally:
        worker.popen.send_signal(signal.SIGCONT)
    expect(visit.page.locator("#state")).to_have_text("ready", timeout=WAIT_MS)
