"""What the settings of the worker's web server, of its intake and of the servers of trained versions change."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from schemas.base import Event
from schemas.errors import ServingError
from schemas.settings import Settings
from streams.broker.launch import free_port
from streams.worker.service import Roles
from streams.worker.web import WorkerWeb
from tests.serving_peer import ServingPeer
from tests.streams.cli.test_models import add
from trainers import promotion

Seen = Any

PORTS = free_port(), free_port()
HOSTS = "127.0.0.1", "127.0.0.2"


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def listening(settings: Settings) -> Seen:
    """Return which of two hosts and ports the worker's web server answers on."""

    async def look() -> Seen:
        server = WorkerWeb(settings, Roles(settings, ()))
        await server.start()
        found = [place for place in product(HOSTS, PORTS) if await _listens(*place)]
        await server.stop()
        return found

    return asyncio.run(look())


def status_page(settings: Settings) -> Seen:
    """Return the answer to somebody without a token."""

    async def look() -> Seen:
        server = WorkerWeb(settings, Roles(settings, ()))
        port = await server.start()
        async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}/status") as answer:
            status = answer.status
        await server.stop()
        return status

    return asyncio.run(look())


class _Taking:
    """Stands in for the intake's producer: every event is acknowledged."""

    async def enqueue(self, topic: str, event: Event) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def __aexit__(self, *_: object) -> None:
        return None


def posted(settings: Settings) -> Seen:
    """Return the statuses of posts to the intake: three of one event, a large one, one from another origin."""
    event = b'{"feedback_id":"f","experience_id":"e","timestamp":1,"source":"user","reward":1,"comment":"%s"}'
    json_type = {"Content-Type": "application/json"}

    async def look() -> Seen:
        server = WorkerWeb(settings, Roles(settings, ()))
        server._intake._producer = _Taking()  # type: ignore[assignment]
        port = await server.start()
        found = []
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            for body, more in (
                (event % (b"x" * 2000), {}),
                *[(event % b"", {})] * 3,
                (event % b"", {"Origin": "https://app.example.org"}),
            ):
                async with client.post("/v1/feedback", data=body, headers={**json_type, **more}) as answer:
                    found.append(answer.status)
        await server.stop()
        return found

    return asyncio.run(look())


def promoted(settings: Settings) -> Seen:
    """Return how a promotion ends with a slow server on the second port, and what that was told of who asks."""
    add(Path(settings.data_dir), "dpo-a1")
    with ServingPeer(port=PORTS[1]) as server:
        server.delay_seconds = 0.5
        try:
            done = promotion.promote(settings, "dpo-a1", "better").version
        except ServingError as error:
            done = str(error)
        return done, server.keys


def serve_listens(settings: Settings) -> Seen:
    """Return the port that `tierstream serve` takes."""
    from trainers.jobs.serve import _listening

    with _listening(settings.serving.port) as listener:
        return listener.getsockname()[1]
