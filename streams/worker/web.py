"""The worker's web server: page, metrics and status of all its roles; and what a role's own shares with it."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from schemas.errors import SettingsError
from schemas.settings import Settings, WebSettings, is_loopback
from streams.state.web_token import web_token
from streams.worker.cors import Cors
from streams.worker.intake import PREFIX, Intake
from streams.worker.page.serving import LOGIN_PATH, Pages

MAX_BODY_BYTES = 64 * 1024
MAX_HEADER_BYTES = 8 * 1024
EVENT_SECONDS = 2.0
"""Between two events of `/events`."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_PATHS = ("/healthz", "/readyz", LOGIN_PATH)
"""Paths that need no token: they tell a supervisor yes or no, or take the token, and show no data."""


class Access:
    """Who may ask: middleware of both servers.

    Args:
        settings: of the web.
        pages: of the worker, which know who has logged in.
    """

    def __init__(self, settings: WebSettings, pages: Pages | None = None) -> None:
        self._token = web_token(settings)
        self._pages = pages

    @web.middleware
    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, or say why not."""
        if request.path not in OPEN_PATHS and (refusal := self._refusal(request)):
            wants_page = "text/html" in request.headers.get("Accept", "")
            if self._pages and refusal[0] == HTTPStatus.UNAUTHORIZED and wants_page:
                return self._pages.ask_to_log_in()
            return web.json_response({"error": refusal[1]}, status=refusal[0])
        if request.can_read_body and not request.path.startswith(PREFIX):  # the intake has a limit of its own
            await request.read()  # refuses one above the limit, whoever would have read it
        return await handler(request)

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        """Return why a request may not see data: a status and a line; None where it may."""
        if self._token is None:
            # A page elsewhere can have a name of its own resolve to this machine, and read through the browser.
            if is_loopback(_host_name(request.host)):
                return None
            return 403, "without web.token this answers only where it is addressed as localhost"
        if self._pages and self._pages.knows(request):  # an event stream of a browser sends no header
            return None
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.encode(errors="surrogateescape"), self._token.encode())
        return None if same and kind.lower() == "bearer" else (401, "a bearer token is needed: see web.token")


def make_runner(routes: list[web.RouteDef], access: Access, *before: Cors) -> web.AppRunner:
    """Return what serves the routes to whoever has access, with what looks at a request before."""
    middlewares = [*(one.__call__ for one in before), access.__call__]
    application = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    application.add_routes(routes)
    return web.AppRunner(
        application, access_log=None, logger=_logger(), max_line_size=MAX_HEADER_BYTES, max_field_size=MAX_HEADER_BYTES
    )


def metrics_response(request: web.Request, registry: CollectorRegistry) -> web.Response:
    """Return a registry's metrics as OpenMetrics where that is asked for, else in Prometheus' own text format."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(registry), headers={"Content-Type": content_type})


class Accounts(Protocol):
    """What the worker's server shows."""

    async def status(self) -> Mapping[str, Any]:
        """Return what all roles of this worker say together."""

    async def deployment(self) -> Mapping[str, Any]:
        """Return what all workers of the deployment say together, as `ask_deployment` does."""

    async def metrics(self) -> CollectorRegistry:
        """Return the metrics of all roles, and of the deployment."""


class WorkerWeb:
    """The worker's server on `web.host` and `web.port`: liveness, readiness, metrics, status, page and intake."""

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        self._settings = settings.web
        self._accounts = accounts
        self._intake = Intake(settings)
        self._stopping = asyncio.Event()
        pages = Pages(settings, web_token(settings.web))
        routes = [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
            web.get("/status", self._status),
            web.get("/events", self._events),
            *pages.routes(),
            *self._intake.routes(),
        ]
        self._runner = make_runner(routes, Access(settings.web, pages), Cors(settings.intake, PREFIX))

    async def start(self) -> int:
        """Listen; return the port.

        Raises:
            SettingsError: the address cannot be listened on.
        """
        await self._runner.setup()
        host, port = self._settings.host, self._settings.port
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            reason = str(error.strerror).rpartition(": ")[2]  # of what asyncio makes of it
            raise SettingsError(
                f"web.host {host}, web.port {port} cannot be listened on: {reason}", "web.port 0 picks a free one"
            ) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close."""
        self._stopping.set()
        await self._runner.cleanup()
        await self._intake.stop()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        account = await self._accounts.status()
        return web.Response(text=f"{account['reason'] or 'ready'}\n", status=200 if account["ready"] else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return metrics_response(request, await self._accounts.metrics())

    async def _status(self, request: web.Request) -> web.Response:
        body = orjson.dumps(await self._accounts.status(), option=orjson.OPT_INDENT_2)
        return web.Response(body=body, content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send the deployment's account as server-sent events, every two seconds until the reader goes or we stop."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        while not self._stopping.is_set():
            data = orjson.dumps(await self._accounts.deployment())
            try:
                await response.write(b"event: status\ndata: " + data + b"\n\n")
            except ConnectionResetError:
                break
            try:
                await asyncio.wait_for(self._stopping.wait(), EVENT_SECONDS)
            except TimeoutError:
                continue
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
