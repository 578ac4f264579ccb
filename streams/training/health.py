"""`python -m streams.training.health`: exits with 0 where a trainer is taking jobs, else with 1 and one line.

A trainer has no web server. What tells that it lives is the broker: a trainer that hangs sends no heartbeats, and is
no member of the trainers' group once `kafka.session_timeout` has passed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from schemas.config import load
from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.kafka.lag import group_members, trainer_group


async def count_trainers(settings: Settings) -> int:
    """Return how many trainers the broker counts as members of their group.

    Raises:
        ConnectionFailedError: the broker cannot be reached.
    """
    return (await group_members(settings)).get(trainer_group(settings), 0)


def main(environ: Mapping[str, str]) -> int:
    """Check, say so, and return the exit status."""
    try:
        trainers = asyncio.run(count_trainers(load(None, environ, {}).settings))
    except TierstreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"trainers: {trainers}")
    return 0 if trainers else 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
