"""The Faust app, built from settings in one place."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import faust
from faust.types import TP
from mode.utils.objects import cached_property
from yarl import URL

from schemas.errors import disk_failure
from schemas.settings import Settings
from streams import topology
from streams.agents import Agents, build_agents
from streams.agents.scorer_process import Scorer
from streams.agents.services import Services
from streams.changelog import changelog_reader
from streams.exposition import StateCollector
from streams.kafka_options import client_options, faust_credentials
from streams.metrics import Metrics
from streams.observer import Observer
from streams.publisher import Outgoing, Publisher
from streams.status import status
from streams.tables import ChangelogTable, StateTable
from streams.transport import RecordBatch, TransportOptions
from streams.transport.flow import FlowControl
from streams.watchdog import Watchdog
from streams.web import WebServer

log = logging.getLogger("tierstream")

EXIT_UNMENDABLE = 70
"""Exit status of a worker that met what it cannot mend; nothing that it was working on is acknowledged."""

MAX_FETCH_BYTES = 2 * 1024 * 1024
BUFFERED_BATCHES = 4096
"""Record batches that may wait for an agent: more than the partitions it reads, or a full queue would hold up every
agent. The transport has one batch of each partition under way, some of the scorer's, which is what bounds memory."""

TABLE_WRITE_BUFFER_BYTES = 8 * 1024 * 1024
"""Of one partition of one table; RocksDB's own default is eight times as much."""

TABLES_OF_KEYED_TOPICS = (topology.EXPERIENCES_TABLE, topology.JUDGEMENTS_TABLE, topology.ANSWERS_TABLE)
TABLES_OF_ONE_PARTITION = (topology.DPO_EXAMPLES_TABLE, topology.SFT_EXAMPLES_TABLE)

FOLLOW_SECONDS = 1.0
"""How often the scorer's owner looks whether another version was put into use, or learning goes on after a pause."""

TAKE_OVER_SECONDS = 0.5
"""How often a worker looks whether the scorer has become its own."""

Body = Callable[[RecordBatch], Awaitable[None]]


def end_unacknowledged(what: str, error: BaseException) -> None:
    """End the process at once: Faust would acknowledge the event and go on without it."""
    disk = disk_failure(error)
    reason = f": {disk}" if disk else ""
    log.critical(
        "%s failed, nothing of it is acknowledged; the supervisor restarts this worker%s",
        what,
        reason,
        exc_info=None if disk else error,
    )
    logging.shutdown()
    os._exit(EXIT_UNMENDABLE)


class TierstreamApp(faust.App):  # type: ignore[misc]
    """A Faust app with our publisher and web server among its services."""

    settings: Settings
    services: Services
    transport_options: TransportOptions
    agents_of_ours: Agents
    watchdog: Watchdog
    stream_web: WebServer
    observer: Observer

    def on_init_dependencies(self) -> Iterable[Any]:
        """Start the publisher before, and the web server beside, Faust's own services."""
        return [self.services.publisher, self.stream_web, self.observer, *super().on_init_dependencies()]

    @cached_property  # type: ignore[untyped-decorator]
    def flow_control(self) -> FlowControl:
        """Ours in place of Faust's."""
        return FlowControl(loop=self.loop)

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
                    self.consumer.refuse(batch)
                    raise
                except Exception as error:  # noqa: BLE001 - whatever escapes would be acknowledged
                    end_unacknowledged(f"{name} on {batch.topic}[{batch.partition}]", error)

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
                end_unacknowledged(name, error)

        self.timer(interval=seconds, name=name)(run)


