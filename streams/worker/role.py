"""One role's process, started by the worker: `python -m streams.worker.role NAME FD PID`.

It reads its settings and then the word to begin from standard input, and answers on the listening socket FD. PID is
the worker's.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from typing import cast

import faust
import mode.loop

from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams import topics
from streams.process import (
    freeze_collector,
    keep_output_for_refusals,
    limit_arenas,
    log_to_stderr,
    refuse,
    yield_to_tier_1,
)
from streams.topics import Role
from streams.worker.app import build_app
from trainers.parent import end_with_parent

log = logging.getLogger("tierstream")

SWITCH_SECONDS = 0.0005
"""A thread that computes gives way so soon: Python's 5 ms would pass at each hand-over between consumer and agents."""

EXIT_DRAIN_TIMEOUT = 71
"""Exit status of a role that did not stop in time; what it had not acknowledged is delivered again."""


class Worker(faust.Worker):  # type: ignore[misc]
    """A Faust worker that is sure to end once it was told to, and has no debugger behind a signal."""

    drain_timeout: float

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        deadline = threading.Timer(self.drain_timeout, _end_by_force, (self.drain_timeout,))
        deadline.daemon = True
        deadline.start()
        super()._schedule_shutdown(signal)

    def _on_sigusr2(self) -> None:
        self._on_sigusr1()


def _end_by_force(seconds: float) -> None:
    log.critical("not drained after %g s: ended; what was not acknowledged is delivered again", seconds)
    logging.shutdown()
    os._exit(EXIT_DRAIN_TIMEOUT)


def main() -> None:
    """Run until SIGTERM, or until the worker has gone."""
    # Without it, it ends as soon as it reads the end of its connection.
    end_with_parent(int(sys.argv[3]))
    keep_output_for_refusals()
    role, listener = cast(Role, sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    faulthandler.enable()
    limit_arenas()
    sys.setswitchinterval(SWITCH_SECONDS)
    log_to_stderr(settings)
    if role not in topics.TIER_1:
        yield_to_tier_1()
    mode.loop.use("uvloop")
    try:
        _check_extension()
        app = build_app(settings, role, listener=listener)
    except TierstreamError as error:
        refuse(error)
    # Nothing is connected before the worker says that there is a broker, and the topics.
    if not sys.stdin.buffer.readline():
        sys.exit(0)
    app.finalize()
    freeze_collector()
    worker = Worker(app, loglevel=settings.stream.log_level, quiet=True, override_logging=False)
    worker.drain_timeout = settings.stream.drain_timeout
    worker.execute_from_commandline()


def _check_extension() -> None:
    try:
        import faust._cython.streams  # noqa: F401
    except ImportError as error:
        raise TierstreamError(
            "Faust's compiled stream iterator is missing, and without it events are acknowledged differently",
            "install faust-streaming from its wheel and leave NO_CYTHON unset",
        ) from error


if __name__ == "__main__":
    main()
