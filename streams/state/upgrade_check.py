"""Whether a deployment is of the release before this one, to be taken over by `tierstream upgrade` first. No torch."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import StateError
from schemas.settings import Settings
from streams import topics
from streams.kafka.admin import topic_states
from streams.topics import TopicSpec
from trainers.scorer.reading import checkpoints_of_before, newest_first

ENTRIES = "scorer-entries"
"""The topic that `scorer-log` replaces."""
UNFINISHED = "upgrade-unfinished"
"""File of the scorer's folder: a worker that started on half a log would learn without the other half."""


async def has_log(settings: Settings) -> bool:
    """Whether `scorer-log` is there.

    Raises:
        ConnectionFailedError: the broker cannot be reached.
    """
    [state] = await topic_states(settings, [TopicSpec(settings.topic(topics.SCORER_LOG), 1)])
    return state.condition != "missing"


def is_of_before(settings: Settings) -> bool:
    """Whether the data directory holds a scorer of the release before, or an upgrade that did not end."""
    folder = Path(settings.data_dir) / "scorer"
    old = checkpoints_of_before(folder / "checkpoints")
    return (folder / UNFINISHED).exists() or bool(old and not newest_first(folder / "checkpoints"))


async def refuse_of_before(settings: Settings) -> None:
    """See that the topics are not those of the release before, still to be taken over.

    Raises:
        StateError: they are; names the command.
        ConnectionFailedError: the broker cannot be reached.
    """
    old, new = await topic_states(settings, [TopicSpec(settings.topic(n), 1) for n in (ENTRIES, topics.SCORER_LOG)])
    if is_of_before(settings) or (old.condition != "missing" and new.condition == "missing"):
        raise StateError(
            "this deployment was written by the release before this one",
            "stop its workers and run `tierstream upgrade`, which takes it over",
        )