def build_app(settings: Settings, metrics: Metrics | None = None, scorer: Scorer | None = None) -> TierstreamApp:
    """Build the app: transport, tables, agents, timers and web server.

    Args:
        settings: as they were loaded.
        metrics: of this process, where something counts in them already.
        scorer: in a process of its own, as the worker has it; by default in this one.

    Raises:
        TierstreamError: the checkpoint is of another architecture than the settings.
    """
    app = TierstreamApp(settings.group_id, **_configuration(settings))
    app.settings = settings
    app.services = Services(
        settings=settings,
        publisher=Publisher(client_options(settings)),
        tables=_tables(app, settings),
        metrics=metrics or Metrics(),
    )
    agents = app.agents_of_ours = build_agents(app.services, scorer)
    agents.scorer.check_architecture()
    entries = TP(settings.topic(topology.SCORER_ENTRIES), 0)

    async def start_offset(tp: TP) -> int | None:
        return await agents.scorer.start_offset() if tp == entries else None

    app.transport_options = TransportOptions(
        batch_topics=topology.batch_topics(settings),
        batch_records=settings.stream.batch_records,
        under_way={entries.topic: topology.AT_ONCE},
        fetch_max_wait_ms=int(settings.kafka.fetch_max_wait * 1000),
        durable_through=lambda tp: agents.scorer.durable_through() if tp == entries else None,
        start_offset=start_offset,
        on_deleted=lambda tp, count: app.services.metrics.count(
            tp.topic.removeprefix(settings.topics.prefix), {"deleted_unread": count}
        ),
    )
    app.watchdog = Watchdog(app, settings.stream.stall_timeout)
    app.observer = Observer(settings)
    app.stream_web = WebServer(app, settings.web)
    app.services.metrics.registry.register(StateCollector(lambda: status(app)))
    topology.connect(app, agents)
    _keep_time(app, agents)
    return app


def _configuration(settings: Settings) -> dict[str, Any]:
    stream = settings.stream
    state_dir = Path(settings.state_dir or Path(settings.data_dir) / "state")
    return {
        "broker": [URL(f"kafkabatch://{server}") for server in settings.kafka.bootstrap_servers.split(",")],
        "broker_credentials": faust_credentials(settings),
        "broker_session_timeout": settings.kafka.session_timeout,
        "broker_heartbeat_interval": settings.kafka.session_timeout / 4,
        "store": f"{stream.table_store}://",
        "Table": ChangelogTable,
        "datadir": state_dir,
        "topic_partitions": settings.topics.partitions,
        "topic_replication_factor": settings.topics.replication_factor,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "table_standby_replicas": stream.table_standby_replicas,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": MAX_FETCH_BYTES,
        "stream_buffer_maxsize": BUFFERED_BATCHES,
        "stream_wait_empty": True,
        "web_enabled": False,
        "web_tables_enabled": False,
        "worker_redirect_stdouts": False,
    }


def _tables(app: TierstreamApp, settings: Settings) -> dict[str, StateTable]:
    partitions = dict.fromkeys(TABLES_OF_KEYED_TOPICS, settings.topics.partitions)
    partitions |= dict.fromkeys(TABLES_OF_ONE_PARTITION, 1)
    tables = {}
    for name, count in partitions.items():
        options = {
            "block_cache_size": settings.stream.table_cache_mib * 1024 * 1024,
            "write_buffer_size": TABLE_WRITE_BUFFER_BYTES,
        }
        table = app.Table(
            name,
            key_type=bytes,
            value_type=bytes,
            partitions=count,
            options=options if settings.stream.table_store == "rocksdb" else None,
        )
        tables[name] = StateTable(table, changelog_reader(settings))
    return tables


def _keep_time(app: TierstreamApp, agents: Agents) -> None:
    settings = app.settings
    ticks, entries = settings.topic(topology.TICKS), TP(settings.topic(topology.SCORER_ENTRIES), 0)

    async def tick() -> None:
        mine = sorted(tp.partition for tp in app.consumer.assignment() if tp.topic == ticks)
        if not app.rebalancing:
            await app.services.publisher.publish([Outgoing(ticks, partition, None, b"{}") for partition in mine])

    async def give_up_partitions(app: Any, revoked: set[TP], **signal: Any) -> None:
        await agents.scorer.checkpoint()
        agents.forget()

    async def save(app: Any, **signal: Any) -> None:
        await agents.scorer.checkpoint()

    app.every(settings.join.tick_interval, "send-ticks", tick)

    async def own_scorer() -> None:
        mine = not app.rebalancing and TP(settings.topic(topology.SCORER_ENTRIES), 0) in app.consumer.assignment()
        await agents.scorer.take_over_when_assigned(mine)

    app.every(TAKE_OVER_SECONDS, "own-scorer", own_scorer)

    async def follow_version() -> None:
        offset = await agents.scorer.follow()
        if offset is not None:
            await app.consumer.seek_wait({entries: offset})

    app.every(FOLLOW_SECONDS, "follow-version", follow_version)
    app.every(settings.scorer.checkpoint_idle / 2, "checkpoint-when-idle", agents.scorer.checkpoint_when_idle)
    app.every(app.watchdog.interval, "watch-progress", app.watchdog.run)
    app.on_partitions_revoked.connect(give_up_partitions, weak=False)
    app.on_before_shutdown.connect(save, weak=False)
