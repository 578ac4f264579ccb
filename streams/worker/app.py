"""A role's Faust app, built from settings in one place."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faust.types import TP
from yarl import URL

from schemas.records import TICK
from schemas.settings import Settings
from streams import topics, topology
from streams.agents import Agents, build_agents
from streams.agents.services import Services
from streams.kafka.options import client_options, faust_credentials
from streams.kafka.publisher import Outgoing, Publisher
from streams.metrics import Metrics
from streams.state.changelog import changelog_reader
from streams.state.tables import ChangelogTable, StateTable
from streams.topics import Role
from streams.transport import TransportOptions
from streams.worker.exposition import StateCollector, role_families
from streams.worker.role_app import REFUSED, TierstreamApp, crash_without_ack
from streams.worker.role_web import RoleWeb
from streams.worker.status import not_ready, status
from streams.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from streams.agents.scorer import ScorerAgent

MAX_FETCH_BYTES = 2 * 1024 * 1024
GATHER_MS, GATHER_BYTES = 500, 1024 * 1024
"""Pairs and traces are fetched when there are so many bytes of them, and after so long at the latest."""
BUFFERED_BATCHES = 4096
"""Record batches that may wait for an agent: more than the partitions it reads, or a full queue would hold up every
agent. The transport has one batch of each partition under way, some of the scorer's, which is what bounds memory."""

TABLE_WRITE_BUFFER_BYTES = 8 * 1024 * 1024
"""Of one partition of one table; RocksDB's own default is eight times as much."""

STANDBY_SECONDS = 0.5
"""How often a scorer that stands by looks what has been published."""

FOLLOW_SECONDS = 1.0
"""How often the active scorer looks whether another version was put into use, or learning goes on after a pause."""


def build_app(
    settings: Settings, role: Role, metrics: Metrics | None = None, listener: socket.socket | None = None
) -> TierstreamApp:
    """Build a role's app: transport, tables, agents, timers and web server.

    Args:
        settings: as they were loaded.
        role: whose.
        metrics: of this process, where something counts in them already.
        listener: what the web server accepts connections on; without one it serves nothing.

    Raises:
        TierstreamError: the checkpoint is of another architecture than the settings.
    """
    app = TierstreamApp(topics.group(settings, role), **_configuration(settings))
    app.settings, app.role = settings, role
    app.services = Services(
        settings=settings,
        publisher=Publisher(client_options(settings)),
        tables=_tables(app, settings),
        metrics=metrics or Metrics(),
    )
    agents = app.agents_of_ours = build_agents(role, app.services)
    app.transport_options = TransportOptions(
        batch_topics=topics.batch_topics(settings, role),
        batch_records=settings.stream.batch_records,
        **_fetching(settings, role),
        on_deleted=lambda tp, count: app.services.metrics.count(
            tp.topic.removeprefix(settings.topics.prefix), {"deleted_unread": count}
        ),
        on_expelled=lambda error: crash_without_ack(
            f"joining group {app.conf.id}, which may have a member that is not of this program,", error
        ),
    )
    app.watchdog = Watchdog(app, settings.stream.stall_timeout)
    if scorer := agents.scorer:
        app.transport_options = _scorer_options(app, scorer)
        app.watchdog = Watchdog(app, settings.stream.stall_timeout, lambda: scorer.records_taken)
    app.stream_web = RoleWeb(app, settings.web, listener)
    app.services.metrics.registry.register(StateCollector(lambda: role_families(status(app))))
    topology.connect(app, agents)
    _keep_time(app, agents)
    return app


def _fetching(settings: Settings, role: Role) -> dict[str, Any]:
    """Return how long the broker may hold a fetch, and for how much: events are wanted at once, pairs may gather."""
    if role == "join":
        return {"fetch_max_wait_ms": int(settings.kafka.fetch_max_wait * 1000)}
    if role == "scorer":  # of one partition, so that no quiet one holds it up
        return {"fetch_max_wait_ms": GATHER_MS}
    return {"fetch_max_wait_ms": GATHER_MS, "client_options": {"fetch_min_bytes": GATHER_BYTES}}


