"""`tierstream serve` as a process, and what a client of it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

START_SECONDS = 180.0


def ask(url: str, model: str, words: str = "How many lights has the kitchen 0?") -> tuple[str, str]:
    """Return which model answers a question, and how, by greedy decoding."""
    said = post(
        f"{url}/v1/chat/completions",
        {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": 16, "temperature": 0},
    )
    return said["model"], said["choices"][0]["message"]["content"]


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: dict[str, Any] = json.loads(answer.read())
        return content


def status_of(url: str, body: dict[str, Any]) -> tuple[int, str]:
    """Return the status of a request that fails, and what is said."""
    try:
        return 200, json.dumps(post(url, body))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Serve:
    """A running `tierstream serve`; a context manager.

    Args:
        data_dir: the data directory.
        base: the base model's folder.
        port: to listen on; 0 picks a free one.
    """

    def __init__(self, data_dir: Path, base: Path, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "serve", "--data-dir", str(data_dir), "--port", str(port)],
            env={**os.environ, "TIERSTREAM_JOBS__BASE_MODEL": str(base)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.url = self.line("serve: ").removesuffix("/v1")
        self.line("ready")

    def line(self, beginning: str) -> str:
        """Wait for a line that begins so, and return the rest of it."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if line.startswith(beginning):
                return line.removeprefix(beginning).rstrip("\n")
        raise AssertionError(f"it ended with {self.process.wait()}: {''.join(seen)}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def __enter__(self) -> Serve:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
