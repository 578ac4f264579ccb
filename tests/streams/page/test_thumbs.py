"""The producers' guide's two buttons, on a page of another origin in headless Chromium: each click is a feedback."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import async_playwright

from schemas.events import Feedback
from schemas.settings import Settings
from streams.broker.launch import free_port
from streams.worker.web import WorkerWeb
from tests.streams.page.visit import CHROMIUM, FLAGS
from tests.streams.test_intake import Broker
from tests.streams.test_web import READY, Told, settings_of

GUIDE = (Path(__file__).parents[3] / "docs" / "producers.md").read_text()
SNIPPET = "".join(re.findall(r"^```html\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_guides_thumbs_post_from_a_page_of_a_listed_origin(tmp_path: Path) -> None:
    origin, broker = f"http://127.0.0.1:{free_port()}", Broker()
    values = settings_of(tmp_path).model_dump() | {"intake": {"cors_origins": origin}}

    async def run() -> None:
        server = WorkerWeb(Settings.model_validate(values), Told(READY))
        server._intake._producer = broker  # type: ignore[assignment]
        html = SNIPPET.replace("http://127.0.0.1:8321", f"http://127.0.0.1:{await server.start()}")

        async def page_of_ours(_: web.BaseRequest) -> web.Response:
            return web.Response(text=html, content_type="text/html")

        elsewhere = web.ServerRunner(web.Server(page_of_ours))
        await elsewhere.setup()
        await web.TCPSite(elsewhere, "127.0.0.1", int(origin.rpartition(":")[2])).start()
        async with async_playwright() as play:
            browser = await play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = await browser.new_page()
            await page.goto(origin)
            for name in ("good", "bad"):
                async with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
                    await page.get_by_role("button", name=name).click()
                assert (await (await answered.value).json()) == {"accepted": 1}
            await browser.close()
        await elsewhere.cleanup()
        await server.stop()

    asyncio.run(run())
    judged = [event for _, event in broker.kept if isinstance(event, Feedback)]
    assert [(event.experience_id, event.source, event.reward) for event in judged] == [
        ("e1", "user", 1.0),
        ("e1", "user", -1.0),
    ]
    assert len({event.feedback_id for event in judged}) == 2
