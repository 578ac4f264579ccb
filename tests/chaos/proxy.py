"""A TCP proxy that can be cut: what it holds then is delivered when it is fixed, as a network does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

LOOPBACK = "127.0.0.1"


class Loop:
    """An asyncio loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """End the thread; what still runs in it is cancelled."""
        self.call(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Proxy:
    """Forwards a loopback port to another one."""

    def __init__(self, loop: Loop, port: int, target: int) -> None:
        self._loop, self._target = loop, target
        self._flowing: asyncio.Event
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop.call(self._listen(port))

    def cut(self) -> None:
        """Let nothing through any more; connections stay open."""
        self._loop.call(self._set(False))

    def mend(self) -> None:
        """Let everything through again, what was held first."""
        self._loop.call(self._set(True))

    async def _listen(self, port: int) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        await asyncio.start_server(self._serve, LOOPBACK, port)

    async def _set(self, flowing: bool) -> None:
        if flowing:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        try:
            there, back = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            for end in (writer, back):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
