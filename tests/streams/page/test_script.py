"""The page's script in headless Chromium, on accounts of workers that nobody has to run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from schemas.settings import Settings
from streams.worker.web import WorkerWeb
from tests.streams.page.visit import chromium
from tests.streams.test_web import Told

WHERE = {"host": "here", "url": "http://here", "at": 95.0, "silent": None, "ready": True, "reason": None}
ACCOUNT = {
    "ready": True,
    "reason": None,
    "at": 100.0,
    "events": {},
    "workers": [{"url": "http://here"}],
    "processes": [{"role": "join", "pid": 7, **WHERE}, {"role": "pairs", "pid": 8, **WHERE}],
    "told_at": {},
    "scorer": None,
    "dpo": {"waiting": 5, "threshold": 80, "distinct": 85, "jobs": 1},
    "observed": None,
}


@contextmanager
def page_of(account: Mapping[str, Any], data_dir: Path) -> Iterator[Page]:
    """Open the page of a worker that says this."""
    loop, ports = asyncio.new_event_loop(), list[int]()
    settings = Settings.model_validate({"data_dir": str(data_dir), "web": {"port": 0}})
    stopping = asyncio.Event()

    async def serve() -> None:
        server = WorkerWeb(settings, Told(account))
        ports.append(await server.start())
        started.set()
        await stopping.wait()
        await server.stop()

    started = threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    try:
        with chromium() as browser:
            page = browser.new_page()
            page.route("**/audit.json*", lambda route: route.fulfill(json={"error": "no broker is asked here"}))
            page.goto(f"http://127.0.0.1:{ports[0]}/")
            yield page
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


def test_processes_are_shown_before_anybody_has_measured_the_lag(tmp_path: Path) -> None:
    with page_of(ACCOUNT, tmp_path) as page:
        expect(page.locator("#roles tr")).to_have_count(2)
        assert page.locator("#roles td").all_inner_texts() == [
            *("join", "here, process 7", "ready", "5.0 s ago", "-", "-"),
            *("pairs", "here, process 8", "ready", "5.0 s ago", "-", "-"),
        ]
        expect(page.locator("#observed")).to_have_text("nobody has measured the lag yet")
        expect(page.locator("#dpo-why")).to_have_text("75 more needed, 1 job so far")
        expect(page.locator("#findings")).to_have_text("no broker is asked here")
