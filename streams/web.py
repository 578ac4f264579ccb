"""The worker's web server: liveness, readiness, metrics and status; up from the start, through recovery too."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from mode import Service
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from schemas.settings import WebSettings, is_loopback
from streams.page.serving import LOGIN_PATH, Pages
from streams.status import status
from streams.web_token import web_token

if TYPE_CHECKING:
    from streams.app import TierstreamApp

MAX_BODY_BYTES = 64 * 1024
MAX_HEADER_BYTES = 8 * 1024
EVENT_SECONDS = 2.0
"""Between two events of `/events`."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_PATHS = ("/healthz", "/readyz", LOGIN_PATH)
"""Paths that need no token: they tell a supervisor yes or no, or take the token, and show no data."""


class WebServer(Service):  # type: ignore[misc]
    """Serves the endpoints on `web.host` and `web.port`."""

    def __init__(self, app: TierstreamApp, settings: WebSettings) -> None:
        super().__init__()
        self._app = app
        self._settings = settings
        self._token = web_token(settings)
        self._pages = Pages(app.settings, self._token)
        application = web.Application(middlewares=[self._authorize], client_max_size=MAX_BODY_BYTES)
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                web.get("/events", self._events),
                *self._pages.routes(),
            ]
        )
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_logger(),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )

    async def on_start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()

    async def on_stop(self) -> None:
        """Close."""
        await self._runner.cleanup()

    def not_ready(self) -> str | None:
        """Return why the worker is not ready, None where it is."""
        app = self._app
        if app.rebalancing or not app.consumer.assignment():
            return "waiting for partitions"
        if not app.tables.actives_ready:
            return "recovering tables"
        if stalled := app.watchdog.stalled():
            return f"no progress on {', '.join(stalled)}"
        return None

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN_PATHS and (refusal := self._refusal(request)):
            if refusal[0] == HTTPStatus.UNAUTHORIZED and "text/html" in request.headers.get("Accept", ""):
                return self._pages.ask_to_log_in()
            return web.json_response({"error": refusal[1]}, status=refusal[0])
        if request.can_read_body:
            await request.read()  # refuses one above the limit, whoever would have read it
        return await handler(request)

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        """Return why a request may not see data: a status and a line; None where it may."""
        if self._token is None:
            # A page elsewhere can have a name of its own resolve to this machine, and read through the browser.
            if is_loopback(_host_name(request.host)):
                return None
            return 403, "without web.token this answers only where it is addressed as localhost"
        if self._pages.knows(request):  # an event stream of a browser sends no header
            return None
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.encode(errors="surrogateescape"), self._token.encode())
        return None if same and kind.lower() == "bearer" else (401, "a bearer token is needed: see web.token")

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self.not_ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        body: bytes = generate_latest(self._app.services.metrics.registry)  # type: ignore[no-untyped-call]
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(body=_dump(self._app), content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send the status every two seconds as server-sent events, until the reader goes or we stop."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        while not self.should_stop:
            data = orjson.dumps(status(self._app))
            try:
                await response.write(b"event: status\ndata: " + data + b"\n\n")
            except ConnectionResetError:
                break
            await self.sleep(EVENT_SECONDS)
        return response


def _logger() -> logging.Logger:
    """Return aiohttp's logger without the requests that are no HTTP, which it would repeat with what they hold."""
    logger = logging.getLogger("aiohttp.server")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _host_name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _dump(app: Any) -> bytes:
    return orjson.dumps(status(app), option=orjson.OPT_INDENT_2)
