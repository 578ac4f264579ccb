"""The pause switch of `tierstream train`."""

from __future__ import annotations

import asyncio

import click

from schemas.records import Learning
from schemas.settings import Settings
from streams.kafka.admin import partitions_of
from streams.kafka.options import broker_errors, client_options
from streams.kafka.publisher import Publisher
from streams.state.scorer_log import begin_log, publish_control
from streams.topics import SCORER_LOG


def switch_learning(settings: Settings, *, pause: bool) -> None:
    """Write into the scorer's log that learning is paused from there on, or goes on, and say so.

    Raises:
        TopicsError: no worker has made the log yet.
        ConnectionFailedError: the broker cannot be reached.
        PublishError: it did not take the record.
    """
    asyncio.run(_write(settings, Learning(paused=pause)))
    if pause:
        words = "feedback waits in the log, experiences are scored: tierstream train --resume lets it go on"
        click.echo(f"learning is paused; {words}")
    else:
        click.echo("learning goes on, with the feedback that came meanwhile")


async def _write(settings: Settings, control: Learning) -> None:
    await partitions_of(settings, settings.topic(SCORER_LOG))
    await begin_log(settings)
    publisher = Publisher(client_options(settings))
    with broker_errors(settings):
        await publisher.start()
        try:
            await publish_control(settings, publisher, control)
        finally:
            await publisher.stop()
