"""`python -m streams.cli` is `tierstream`."""

from __future__ import annotations

from streams.cli.main import main

main()
