"""Intake over HTTP, for those who have no Kafka client: events of the contract, and spans of OpenTelemetry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from aiohttp import web
from pydantic import ValidationError
from pydantic_core import from_json

from schemas.base import Event
from schemas.errors import ConnectionFailedError
from schemas.settings import Settings
from streams.client.aio import topic_of
from streams.client.producer import Producer
from streams.contract import CONTRACTS, INTAKE_PATHS, JSON_LINES, OTLP_PATH, openapi
from streams.imports.events import Making, events_of
from streams.imports.found import Bad, Ready, Record
from streams.imports.otel import FORMAT as OTEL
from streams.kafka.dead_letters import explain
from streams.kafka.options import broker_errors

PREFIX = "/v1/"
ACKNOWLEDGED_SECONDS = 10.0
"""A post is answered with 503 where the broker has not acknowledged its events after so long."""

Take = Callable[[web.Request], Awaitable[web.Response]]

_JSON = "application/json"
_KIB = 1024


class _RefusedError(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, error: str, **more: object) -> None:
        super().__init__(error)
        self.status = status
        self.told = {"error": error, **more}


class Intake:
    """Routes that take events in; who may post has been decided before.

    A post is answered with 202 once the broker has all of its events, and publishes none where one of them is bad.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limit = settings.intake.max_body_kib * _KIB
        self._rate = Rate(settings.intake.events_per_second)
        self._starting = asyncio.Lock()
        self._producer: Producer | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            *(web.post(path, self._answered(partial(self._events, topic))) for path, topic in INTAKE_PATHS.items()),
            web.post(OTLP_PATH, self._answered(self._spans)),
            web.get(f"{PREFIX}openapi.json", self._openapi),
        ]

    async def stop(self) -> None:
        """Let go of the broker."""
        if self._producer is not None:
            await self._producer.__aexit__(None, None, None)

    def _answered(self, take: Take) -> Take:
        """Return a handler that says in JSON why a request is refused."""

        async def answer(request: web.Request) -> web.Response:
            try:
                return await take(request)
            except _RefusedError as refused:
                headers = {"Retry-After": "1"} if refused.status in (429, 503) else None
                return web.json_response(refused.told, status=refused.status, headers=headers)

        return answer

    async def _events(self, topic: str, request: web.Request) -> web.Response:
        if request.content_type not in (_JSON, *JSON_LINES):
            raise _RefusedError(415, f"content type {request.content_type}: send {_JSON}, or {JSON_LINES[0]} for lines")
        body = await self._body(request)
        lines = [body] if request.content_type == _JSON else body.splitlines()
        events = [
            _decoded(line, CONTRACTS[topic].event, number if len(lines) > 1 else None)
            for number, line in enumerate(lines, start=1)
            if line.strip() or request.content_type == _JSON
        ]
        if not events:
            raise _RefusedError(400, "no event in the body")
        await self._publish(events)
        return web.json_response({"accepted": len(events)}, status=202)

    async def _spans(self, request: web.Request) -> web.Response:
        """Take an export of OTLP/HTTP in JSON; answered with 200, as OTLP wants it, and what was rejected."""
        if request.content_type != _JSON:
            raise _RefusedError(415, f"content type {request.content_type}: OTLP is taken as {_JSON} alone")
        body = await self._body(request)
        try:
            value = from_json(body)
        except (ValueError, RecursionError) as error:
            raise _RefusedError(400, f"not JSON: {error}") from error
        if isinstance(value, dict):
            value.setdefault("resourceSpans", [])  # OTLP has an empty export answered as success, as unknown fields are
        record = Record("body", value, datetime.now(UTC))
        found = list(events_of(OTEL.read([record]), Making()))
        bad = [one for one in found if isinstance(one, Bad)]
        events = [one.event for one in found if isinstance(one, Ready)]
        if bad and len(bad) == len(found):
            raise _RefusedError(400, f"{bad[0].where}: {bad[0].reason}")
        await self._publish(events)
        rejected = {"rejectedSpans": str(len(bad)), "errorMessage": f"{bad[0].where}: {bad[0].reason}"} if bad else {}
        return web.json_response({"partialSuccess": rejected})

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.json_response(openapi(self._settings))

    async def _body(self, request: web.Request) -> bytes:
        """Return the body, unpacked; a larger one than the limit is not read to its end."""
        too_large = _RefusedError(
            413, f"a body is {self._settings.intake.max_body_kib} KiB at most: intake.max_body_kib"
        )
        if (request.content_length or 0) > self._limit:
            raise too_large
        parts, size = [], 0
        try:
            async for part in request.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > self._limit:
                    raise too_large
        except web.RequestPayloadError as error:
            raise _RefusedError(400, f"the body cannot be read: {error}") from error
        return b"".join(parts)

    async def _publish(self, events: Sequence[Event]) -> None:
        """Publish events and wait for the broker's word.

        Raises:
            _RefusedError: beyond the rate, or the broker has not acknowledged all of them.
        """
        if not self._rate.allows(len(events)):
            raise _RefusedError(429, "more than intake.events_per_second: send them again later")
        try:
            async with asyncio.timeout(ACKNOWLEDGED_SECONDS):
                producer = await self._started()
                with broker_errors(self._settings):
                    await asyncio.gather(*[await producer.enqueue(topic_of(event), event) for event in events])
        except (ConnectionFailedError, TimeoutError) as error:
            raise _RefusedError(
                503, "the broker has not acknowledged: send it again, the same ids change nothing"
            ) from error

    async def _started(self) -> Producer:
        async with self._starting:
            if self._producer is None:
                self._producer = await Producer(self._settings).__aenter__()
            return self._producer


class Rate:
    """A bucket that holds one second's worth of events, and fills by the clock.

    Args:
        per_second: how many.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = per_second
        self._at = time.monotonic()

    def allows(self, count: int) -> bool:
        """Take so many; where some are left a larger batch goes in, too, and the next ones wait for it."""
        now = time.monotonic()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left <= 0:
            return False
        self._left -= count
        return True


def _decoded(line: bytes, model: type[Event], number: int | None) -> Event:
    try:
        return model.from_json(line)
    except ValidationError as error:
        where = {} if number is None else {"line": number}
        field = ".".join(str(part) for part in error.errors(include_url=False, include_context=False)[0]["loc"])
        said = explain(error)[1]
        raise _RefusedError(
            400, said if number is None else f"line {number}: {said}", field=field or None, **where
        ) from error
