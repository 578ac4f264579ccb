"""Sees a worker that has work and makes no progress, which Faust's own detection never reports.

Where the log ends is asked of the broker: a consumer that has stopped fetching would never hear of new work. Whoever
watches runs on the event loop, so that one is watched by a timer thread of the interpreter.
"""

from __future__ import annotations

import faulthandler
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger("tierstream.watchdog")


class App(Protocol):
    """What is watched."""

    consumer: Any
    rebalancing: bool


class Watchdog:
    """Compares, for every partition of a record-batch topic, what is acknowledged with what is there.

    Args:
        app: what is watched.
        stall_timeout: seconds without progress until the role is not ready; after twice that it ends.
        work: grows while there is progress that no acknowledged offset shows.
    """

    def __init__(self, app: App, stall_timeout: float, work: Callable[[], int] = lambda: 0) -> None:
        self._app = app
        self._timeout = stall_timeout
        self._work, self._work_done = work, 0
        self._moved: dict[Any, tuple[int, float]] = {}
        self._rebalancing_since: float | None = None
        self.interval = min(5.0, stall_timeout / 4)

    async def run(self) -> None:
        """Look once, and end the process, with all threads' stacks, should the next look not come.

        Raises:
            TimeoutError: as `check`.
        """
        faulthandler.dump_traceback_later(2 * self._timeout + self.interval, exit=True)
        await self._app.consumer.ask_ends(self.interval)
        await self.check()

    async def check(self) -> None:
        """Note progress; raise where there has been none for twice the timeout, which ends the worker.

        Raises:
            TimeoutError: names the partitions, or says that the group does not come to rest.
        """
        now = time.monotonic()
        self._check_rebalance(now)
        waiting, done = self._waiting(), self._work()
        works, self._work_done = done != self._work_done, done
        self._moved = {tp: self._moved.get(tp, (position, now)) for tp, position in waiting.items()}
        for tp, position in waiting.items():
            if position != self._moved[tp][0] or works:
                self._moved[tp] = (position, now)
        if stalled := self.stalled(2 * self._timeout):
            raise TimeoutError(f"no progress for {2 * self._timeout:g} s on {', '.join(stalled)}")

    def stalled(self, seconds: float | None = None) -> list[str]:
        """Return the partitions that have work and made no progress for `seconds`, by default `stall_timeout`."""
        limit = time.monotonic() - (self._timeout if seconds is None else seconds)
        return sorted(f"{tp.topic}[{tp.partition}]" for tp, (_, since) in self._moved.items() if since < limit)

    def _check_rebalance(self, now: float) -> None:
        if not self._app.rebalancing:
            self._rebalancing_since = None
        elif self._rebalancing_since is None:
            self._rebalancing_since = now
        elif now - self._rebalancing_since > 2 * self._timeout:
            raise TimeoutError(f"the consumer group has been rebalancing for {2 * self._timeout:g} s")

    def _waiting(self) -> dict[Any, int]:
        if self._app.rebalancing:
            return {}
        progress: dict[Any, tuple[int, int]] = self._app.consumer.progress()
        return {tp: position for tp, (position, end) in progress.items() if end > position}
