"""A client of the intake over HTTP that remembers what was accepted and sends everything else again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, TCPConnector

CONNECTIONS = 64
JSON = {"Content-Type": "application/json"}
_AGAIN_SECONDS = 0.1
_TIMEOUT_SECONDS = 30.0


@dataclass(slots=True)
class Posted:
    """What became of posts."""

    accepted: list[int] = field(default_factory=list)
    """Places of the bodies that were answered with 202."""
    tries: int = 0
    """Posts, those included that got no answer or another one: each of these was sent again."""
    refused: set[int] = field(default_factory=set)
    """Status codes of other answers."""
    answer_ms: list[float] = field(default_factory=list)
    """Of the accepted ones."""
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the counts and the rate in one line."""
        rate = len(self.accepted) / self.seconds
        return f"{len(self.accepted):,} accepted in {self.seconds:.1f} s, {rate:,.0f} a second, of {self.tries:,} posts"


async def post_all(url: str, bodies: Sequence[bytes], rate: float, connections: int = CONNECTIONS) -> Posted:
    """Post bodies over keep-alive connections, each until it is accepted.

    Args:
        url: takes them.
        bodies: one a post.
        rate: posts a second; later where no connection is free.
        connections: how many at a time.
    """
    posted, numbers, began = Posted(), iter(range(len(bodies))), time.monotonic()

    async def accepted(client: ClientSession, body: bytes) -> bool:
        posted.tries += 1
        with suppress(ClientConnectionError, TimeoutError):
            async with client.post(url, data=body, headers=JSON) as answer:
                await answer.read()
                if answer.status == 202:
                    return True
                posted.refused.add(answer.status)
        await asyncio.sleep(_AGAIN_SECONDS)
        return False

    async def connection(client: ClientSession) -> None:
        for number in numbers:
            await asyncio.sleep(began + number / rate - time.monotonic())
            sent = time.monotonic()
            while not await accepted(client, bodies[number]):
                pass
            posted.answer_ms.append((time.monotonic() - sent) * 1000)
            posted.accepted.append(number)

    connector, timeout = TCPConnector(limit=connections), ClientTimeout(total=_TIMEOUT_SECONDS)
    async with ClientSession(connector=connector, timeout=timeout) as client:
        await asyncio.gather(*(connection(client) for _ in range(connections)))
    posted.seconds = time.monotonic() - began
    return posted
