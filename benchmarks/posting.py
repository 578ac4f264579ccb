"""A client of the intake over HTTP that remembers what was accepted and sends everything else again.

Written on plain streams: a client with a library takes as much of the cores as the server that is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONNECTIONS = 64
_AGAIN_SECONDS = 0.1
_TIMEOUT_SECONDS = 30.0
_LENGTH = b"content-length:"


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


class Connection:
    """One keep-alive connection, opened anew where it was lost.

    Args:
        url: takes the posts.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n".encode()
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> int:
        """Post a body; return the answer's status.

        Raises:
            OSError: there is no connection, it was lost, or no answer came in time (`TimeoutError`).
            EOFError: it was closed before the answer had come.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._host, self._port)
                reader, writer = self._streams
                writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body))
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                begin = answer.index(_LENGTH) + len(_LENGTH)
                await reader.readexactly(int(answer[begin : answer.index(b"\r\n", begin)]))
        except (OSError, EOFError):
            self.close()
            raise
        return int(answer.split(maxsplit=2)[1])

    def close(self) -> None:
        """Let go of the connection; the next post opens another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def post_all(url: str, bodies: Sequence[bytes], rate: float, connections: int = CONNECTIONS) -> Posted:
    """Post bodies over keep-alive connections, each until it is accepted.

    Args:
        url: takes them.
        bodies: one a post.
        rate: posts a second; later where no connection is free.
        connections: how many at a time.
    """
    posted, numbers, began = Posted(), iter(range(len(bodies))), time.monotonic()

    async def accepted(connection: Connection, body: bytes) -> bool:
        posted.tries += 1
        with suppress(OSError, EOFError):
            if (status := await connection.post(body)) == 202:
                return True
            posted.refused.add(status)
        await asyncio.sleep(_AGAIN_SECONDS)
        return False

    async def keep_posting() -> None:
        connection = Connection(url)
        for number in numbers:
            await asyncio.sleep(began + number / rate - time.monotonic())
            sent = time.monotonic()
            while not await accepted(connection, bodies[number]):
                pass
            posted.answer_ms.append((time.monotonic() - sent) * 1000)
            posted.accepted.append(number)
        connection.close()

    await asyncio.gather(*(keep_posting() for _ in range(connections)))
    posted.seconds = time.monotonic() - began
    return posted
