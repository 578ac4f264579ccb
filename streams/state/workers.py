"""Where the workers of a deployment answer, and what each said last: told in the data directory that they share."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from schemas.settings import Settings, WebSettings
from trainers.files import write_atomically

RUNNING = "run"
"""Folder of the data directory."""
FORGOTTEN_SECONDS = 86_400.0
"""A worker of another machine that has said nothing for so long has gone."""


def url_here(web: WebSettings, port: int) -> str:
    """Return where a worker on this machine answers."""
    host = "127.0.0.1" if web.host in ("0.0.0.0", "::") else web.host
    return f"http://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Announced:
    """A worker as it says itself that it runs."""

    url: str
    host: str
    pid: int
    roles: tuple[str, ...]
    at: float = 0.0
    """When it said so last, in epoch seconds."""
    account: Mapping[str, Any] = field(default_factory=dict)
    """What it said of itself then: its `/status`, without what it sees of the whole deployment."""


class Announcement:
    """Says where this worker answers, as long as it runs; a context manager."""

    def __init__(self, settings: Settings, roles: Sequence[str], port: int) -> None:
        self._host, self._pid = socket.gethostname(), os.getpid()
        where = {"url": url_here(settings.web, port), "host": self._host, "pid": self._pid}
        self._about = {**where, "roles": list(roles)}
        self._path = Path(settings.data_dir) / RUNNING / f"{self._host}-{self._pid}.json"

    def __enter__(self) -> Self:
        self.tell({})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)

    def tell(self, account: Mapping[str, Any]) -> None:
        """Say what this worker is at, for those who cannot ask it.

        Raises:
            OSError: the data directory cannot be written.
        """
        write_atomically(self._path, orjson.dumps({**self._about, "at": time.time(), "account": account}))

    def is_of(self, worker: Announced) -> bool:
        """Whether it is this worker's."""
        return (worker.host, worker.pid) == (self._host, self._pid)


def announced(settings: Settings) -> list[Announced]:
    """Return the workers that say they run, always in the same order; those that were killed or left are forgotten."""
    found = []
    for path in sorted((Path(settings.data_dir) / RUNNING).glob("*.json")):
        try:
            about = json.loads(path.read_bytes())
            pid, at = int(about["pid"]), float(about.get("at") or path.stat().st_mtime)
            url, host, roles = str(about["url"]), str(about["host"]), tuple(about["roles"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        here = host == socket.gethostname()
        if (here and not _is_alive(pid)) or time.time() - at > FORGOTTEN_SECONDS:
            path.unlink(missing_ok=True)
            continue
        url = url if here else url.replace("//127.0.0.1:", f"//{host}:")
        found.append(Announced(url, host, pid, roles, at, about.get("account") or {}))
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
