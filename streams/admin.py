"""Creating topics with their configs, and seeing that those which are there fit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from schemas.errors import TopicsError
from schemas.settings import Settings
from streams.kafka_options import broker_errors, client_options
from streams.topology import TopicSpec
from trainers.files import write_atomically

TopicCondition = Literal["ok", "missing", "wrong partitions"]
CLUSTER_NAME = "cluster-id"
"""File of the data directory that names the cluster that its offsets are of."""

_APPEAR_SECONDS = 30.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it should be and as it is."""

    spec: TopicSpec
    partitions: int
    """Partitions on the broker; 0 where the topic is missing."""

    @property
    def condition(self) -> TopicCondition:
        """Whether the topic can be used."""
        if self.partitions == 0:
            return "missing"
        return "ok" if self.partitions == self.spec.partitions else "wrong partitions"


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client; what goes wrong with the broker comes out as `ConnectionFailedError`."""
    client = AIOKafkaAdminClient(**client_options(settings))
    with broker_errors(settings):
        try:
            await client.start()
            yield client
        finally:
            await client.close()


async def topic_states(settings: Settings, specs: Iterable[TopicSpec]) -> list[TopicState]:
    """Return each topic with its partitions on the broker.

    Raises:
        ConnectionFailedError: the broker cannot be reached.
    """
    async with admin_client(settings) as client:
        return await _states(client, specs)


async def ensure_topics(settings: Settings, specs: Iterable[TopicSpec]) -> list[TopicState]:
    """Create the topics that are missing and see that the others have the right partitions.

    Returns:
        The topics as they were before.

    Raises:
        TopicsError: a topic has other partitions than the settings say, or cannot be created.
        ConnectionFailedError: the broker cannot be reached.
    """
    async with admin_client(settings) as client:
        before = await _states(client, specs)
        refuse_unfit(before)
        missing = [state.spec for state in before if state.condition == "missing"]
        if missing:
            await _create(client, missing, settings.topics.replication_factor)
            refuse_unfit(await _appeared(client, missing))
        return before


async def check_cluster(settings: Settings, *further: Path) -> None:
    """See that the data directory belongs to this cluster; the first use records which one it is.

    Checkpoints hold offsets, and those of another cluster's topics would skip or repeat events.

    Args:
        settings: all settings.
        further: folders of local state, of which the same holds.

    Raises:
        TopicsError: a folder was used with another cluster.
        ConnectionFailedError: the broker cannot be reached.
    """
    async with admin_client(settings) as client:
        cluster_id = str((await client.describe_cluster())["cluster_id"])
    for folder in (Path(settings.data_dir), *further):
        path = folder / CLUSTER_NAME
        recorded = path.read_text("utf-8") if path.exists() else cluster_id
        if recorded != cluster_id:
            raise TopicsError(
                f"directory {folder} belongs to cluster {recorded}, and the broker is {cluster_id}",
                "name that cluster's broker with --bootstrap-servers, or another folder with --data-dir and state_dir",
            )
        if not path.exists():
            write_atomically(path, cluster_id.encode())


def refuse_unfit(states: Iterable[TopicState]) -> None:
    """Refuse topics with other partitions than the settings say.

    Raises:
        TopicsError: with the first of them.
    """
    for state in states:
        if state.condition == "wrong partitions":
            raise TopicsError(
                f"topic {state.spec.name} has {state.partitions} partitions, {state.spec.partitions} are needed",
                "set topics.partitions to what the topics were created with, or another topics.prefix",
            )


async def _states(client: AIOKafkaAdminClient, specs: Iterable[TopicSpec]) -> list[TopicState]:
    there = await _partition_counts(client)
    return [TopicState(spec, there.get(spec.name, 0)) for spec in specs]


async def _partition_counts(client: AIOKafkaAdminClient) -> Mapping[str, int]:
    described: list[dict[str, Any]] = await client.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


async def _create(client: AIOKafkaAdminClient, specs: list[TopicSpec], replication_factor: int) -> None:
    new = [NewTopic(s.name, s.partitions, replication_factor, topic_configs=dict(s.configs)) for s in specs]
    response = await client.create_topics(new)
    for name, code, *rest in response.topic_errors:
        # Another process that starts at the same time may have been first.
        if code not in (0, TopicAlreadyExistsError.errno):
            reason = (rest[0] if rest else None) or for_code(code).__name__
            raise TopicsError(
                f"topic {name} cannot be created: {reason}", "look at topics.replication_factor and the broker's rights"
            )


async def _appeared(client: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[TopicState]:
    """Wait until the broker's metadata shows new topics: a client that asks earlier is told that there are none."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _APPEAR_SECONDS
    while True:
        states = await _states(client, specs)
        absent = [state.spec.name for state in states if state.condition == "missing"]
        if not absent:
            return states
        if loop.time() > deadline:
            raise TopicsError(f"topic {absent[0]} does not appear after it was created", "look at the broker's log")
        await asyncio.sleep(_POLL_SECONDS)