def _scorer_options(app: TierstreamApp, scorer: ScorerAgent) -> TransportOptions:
    """Return the transport's options where the log's partition is read: from where the scorer says, chunks ahead."""

    async def start_offset(tp: TP, committed: int | None) -> int | None:
        try:
            return await scorer.start_offset(committed)
        except REFUSED as error:
            crash_without_ack("becoming active", error)
            raise

    return replace(
        app.transport_options,
        in_flight=dict.fromkeys(app.transport_options.batch_topics, topics.AT_ONCE),
        durable_through=lambda tp: scorer.durable_through(),
        start_offset=start_offset,
    )


def _configuration(settings: Settings) -> dict[str, Any]:
    stream = settings.stream
    state_dir = Path(settings.state_dir or Path(settings.data_dir) / "state")
    return {
        "broker": [URL(f"kafkabatch://{server}") for server in settings.kafka.bootstrap_servers.split(",")],
        "broker_credentials": faust_credentials(settings),
        "broker_session_timeout": settings.kafka.session_timeout,
        "broker_heartbeat_interval": settings.kafka.session_timeout / 4,
        "store": "rocksdb://",
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
    tables = {}
    for name in topics.TABLES[app.role]:
        count = 1 if name in topics.OF_ONE_PARTITION else settings.topics.partitions
        options = {
            "block_cache_size": settings.stream.table_cache_mib * 1024 * 1024,
            "write_buffer_size": TABLE_WRITE_BUFFER_BYTES,
        }
        table = app.Table(
            name,
            key_type=bytes,
            value_type=bytes,
            partitions=count,
            options=options,
        )
        tables[name] = StateTable(table, changelog_reader(settings))
    return tables


def _keep_time(app: TierstreamApp, agents: Agents) -> None:
    async def give_up_partitions(app: Any, revoked: set[TP], **signal: Any) -> None:
        if agents.scorer:
            await agents.scorer.checkpoint()
        agents.forget()

    async def begin_anew(app: Any, **signal: Any) -> None:
        # What was under way as partitions were given up may have read their tables since, before they were recovered.
        agents.forget()
        if agents.pairs:
            name = app.settings.topic(topics.ANSWERS)
            await agents.pairs.load(sorted(tp.partition for tp in app.consumer.assignment() if tp.topic == name))

    app.every(app.watchdog.interval, "watch-progress", app.watchdog.run)
    app.on_partitions_revoked.connect(give_up_partitions, weak=False)
    app.on_rebalance_complete.connect(begin_anew, weak=False)
    interval = app.settings.join.tick_interval
    if agents.join:
        app.every(interval, "send-ticks", lambda: _tick(app, topics.TICKS))
    if pairs := agents.pairs:
        app.every(interval, "send-ticks", lambda: _tick(app, topics.ANSWERS, pairs.is_due))
    if agents.scorer:
        _keep_scorer(app, agents.scorer)


async def _tick(app: TierstreamApp, topic: str, is_due: Callable[[int, float], bool] | None = None) -> None:
    """Let broker time pass on our partitions of a topic: our own clock says when to ask, the broker's what is due."""
    if not_ready(app) is not None:
        return
    name, now = app.settings.topic(topic), time.time()
    mine = sorted(tp.partition for tp in app.consumer.assignment() if tp.topic == name)
    wanted = [partition for partition in mine if is_due is None or is_due(partition, now)]
    await app.services.publisher.publish([Outgoing(name, partition, None, TICK) for partition in wanted])


def _keep_scorer(app: TierstreamApp, scorer: ScorerAgent) -> None:
    async def save(app: Any, **signal: Any) -> None:
        await scorer.checkpoint()

    async def follow() -> None:
        offset = await scorer.follow()
        if offset is not None:
            await app.consumer.seek_wait({TP(app.settings.topic(topics.SCORER_LOG), 0): offset})

    app.every(STANDBY_SECONDS, "stand-by", scorer.stand_by)
    app.every(FOLLOW_SECONDS, "follow-version", follow)
    app.every(app.settings.scorer.checkpoint_idle / 2, "checkpoint-when-idle", scorer.checkpoint_when_idle)
    app.on_before_shutdown.connect(save, weak=False)
