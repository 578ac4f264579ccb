"""A role's web server, which answers its worker: metrics and status."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from faust.exceptions import ConsumerNotStarted
from mode import Service

from schemas.settings import WebSettings
from streams.worker.status import status
from streams.worker.web import Access, make_runner, metrics_response

if TYPE_CHECKING:
    from streams.worker.app import TierstreamApp


class RoleWeb(Service):  # type: ignore[misc]
    """A role's account for its worker, on a listener that the worker has made; up through recovery, too."""

    def __init__(self, app: TierstreamApp, settings: WebSettings, listener: socket.socket | None) -> None:
        super().__init__()
        self._app = app
        self._listener = listener
        routes = [web.get("/metrics", self._metrics), web.get("/status", self._status)]
        self._runner = make_runner(Access(settings), routes)

    async def on_start(self) -> None:
        """Listen."""
        if self._listener is not None:
            await self._runner.setup()
            await web.SockSite(self._runner, self._listener).start()

    async def on_stop(self) -> None:
        """Close."""
        await self._runner.cleanup()

    def not_ready(self) -> str | None:
        """Return why the role is not ready, None where it is: a scorer that stands by is."""
        app = self._app
        scorer = app.agents_of_ours.scorer
        try:
            assigned = bool(app.consumer.assignment()) or (scorer is not None and scorer.stands_by)
        except ConsumerNotStarted:
            return "starting"
        if app.rebalancing or not assigned:
            return "waiting for partitions"
        if scorer is not None and not (scorer.is_active or scorer.stands_by):
            return "reading its log"
        if not app.tables.actives_ready:
            return "recovering tables"
        if stalled := app.watchdog.stalled():
            return f"no progress on {', '.join(stalled)}"
        return None

    async def _metrics(self, request: web.Request) -> web.Response:
        return metrics_response(self._app.services.metrics.registry)

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(status(self._app), option=orjson.OPT_SERIALIZE_NUMPY))
