"""Calls to an object in a process of our own, over a socket pair: many at a time, each answered or refused.

Frames are MessagePack: plain values only, nothing that could run. A list arrives as a tuple.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import traceback
from collections.abc import Callable
from functools import partial
from itertools import count
from struct import Struct
from typing import Any, TypeAlias

import msgpack

from schemas.errors import TierstreamError

Problem: TypeAlias = tuple[str, tuple[Any, ...], str]
"""An error on its way: its kind, its arguments, and the traceback."""

GONE = "the other process has ended"

_LENGTH = Struct("<Q")
_BUFFER_BYTES = 8 * 1024 * 1024
_CANCEL = "cancel"
_SURROGATES = "surrogatepass"
"""Names of files and texts of errors may hold half a character."""


class PeerGoneError(ConnectionError):
    """The other process has ended."""


class RemoteError(RuntimeError):
    """A call failed in the other process, in a way that has no type of its own here."""


def send(connection: socket.socket, message: object) -> None:
    """Send one message and wait until it is on its way."""
    connection.sendall(_frame(message))


def receive(connection: socket.socket) -> Any:
    """Wait for one message.

    Raises:
        PeerGoneError: the other side has ended.
    """
    return _value(_read(connection, *_LENGTH.unpack(_read(connection, _LENGTH.size))))


class Caller:
    """The side that calls.

    Args:
        connection: connected to a process that runs `serve`.
        on_news: takes what `serve` sends beside each answer, before the call returns.
    """

    def __init__(self, connection: socket.socket, on_news: Callable[[Any], None]) -> None:
        self._connection = connection
        self._on_news = on_news
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._opening = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def call(self, method: str, *args: object) -> Any:
        """Return what the method returns, or raise what it raises; a call that is cancelled is cancelled there, too.

        Raises:
            PeerGoneError: the other process has ended.
        """
        writer = await self._opened()
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            writer.write(_frame((number, method, args)))
            await writer.drain()
            return await answer
        except asyncio.CancelledError:
            writer.write(_frame((number, _CANCEL, ())))
            raise
        finally:
            del self._waiting[number]

    def tell(self, method: str, *args: object) -> None:
        """Have a method called before all that is called later, without waiting for it."""
        if self._writer is not None:
            self._writer.write(_frame((next(self._numbers), method, args)))

    def close(self) -> None:
        """Let go of the other process, which then ends."""
        if self._writer is not None:
            self._writer.close()
        self._connection.close()

    async def _opened(self) -> asyncio.StreamWriter:
        async with self._opening:
            if self._writer is None:
                reader, self._writer = await asyncio.open_unix_connection(sock=self._connection, limit=_BUFFER_BYTES)
                self._reading = asyncio.create_task(self._read_answers(reader))
        if self._reading is None or self._reading.done():
            raise PeerGoneError(GONE)
        return self._writer

    async def _read_answers(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                try:
                    number, value, error, news = await _next(reader)
                except PeerGoneError:
                    return
                self._on_news(news)
                answer = self._waiting.get(number)
                if answer is None or answer.done():
                    continue
                if error is None:
                    answer.set_result(value)
                else:
                    answer.set_exception(error_of(error))
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(PeerGoneError(GONE))


async def serve(connection: socket.socket, target: object, news: Callable[[], Any]) -> None:
    """Let the other side call methods of `target`, until it ends.

    Args:
        connection: to the calling process.
        target: its methods may be plain ones, which are called in the order of the calls, or coroutines.
        news: returns what goes out beside the next answer.
    """
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_BUFFER_BYTES)
    tasks: dict[int, asyncio.Future[Any]] = {}

    def answer(number: int, value: Any, error: BaseException | None) -> None:
        writer.write(_frame((number, value, None if error is None else problem_of(error), news())))

    def finish(number: int, task: asyncio.Future[Any]) -> None:
        del tasks[number]
        if not task.cancelled():
            error = task.exception()
            answer(number, None if error else task.result(), error)

    try:
        while True:
            number, method, args = await _next(reader)
            if method == _CANCEL:
                if number in tasks:
                    tasks[number].cancel()
                continue
            try:
                result = getattr(target, method)(*args)
            except Exception as failure:  # noqa: BLE001 - raised again on the calling side
                answer(number, None, failure)
                continue
            if not inspect.isawaitable(result):
                answer(number, result, None)
                continue
            tasks[number] = asyncio.ensure_future(result)
            tasks[number].add_done_callback(partial(finish, number))
    except (PeerGoneError, ConnectionError):
        return
    finally:
        writer.close()


def problem_of(error: BaseException) -> Problem:
    """Return what of an error the other side is told."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, TierstreamError):
        return "tierstream", (error.message, error.remedy), trace
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename
        return "os", (error.errno, error.strerror, name if isinstance(name, str | bytes) else str(name or "")), trace
    return "other", (repr(error),), trace


def error_of(problem: Problem) -> Exception:
    """Return the error that the other side was told of, with its traceback as a note."""
    kind, arguments, trace = problem
    kinds: dict[str, type[Exception]] = {"tierstream": TierstreamError, "os": OSError}
    error = kinds.get(kind, RemoteError)(*arguments)
    error.add_note(trace)
    return error


def _frame(message: Any) -> bytes:
    data: bytes = msgpack.packb(message, unicode_errors=_SURROGATES)
    return _LENGTH.pack(len(data)) + data


def _value(data: bytes) -> Any:
    return msgpack.unpackb(data, use_list=False, strict_map_key=False, unicode_errors=_SURROGATES)


async def _next(reader: asyncio.StreamReader) -> Any:
    try:
        [length] = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return _value(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise PeerGoneError(GONE) from error


def _read(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise PeerGoneError(GONE)
        data += more
    return bytes(data)
