"""Routes of the web page: the page itself, its login by cookie, and the reports that it shows."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Generic, TypeVar

import orjson
from aiohttp import web

from schemas.config import LoadedSettings, setting_fields
from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.audit.explain import story
from streams.audit.page import linked
from streams.state.history import KEPT_SECONDS, History
from streams.worker.charts import CHARTS, draw_history
from streams.worker.page import events, training
from streams.worker.page.answer import HEADERS, html_response, made, read
from streams.worker.page.changes import WRONG_TOKEN_SECONDS, Changes, is_token
from streams.worker.page.parts import BACK, error_page, experience_link

if TYPE_CHECKING:
    from streams.audit.report import Report

T = TypeVar("T")

COOKIE = "tierstream"
LOGIN_PATH = "/login"
AUDIT_SECONDS = 20.0
"""An audit is shown again for so long before the topics are read once more."""
HISTORY_SECONDS = 2.0
"""The charts of one page come at once, and are drawn from one reading of the history."""
_TYPES = {"base.css": "text/css", "page.css": "text/css", "page.js": "text/javascript", "dom.js": "text/javascript"}


def session_of(token: str) -> str:
    """Return the cookie's value: it follows from the token, and does not tell it."""
    return hmac.new(token.encode(), b"tierstream web page", hashlib.sha256).hexdigest()


class Pages:
    """Handlers of the page; who may ask has been decided before.

    Args:
        settings: the worker's, in effect.
        token: the bearer token, None where there is none.
    """

    def __init__(self, settings: Settings, token: str | None) -> None:
        self._settings = settings
        self._token = token
        self._changes = Changes(settings, token)
        self._report = _Kept(lambda: _make_report(settings), AUDIT_SECONDS)
        self._samples = _Kept(History(settings.data_dir).read, HISTORY_SECONDS)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        settings = self._settings
        return [
            web.get("/", self.index),
            web.post(LOGIN_PATH, self.login),
            web.get("/page/{name}", self.part),
            web.get("/audit", self.audit_page),
            web.get("/audit.json", self.audit),
            web.get("/explain", self.explain),
            web.get("/chart/{name}.svg", self.chart),
            web.get("/jobs/{name}", self._shows(lambda of: training.job_page(settings, of.match_info["name"]))),
            web.get("/versions/{name}", self._shows(lambda of: training.version_page(settings, of.match_info["name"]))),
            web.get("/dead-letters", self._shows(lambda of: events.letters_page(settings, of.query.get("reason")))),
            web.get(
                r"/dead-letters/{number:\d{1,18}}",
                self._shows(lambda of: events.letter_page(settings, int(of.match_info["number"]))),
            ),
            *self._changes.routes(),
        ]

    def knows(self, request: web.Request) -> bool:
        """Whether the request has the cookie of someone who logged in."""
        given = request.cookies.get(COOKIE)
        if self._token is None or given is None:
            return False
        return hmac.compare_digest(given.encode(errors="surrogateescape"), session_of(self._token).encode())

    def ask_to_log_in(self, *, wrong: bool = False) -> web.Response:
        """Return the login page."""
        said = "That is not the token." if wrong else ""
        return html_response(read("login.html").replace("<!--said-->", said), 401)

    async def login(self, request: web.Request) -> web.Response:
        """Take the token from the form, and give a cookie for it."""
        given = str((await request.post()).get("token", ""))
        if self._token is None or not is_token(self._token, given):
            await asyncio.sleep(WRONG_TOKEN_SECONDS)
            return self.ask_to_log_in(wrong=True)
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(COOKIE, session_of(self._token), httponly=True, samesite="Strict", secure=request.secure)
        return response

    async def index(self, request: web.Request) -> web.Response:
        """Send the page."""
        return html_response(read("index.html"))

    async def part(self, request: web.Request) -> web.Response:
        """Send the page's script or style."""
        name = request.match_info["name"]
        if name not in _TYPES:
            raise web.HTTPNotFound
        return web.Response(text=read(name), content_type=_TYPES[name], headers=HEADERS)

    async def audit(self, request: web.Request) -> web.Response:
        """Send the audit as JSON; with `?fresh`, of this moment."""
        try:
            report = await self._report.get(fresh="fresh" in request.query)
        except TierstreamError as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.Response(body=orjson.dumps(asdict(report)), content_type="application/json", headers=HEADERS)

    async def audit_page(self, request: web.Request) -> web.Response:
        """Send the audit as a page."""
        try:
            report = await self._report.get()
        except TierstreamError as error:
            return html_response(error_page(str(error), "No audit"), 503)
        return html_response(_audit_html(report))

    async def explain(self, request: web.Request) -> web.Response:
        """Send the story of one experience: to a browser as a page, else as JSON."""
        experience_id = request.query.get("experience_id", "").strip()
        if not experience_id:
            return web.json_response({"error": "name an experience: /explain?experience_id=ID"}, status=400)
        if "text/html" in request.headers.get("Accept", ""):
            return await self._shows(lambda _: events.experience_page(self._settings, experience_id))(request)
        try:
            # In a thread with a loop of its own: reading topics must not hold up the stream.
            found = await asyncio.to_thread(lambda: asyncio.run(story(self._settings, experience_id)))
        except TierstreamError as error:
            return web.json_response({"error": str(error)}, status=404)
        return web.Response(body=orjson.dumps(asdict(found)), content_type="application/json", headers=HEADERS)

    async def chart(self, request: web.Request) -> web.Response:
        """Send a chart of the last hours, `?hours=N`, as SVG."""
        name = request.match_info["name"]
        try:
            seconds = min(KEPT_SECONDS, 3600 * float(request.query.get("hours", "24")))
        except ValueError:
            return web.json_response({"error": "hours is no number"}, status=400)
        if name not in CHARTS:
            raise web.HTTPNotFound
        samples, since = await self._samples.get(), time.time() - seconds
        svg = await asyncio.to_thread(draw_history, name, [one for one in samples if one["at"] >= since])
        return web.Response(text=svg, content_type="image/svg+xml", headers=HEADERS)

    def _shows(self, make: Callable[[web.Request], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            return await made(lambda: make(request))

        return answer


class _Kept(Generic[T]):
    """What takes long to make: made in a thread by one request at a time, and kept for a while."""

    def __init__(self, make: Callable[[], T], seconds: float) -> None:
        self._make, self._seconds = make, seconds
        self._turn = asyncio.Lock()
        self._made: tuple[float, T] | None = None

    async def get(self, *, fresh: bool = False) -> T:
        async with self._turn:
            if fresh or self._made is None or time.monotonic() - self._made[0] > self._seconds:
                self._made = time.monotonic(), await asyncio.to_thread(self._make)
            return self._made[1]


def _audit_html(report: Report) -> str:
    from streams.audit.document import lay_out
    from streams.audit.page import to_html

    links = {job["job_id"]: f"/jobs/{job['job_id']}" for job in report.jobs}
    links |= {
        one["version"]: f"/versions/{one['version']}" for of in report.versions.values() for one in of["versions"]
    }
    named = (name for finding in report.findings for name in re.findall(r"--explain (\S+?)`", finding.remedy))
    links |= {name: experience_link(name) for name in named}
    return linked(to_html(lay_out(report), BACK), links)


def _make_report(settings: Settings) -> Report:
    from streams.audit.collect import collect
    from streams.audit.figures import make_report

    sources = {key: "the running worker" for key, _ in setting_fields()}
    return make_report(asyncio.run(collect(LoadedSettings(settings, sources), os.environ, lambda topic, count: None)))
