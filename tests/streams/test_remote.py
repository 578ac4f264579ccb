"""Calls to an object in another process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from schemas.errors import TierstreamError
from streams.remote import Caller, PeerGoneError, RemoteError, error_of, problem_of, receive, send, serve


class Desk:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()

    def note(self, word: str) -> int:
        self.seen.append(word)
        return len(self.seen)

    async def echo(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def fail(self, kind: str) -> None:
        if kind == "tierstream":
            raise TierstreamError("no room", "make some")
        if kind == "disk":
            raise OSError(28, "No space left on device", "/data/x")
        raise KeyError(kind)

    async def hang(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


async def end(caller: Caller, serving: asyncio.Task[None]) -> None:
    caller.close()
    await serving
    await asyncio.sleep(0)  # transports close with the loop's next turn


def run(
    pair: tuple[socket.socket, socket.socket], body: Callable[[Caller, Desk], Awaitable[None]], news: list[Any]
) -> None:
    async def both() -> None:
        desk = Desk()
        serving = asyncio.create_task(serve(pair[1], desk, lambda: len(desk.seen)))
        caller = Caller(pair[0], news.append)
        await body(caller, desk)
        await end(caller, serving)

    asyncio.run(both())


def test_values_come_back_and_news_comes_before_them(pair: tuple[socket.socket, socket.socket]) -> None:
    news: list[Any] = []

    async def body(caller: Caller, desk: Desk) -> None:
        value = (1, "word", b"\0" * 3_000_000, None, ((2.5, {"k": True}), "\ud800"))
        assert await caller.call("echo", value) == value
        assert await caller.call("note", "a") == 1
        assert news == [0, 1]

    run(pair, body, news)


def test_many_calls_are_under_way_at_a_time(pair: tuple[socket.socket, socket.socket]) -> None:
    async def body(caller: Caller, desk: Desk) -> None:
        hanging = asyncio.create_task(caller.call("hang"))
        await desk.entered.wait()
        assert await asyncio.gather(*(caller.call("echo", n) for n in range(50))) == list(range(50))
        hanging.cancel()
        await desk.cancelled.wait()

    run(pair, body, [])


def test_what_is_told_happens_before_what_is_called_later(pair: tuple[socket.socket, socket.socket]) -> None:
    async def body(caller: Caller, desk: Desk) -> None:
        await caller.call("note", "a")
        caller.tell("note", "b")
        assert await caller.call("note", "c") == 3
        assert desk.seen == ["a", "b", "c"]

    run(pair, body, [])


def test_an_error_keeps_its_kind_its_words_and_its_traceback(pair: tuple[socket.socket, socket.socket]) -> None:
    async def body(caller: Caller, desk: Desk) -> None:
        with pytest.raises(TierstreamError, match="no room; make some") as told:
            await caller.call("fail", "tierstream")
        assert "in fail" in told.value.__notes__[0]
        with pytest.raises(OSError, match="No space left") as full:
            await caller.call("fail", "disk")
        assert (full.value.errno, full.value.filename) == (28, "/data/x")
        with pytest.raises(RemoteError, match="KeyError"):
            await caller.call("fail", "other")
        with pytest.raises(RemoteError, match="no_such"):
            await caller.call("no_such")
        assert await caller.call("echo", 1) == 1

    run(pair, body, [])


def test_calls_fail_once_the_other_side_has_ended(pair: tuple[socket.socket, socket.socket]) -> None:
    async def body(caller: Caller, desk: Desk) -> None:
        waiting = asyncio.create_task(caller.call("hang"))
        await desk.entered.wait()
        pair[1].shutdown(socket.SHUT_RDWR)
        with pytest.raises(PeerGoneError, match="has ended"):
            await waiting
        with pytest.raises(PeerGoneError, match="has ended"):
            await caller.call("echo", 1)

    run(pair, body, [])


def test_news_that_cannot_be_taken_leaves_no_call_waiting(pair: tuple[socket.socket, socket.socket]) -> None:
    async def both() -> None:
        serving = asyncio.create_task(serve(pair[1], Desk(), lambda: "odd"))
        caller = Caller(pair[0], lambda news: [][0])
        with pytest.raises(PeerGoneError):
            await caller.call("echo", 1)
        assert caller._reading is not None
        with pytest.raises(IndexError):
            await caller._reading
        await end(caller, serving)

    asyncio.run(both())


def test_one_message_each_way_without_a_loop(pair: tuple[socket.socket, socket.socket]) -> None:
    send(pair[0], {"a": [1, b"2"]})
    assert receive(pair[1]) == {"a": (1, b"2")}
    pair[0].close()
    with pytest.raises(PeerGoneError):
        receive(pair[1])


def test_a_problem_without_a_number_is_told_in_words() -> None:
    assert isinstance(error_of(problem_of(ConnectionResetError("gone"))), RemoteError)
