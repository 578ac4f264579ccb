"""A trainer process for tests: settings and the job's program as arguments, killed from outside."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from schemas.events import JobTier
from schemas.settings import Settings
from streams.training.service import work

settings = Settings.model_validate_json(sys.argv[1])
program = sys.argv[2]


def command(tier: JobTier, folder: Path) -> list[str]:
    return [sys.executable, "-c", program, str(folder)]


asyncio.run(work(settings, command))
