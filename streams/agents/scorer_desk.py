"""The scorer's own process, started by `ScorerProcess`: `python -m streams.agents.scorer_desk FD`."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import uvloop

from schemas.settings import Settings
from streams.agents.scorer import ScorerAgent
from streams.agents.services import Services
from streams.kafka_options import client_options
from streams.metrics import Metrics
from streams.process import end_with_parent, freeze_collector, limit_arenas, log_to_stderr
from streams.publisher import Publisher
from streams.remote import problem_of, receive, send, serve
from streams.transport.batch import RecordBatch

log = logging.getLogger("tierstream.scorer")

STATUS_SECONDS = 0.5
"""The worker's copy of the scorer's figures is renewed with the first answer after so long."""


class _Counted(Metrics):
    """Keeps what is counted, for the worker's metrics, until the next answer."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def count(self, topic: str, outcomes: Mapping[str, int]) -> None:
        self.calls.append(("count", (topic, dict(outcomes))))

    def count_letters(self, reasons: Mapping[str, int]) -> None:
        self.calls.append(("count_letters", (dict(reasons),)))

    def observe_latency(self, seconds: Sequence[float]) -> None:
        self.calls.append(("observe_latency", (list(seconds),)))


class _Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class _Desk:
    """What the worker can call."""

    def __init__(self, settings: Settings) -> None:
        self._counted = _Counted()
        self.publisher = Publisher(client_options(settings))
        self._agent = ScorerAgent(Services(settings, self.publisher, {}, self._counted))
        self._told_at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    async def process(self, topic: str, partition: int, records: Sequence[tuple[Any, ...]]) -> None:
        await self._agent.process(RecordBatch(topic, partition, [_Record._make(record) for record in records]))

    def news(self) -> tuple[Any, ...]:
        """Return what may be committed, figures as JSON where the worker's copy is old, and calls for its metrics."""
        status, now = None, time.monotonic()
        if now - self._told_at >= STATUS_SECONDS:
            status, self._told_at = orjson.dumps(self._agent.status(), option=orjson.OPT_SERIALIZE_NUMPY), now
        counted, self._counted.calls = self._counted.calls, []
        return self._agent.durable_through(), status, counted


def main() -> None:
    """Run until the worker ends."""
    # Its successor needs the store of features, which one that is paused or hangs would keep locked.
    end_with_parent()
    # A terminal's Ctrl-C reaches the whole group; the worker drains, and its end is ours.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        _work(socket.socket(fileno=int(sys.argv[1])))
    except ConnectionError:
        return  # the worker has ended, and has said why
    except Exception:
        log.critical("the scorer's process failed", exc_info=True)
    finally:
        logging.shutdown()
        # Threads that still write a checkpoint need not be waited for: files come into being as a whole.
        os._exit(0)


def _work(connection: socket.socket) -> None:
    settings = Settings.model_validate_json(receive(connection))
    log_to_stderr(settings)
    limit_arenas()
    desk = _Desk(settings)
    try:
        desk.check_architecture()
    except Exception as error:  # noqa: BLE001 - raised again on the worker's side
        send(connection, problem_of(error))
        return
    send(connection, None)
    # Nothing is connected before the worker says that there is a broker.
    receive(connection)
    freeze_collector()

    async def run() -> None:
        await desk.publisher.start()
        await serve(connection, desk, desk.news)

    uvloop.run(run())


if __name__ == "__main__":
    main()
