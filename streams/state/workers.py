"""Where the workers of a deployment answer: each says so in the data directory, however its port was chosen."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.settings import Settings, WebSettings
from trainers.files import write_atomically

RUNNING = "run"
"""Folder of the data directory."""


def url_here(web: WebSettings, port: int) -> str:
    """Return where a worker on this machine answers."""
    host = "127.0.0.1" if web.host in ("0.0.0.0", "::") else web.host
    return f"http://{host}:{port}"


@contextlib.contextmanager
def announce(settings: Settings, roles: Sequence[str], port: int) -> Iterator[None]:
    """Say where this worker answers, as long as it runs."""
    about = {
        "url": url_here(settings.web, port),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "roles": list(roles),
    }
    path = Path(settings.data_dir) / RUNNING / f"{about['host']}-{about['pid']}.json"
    write_atomically(path, json.dumps(about).encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def announced(settings: Settings) -> list[str]:
    """Return the addresses of workers that say they run; those of this machine that were killed go."""
    urls = []
    for path in sorted((Path(settings.data_dir) / RUNNING).glob("*.json")):
        try:
            about = json.loads(path.read_bytes())
            url, host, pid = str(about["url"]), about["host"], int(about["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if host == socket.gethostname() and not _is_alive(pid):
            path.unlink(missing_ok=True)
            continue
        urls.append(url)
    return urls


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
