"""`tierstream worker`: prepares the broker, then runs the Faust worker, which owns the process from there on."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
from pathlib import Path

from schemas.settings import Settings

log = logging.getLogger("tierstream")


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; never returns.

    Raises:
        TierstreamError: the broker, the topics, the data directory or the checkpoint do not allow a start.
    """
    import mode.loop

    mode.loop.use("uvloop")
    import faust._cython.streams  # noqa: F401 - without it Faust acknowledges differently: refuse to start

    from streams import topology
    from streams.admin import ensure_topics
    from streams.app import build_app
    from streams.legacy import import_legacy_traces

    faulthandler.enable()
    logging.basicConfig(
        level=settings.stream.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
    asyncio.run(ensure_topics(settings, topology.topic_specs(settings)))
    asyncio.run(import_legacy_traces(settings))
    app = build_app(settings)
    app.on_before_shutdown.connect(_limit_shutdown(settings.stream.drain_timeout))
    app.finalize()
    worker = app.Worker(loglevel=settings.stream.log_level, quiet=True, daemon=True, override_logging=False)
    worker.execute_from_commandline()
