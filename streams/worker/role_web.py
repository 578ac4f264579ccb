"""A role's web server, which answers its worker: metrics and status."""

from __future__ import annotations

import socket

import orjson
from aiohttp import web
from mode import Service

from schemas.settings import WebSettings
from streams.worker.role_app import TierstreamApp
from streams.worker.status import status
from streams.worker.web import Access, make_runner, metrics_response


class RoleWeb(Service):  # type: ignore[misc]
    """A role's account for its worker, on a listener that the worker has made; up through recovery, too."""

    def __init__(self, app: TierstreamApp, settings: WebSettings, listener: socket.socket | None) -> None:
        super().__init__()
        self._app = app
        self._listener = listener
        routes = [web.get("/metrics", self._metrics), web.get("/status", self._status)]
        self._runner = make_runner(routes, Access(settings))

    async def on_start(self) -> None:
        """Listen."""
        if self._listener is not None:
            await self._runner.setup()
            await web.SockSite(self._runner, self._listener).start()

    async def on_stop(self) -> None:
        """Close."""
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        return metrics_response(request, self._app.services.metrics.registry)

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(status(self._app), option=orjson.OPT_SERIALIZE_NUMPY))
