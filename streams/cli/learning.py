"""The pause switch of `tierstream train`."""

from __future__ import annotations

import click

from schemas.errors import TierstreamError
from schemas.settings import Settings
from trainers.scorer.pause import LearningPause


def switch_learning(settings: Settings, *, pause: bool) -> None:
    """Pause the scorer's learning, or let it go on, and say so.

    Raises:
        TierstreamError: the data directory cannot be written.
    """
    switch = LearningPause(settings.data_dir)
    try:
        changed = switch.pause() if pause else switch.resume()
    except OSError as error:
        raise TierstreamError(
            f"the data directory {settings.data_dir} cannot be written: {error.strerror}", "mend its permissions"
        ) from error
    if pause:
        words = "feedback waits in the stream, experiences are scored: tierstream train --resume lets it go on"
        click.echo(f"learning is {'' if changed else 'already '}paused; {words}")
    else:
        click.echo("learning goes on, with the feedback that came meanwhile" if changed else "learning was not paused")
