"""Requests of other origins: those that change something are refused, but for the intake's from origins on its list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from schemas.settings import IntakeSettings

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "authorization, content-type",
    "Access-Control-Max-Age": "600",
}
_SAFE = ("GET", "HEAD")

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
        """Answer a preflight; let a request of an allowed origin, of our own, or of none, through."""
        origin, is_intake = request.headers.get("Origin"), request.path.startswith(self._prefix)
        if origin is None or (request.method in _SAFE and not is_intake):
            return await handler(request)
        if not is_intake or origin not in self._origins:
            # A form elsewhere is sent with the browser's cookies, and without a token to this machine's own names.
            if origin.partition("://")[2] == request.host:
                return await handler(request)
            why = "is not in intake.cors_origins" if is_intake else "is not this server's"
            return web.json_response({"error": f"origin {origin} {why}"}, status=403)
        if request.method == "OPTIONS":
            response: web.StreamResponse = web.Response(status=204, headers=_PREFLIGHT)
        else:
            response = await handler(request)
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
        return response
