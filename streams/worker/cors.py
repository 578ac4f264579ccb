"""Cross-origin requests to the intake: refused unless the origin is on the list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from schemas.settings import IntakeSettings

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "authorization, content-type",
    "Access-Control-Max-Age": "600",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Cors:
    """Middleware before that of access: a browser asks without a token whether it may post with one.

    Args:
        settings: with the allowed origins.
        prefix: of the paths that other origins may use.
    """

    def __init__(self, settings: IntakeSettings, prefix: str) -> None:
        self._origins = frozenset(settings.cors_origins.split(",")) - {""}
        self._prefix = prefix

    @web.middleware
    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a preflight; let a request of an allowed origin, or of none, through."""
        origin = request.headers.get("Origin")
        if origin is None or not request.path.startswith(self._prefix):
            return await handler(request)
        if origin not in self._origins:
            if urlsplit(origin).netloc == request.host:
                return await handler(request)
            return web.json_response({"error": f"origin {origin} is not in intake.cors_origins"}, status=403)
        if request.method == "OPTIONS":
            response: web.StreamResponse = web.Response(status=204, headers=_PREFLIGHT)
        else:
            response = await handler(request)
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
        return response
