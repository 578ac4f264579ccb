"""Publishing every change of a version in use to `model-versions`, also where a process died in between.

The registry's history is the truth. A file beside it tells how many of its changes are on the topic, so that whoever
comes next (a trainer or worker that starts, a command) publishes what is left, in order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from filelock import AsyncFileLock

from schemas.errors import TierstreamError
from schemas.events import ModelVersion
from schemas.settings import Settings
from schemas.versions import TIERS
from streams import topics
from streams.client import Producer
from trainers.files import write_atomically
from trainers.versions import VersionStore

PUBLISHED = "published"
"""Count of changes that the broker has, in `models/<line>`."""

Send = Callable[[ModelVersion], Awaitable[None]]
"""Publishes an event to `model-versions` and waits until the broker has it."""


async def publish_changes(data_dir: Path | str, send: Send) -> list[ModelVersion]:
    """Publish what the topic does not have yet, of every line; nobody else does so meanwhile.

    Returns:
        What was published. After a crash between the broker and the count, an event comes a second time.

    Raises:
        VersionError: the registry cannot be read.
        ConnectionFailedError: the broker did not take an event; it stays to be published.
    """
    store, done = VersionStore(data_dir), []
    for line in TIERS:
        if not store.in_use(line).history:
            continue
        folder = Path(data_dir) / "models" / line
        async with AsyncFileLock(folder / f".{PUBLISHED}.lock"):
            history, count = store.in_use(line).history, published(folder)
            for number, selection in enumerate(history[count:], start=count + 1):
                event = store.event(selection)
                await send(event)
                write_atomically(folder / PUBLISHED, b"%d\n" % number)
                done.append(event)
    return done


async def publish_now(settings: Settings) -> list[ModelVersion]:
    """Publish what the topic does not have yet, with a producer of its own; connects only where there is something.

    Raises:
        VersionError: the registry cannot be read.
        ConnectionFailedError: the broker cannot be reached.
    """
    data_dir, store = Path(settings.data_dir), VersionStore(settings.data_dir)
    if all(published(data_dir / "models" / line) >= len(store.in_use(line).history) for line in TIERS):
        return []
    async with Producer(settings) as producer:

        async def send(event: ModelVersion) -> None:
            await producer.send(topics.MODEL_VERSIONS, event)

        return await publish_changes(data_dir, send)


async def announce(settings: Settings, event: ModelVersion) -> None:
    """Publish a change that stands.

    Raises:
        TierstreamError: it is not published, which the message says with why; the next one to look publishes it.
    """
    try:
        await publish_now(settings)
    except TierstreamError as error:
        raise type(error)(
            f"{event.version} is in use now, but its event is not published yet: {error.message}",
            "the next worker or trainer that starts publishes it, and so does the next change",
        ) from error


def published(folder: Path) -> int:
    """Return how many changes of the line in `folder` the broker has."""
    try:
        return int((folder / PUBLISHED).read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return 0
