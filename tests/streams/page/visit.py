"""A headless Chromium that has logged in to a worker's page, and what every view has to be like."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.live import Process

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
    "[...document.querySelectorAll('td,p,li,pre,code,img,svg,button,input')].filter(e => "
    "e.getBoundingClientRect().right > innerWidth + 1 || "
    "e.closest('.scroll')?.scrollWidth > e.closest('.scroll')?.clientWidth + 1).length"
)
"""Elements that reach out of the window, or of a box that would have to be scrolled sideways."""
LOADED = "[...document.images].every(image => image.complete && image.naturalWidth)"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run it; skips the test where none is installed."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


class Visit:
    """A page that has logged in, and whatever is wrong with what it was sent.

    Args:
        browser: that shows it.
        worker: whose page.
        keeps: whether what is seen is kept, in the folder that TIERSTREAM_TEST_SCREENSHOTS names, if any.
        options: of the browser's context.
    """

    def __init__(self, browser: Browser, worker: Process, *, keeps: bool = False, **options: Any) -> None:
        self.url = worker.url
        self.complaints: list[str] = []
        self._folder = os.environ.get("TIERSTREAM_TEST_SCREENSHOTS") if keeps else None
        self.page: Page = browser.new_page(**{"viewport": {"width": WIDTHS[""], "height": 900}, **options})
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
            self._keep(f"{view}{suffix}.png")
        self.page.set_viewport_size({"width": WIDTHS[""], "height": 900})
        self.page.emulate_media(color_scheme="dark")
        red, green, blue = map(int, re.findall(r"\d+", background(self.page))[:3])
        assert red + green + blue < 150, (view, "dark")
        self._keep(f"{view}-dark.png")
        self.page.emulate_media(color_scheme="light")

    def _keep(self, name: str) -> None:
        if self._folder:
            self.page.screenshot(path=str(Path(self._folder) / name), full_page=True)


def background(page: Page) -> str:
    """Return the page's colour."""
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def until(page: Page, holds: str) -> None:
    """Wait as Playwright does, whose own way is to evaluate a text in the page: the page's policy forbids that."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(holds):
        assert time.monotonic() < deadline, holds
        page.wait_for_timeout(200)


def aside(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run something with a loop of its own: Playwright's runs on this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments, **named).result()
