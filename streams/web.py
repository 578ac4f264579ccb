"""The worker's web server: liveness, readiness, metrics and status; up from the start, through recovery too."""

from __future__ import annotations

import hmac
import html
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web
from mode import Service
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from schemas.settings import WebSettings
from streams.status import status

if TYPE_CHECKING:
    from streams.app import TierstreamApp

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_PATHS = ("/healthz", "/readyz")
"""Paths that need no token: they tell a supervisor yes or no and show no data."""

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width"><title>Tierstream</title>
<style>body{{font:15px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}}
pre{{background:#f4f4f2;padding:1rem;overflow:auto;border-radius:6px}}</style>
<h1>Tierstream worker</h1><p>{ready}</p><pre>{status}</pre>"""


class WebServer(Service):  # type: ignore[misc]
    """Serves the endpoints on `web.host` and `web.port`."""

    def __init__(self, app: TierstreamApp, settings: WebSettings) -> None:
        super().__init__()
        self._app = app
        self._settings = settings
        application = web.Application(middlewares=[self._authorize], client_max_size=64 * 1024)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)

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
        token = self._settings.token
        if token is not None and request.path not in OPEN_PATHS:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(errors="surrogateescape"), token.get_secret_value().encode()):
                return web.json_response({"error": "a bearer token is needed: see web.token"}, status=401)
        return await handler(request)

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

    async def _page(self, request: web.Request) -> web.Response:
        ready = html.escape(self.not_ready() or "ready")
        return web.Response(
            text=_PAGE.format(ready=ready, status=html.escape(_dump(self._app).decode())), content_type="text/html"
        )


def _dump(app: Any) -> bytes:
    return orjson.dumps(status(app), option=orjson.OPT_INDENT_2)
