"""The command line: one module a group of commands; `main` is the entry point `tierstream`."""

from __future__ import annotations

from streams.cli.main import main

__all__ = ["main"]
