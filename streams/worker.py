"""`tierstream worker`: prepares the broker, then runs the Faust worker, which owns the process from there on."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import threading
from pathlib import Path

import faust
import mode.loop

from schemas.errors import TierstreamError
from schemas.settings import Settings

log = logging.getLogger("tierstream")

EXIT_DRAIN_TIMEOUT = 71
"""Exit status of a worker that did not stop in time; what it had not acknowledged is delivered again."""


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


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; ends the process.

    Raises:
        TierstreamError: the broker, the topics, the data directory or the checkpoint do not allow a start.
    """
    mode.loop.use("uvloop")
    from streams import topology
    from streams.admin import check_cluster, ensure_topics
    from streams.agents.scorer_process import ScorerProcess
    from streams.app import build_app
    from streams.legacy import import_legacy_traces
    from streams.manifest import check_state, state_folder
    from streams.metrics import Metrics
    from streams.model_versions import publish_now
    from streams.process import freeze_collector, limit_arenas, log_to_stderr

    faulthandler.enable()
    limit_arenas()
    log_to_stderr(settings)
    _check_extension()
    make_data_dir(settings)
    # Before anything is made on the broker under a prefix that may be a mistake.
    check_state(settings, local=True)

    async def prepare() -> None:
        await ensure_topics(settings, topology.topic_specs(settings))
        await check_cluster(settings, state_folder(settings))
        await import_legacy_traces(settings)
        await publish_now(settings)

    metrics = Metrics()
    # Before the broker is prepared, as both take seconds.
    scorer = ScorerProcess(settings, metrics)
    asyncio.run(prepare())
    app = build_app(settings, metrics, scorer)
    app.finalize()
    freeze_collector()
    worker = Worker(app, loglevel=settings.stream.log_level, quiet=True, override_logging=False)
    worker.drain_timeout = settings.stream.drain_timeout
    worker.execute_from_commandline()


def make_data_dir(settings: Settings) -> Path:
    """Make the data directory and see that it can be written.

    Raises:
        TierstreamError: it cannot.
    """
    folder = Path(settings.data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TierstreamError(
            f"the data directory {folder} cannot be written: {error.strerror}",
            "give another with --data-dir, or mend its permissions",
        ) from error
    return folder


def _check_extension() -> None:
    try:
        import faust._cython.streams  # noqa: F401
    except ImportError as error:
        raise TierstreamError(
            "Faust's compiled stream iterator is missing, and without it events are acknowledged differently",
            "install faust-streaming from its wheel and leave NO_CYTHON unset",
        ) from error
