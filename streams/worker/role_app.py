"""The Faust app that each role is: agents and timers that end the process rather than lose what they work on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mode import Service

from schemas.errors import ArchitectureMismatchError, InputError, LogError, VersionError, disk_failure
from schemas.settings import Settings
from streams.agents import Agents
from streams.agents.services import Services
from streams.process import refuse
from streams.topics import Role
from streams.transport import RecordBatch, TransportOptions
from streams.transport.flow import FlowingApp
from streams.worker.watchdog import Watchdog

log = logging.getLogger("tierstream")

EXIT_UNRECOVERABLE = 70
"""Exit status of a role that met what it cannot recover from; nothing that it was working on is acknowledged."""

Body = Callable[[RecordBatch], Awaitable[None]]


REFUSED = (ArchitectureMismatchError, InputError, LogError, VersionError)
"""What somebody has to act on: to start the role again would not help."""


def crash_without_ack(what: str, error: BaseException) -> None:
    """End the process at once: Faust would acknowledge the event and go on without it."""
    if isinstance(error, REFUSED):
        refuse(error)
    disk = disk_failure(error)
    reason = f": {disk}" if disk else ""
    log.critical(
        "%s failed, nothing of it is acknowledged; the supervisor restarts this role%s",
        what,
        reason,
        exc_info=None if disk else error,
    )
    logging.shutdown()
    os._exit(EXIT_UNRECOVERABLE)


class TierstreamApp(FlowingApp):
    """A role's Faust app, with our publisher and web server among its services."""

    settings: Settings
    role: Role
    services: Services
    transport_options: TransportOptions
    agents_of_ours: Agents
    watchdog: Watchdog
    stream_web: Service

    def on_init_dependencies(self) -> Iterable[Any]:
        """Start the publisher before, and the web server beside, Faust's own services."""
        return [self.services.publisher, self.stream_web, *super().on_init_dependencies()]

    def agent_on(self, *topics: str, name: str, body: Body, at_once: int = 1) -> None:
        """Run `body` for every record batch of `topics`.

        Args:
            topics: names without the prefix.
            name: of the agent.
            body: decides and performs; a body that runs more than once at a time keeps each partition in order itself.
            at_once: how many batches are worked on side by side; those of one partition only where the transport's
                options say so, and then they begin in order.
        """
        names = [self.settings.topic(topic) for topic in topics]
        channel = self.topic(
            *names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
        )

        async def run(stream: Any) -> None:
            async for batch in stream:
                try:
                    await body(batch)
                except asyncio.CancelledError:
                    self.consumer.nack(batch)
                    raise
                except Exception as error:  # noqa: BLE001 - whatever escapes would be acknowledged
                    crash_without_ack(f"{name} on {batch.topic}[{batch.partition}]", error)

        run.__module__ = "streams.topology"
        self.agent(channel, name=name, concurrency=at_once)(run)

    def every(self, seconds: float, name: str, body: Callable[[], Awaitable[None]]) -> None:
        """Run `body` again and again; a failure ends the process, as in an agent."""

        async def run(app: Any) -> None:
            try:
                await body()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - a timer that raises would end the worker without a reason
                crash_without_ack(name, error)

        self.timer(interval=seconds, name=name)(run)
