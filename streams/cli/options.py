"""Options that commands share, and what they make of them: settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from schemas.config import load
from schemas.errors import SettingsError

_PORT = click.IntRange(0, 65535)

_OPTIONS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "kafka.bootstrap_servers": click.option(
        "--bootstrap-servers", "kafka__bootstrap_servers", metavar="HOST:PORT", help="The broker to use."
    ),
    "data_dir": click.option("--data-dir", "data_dir", metavar="DIR", help="Folder of everything that is written."),
    "web.port": click.option("--web-port", "web__port", type=_PORT, help="Port of the web server; 0 picks a free one."),
    "broker.port": click.option(
        "--broker-port", "broker__port", type=_PORT, help="Port of the embedded broker; 0 picks a free one."
    ),
    "serving.port": click.option("--port", "serving__port", type=_PORT, help="Port to listen on; 0 picks a free one."),
    "broker.kind": click.option(
        "--broker", "broker__kind", type=click.Choice(["auto", "kafka", "lite"]), help="Which broker to embed."
    ),
}


def settings_options(*extra: str, broker: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--config`, `--data-dir` and others, and as its first argument the `LoadedSettings`.

    Args:
        extra: dotted keys of further settings with a flag, such as `web.port`.
        broker: whether the command talks to a broker that `--bootstrap-servers` can name.
    """
    keys = [*(["kafka.bootstrap_servers"] if broker else []), "data_dir", *extra]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapper(config_file: Path | None, **arguments: Any) -> Any:
            overrides = {key: arguments.pop(key.replace(".", "__")) for key in keys}
            loaded = load(config_file, os.environ, overrides)
            _refuse_a_file(loaded.settings.data_dir)
            return command(loaded, **arguments)

        config = click.option("--config", "config_file", metavar="FILE", type=click.Path(path_type=Path), help="TOML.")
        decorated: Callable[..., Any] = wrapper
        for key in reversed(keys):
            decorated = _OPTIONS[key](decorated)
        return config(decorated)

    return decorate


def _refuse_a_file(data_dir: str) -> None:
    if Path(data_dir).is_file():
        raise SettingsError(f"data_dir = {data_dir!r} is a file", "name a folder with --data-dir")


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""Gives a command `--json` as `as_json`."""
