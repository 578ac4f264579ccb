"""Creating topics with their configs, and seeing that those which are there fit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, TopicAlreadyExistsError, for_code

from schemas.errors import TopicsError
from schemas.settings import Settings
from streams.kafka.options import broker_errors, client_options
from streams.topics import TopicSpec

TopicCondition = Literal["ok", "missing", "wrong partitions", "wrong configs"]
MAX_MESSAGE_BYTES = "max.message.bytes"
REMEDIES: Mapping[TopicCondition, str] = {
    "wrong partitions": "set topics.partitions to what all topics were created with; where some have grown, go on in a "
    "new deployment, which reads the history: see 'Changing topics.partitions' in docs/operations.md",
    "wrong configs": "tierstream topics --apply sets what is needed, or set topics.retention as the topics have it",
}
_SET_FOR_TOPIC = 1
"""Where a config is from, in the protocol: set for this topic."""
_APPEAR_SECONDS = 30.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it should be and as it is."""

    spec: TopicSpec
    partitions: int
    """Partitions on the broker; 0 where the topic is missing."""
    configs: Mapping[str, str] = field(default_factory=dict)
    """Those of the spec as they are in effect; one that the broker does not tell is left out."""

    @property
    def condition(self) -> TopicCondition:
        """Whether the topic can be used."""
        if self.partitions == 0:
            return "missing"
        if self.partitions != self.spec.partitions:
            return "wrong partitions"
        return "wrong configs" if self.unfit else "ok"

    @property
    def unfit(self) -> dict[str, str]:
        """Return the configs in effect that are not as they must be; a higher limit of message sizes is as good."""
        return {
            name: found
            for name, wanted in self.spec.configs.items()
            if (found := self.configs.get(name, wanted)) != wanted
            and not (name == MAX_MESSAGE_BYTES and int(found) > int(wanted))
        }

    @property
    def fault(self) -> str | None:
        """Return in one line why the topic cannot be used; None where it can, or is missing."""
        name = self.spec.name
        if self.condition == "wrong partitions":
            return f"topic {name} has {self.partitions} partitions, {self.spec.partitions} are needed"
        if self.condition == "wrong configs":
            unfit = (f"{key} = {found} ({self.spec.configs[key]} is needed)" for key, found in self.unfit.items())
            return f"topic {name} has {', '.join(unfit)}"
        return None


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


async def partitions_of(settings: Settings, name: str) -> int:
    """Return how many partitions a topic has, by its name on the broker.

    Raises:
        TopicsError: it is not there.
        ConnectionFailedError: the broker cannot be reached.
    """
    [state] = await topic_states(settings, [TopicSpec(name, partitions=1)])
    if state.condition == "missing":
        remedy = "look at topics.prefix and --bootstrap-servers, or create it: tierstream topics --create"
        raise TopicsError(f"topic {name} is not there", remedy)
    return state.partitions


async def ensure_topics(settings: Settings, specs: Iterable[TopicSpec]) -> list[TopicState]:
    """Create the topics that are missing and see that the others have the right partitions and configs.

    Returns:
        The topics as they were before.

    Raises:
        TopicsError: a topic has other partitions or configs than it must have, or cannot be created.
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


async def apply_configs(settings: Settings, specs: Iterable[TopicSpec]) -> list[TopicState]:
    """Give topics the configs that they must have, and leave their other ones.

    Returns:
        The topics that had other configs, as they were before.

    Raises:
        TopicsError: the broker does not take them.
        ConnectionFailedError: the broker cannot be reached.
    """
    async with admin_client(settings) as client:
        unfit = [state for state in await _states(client, specs) if state.partitions and state.unfit]
        if unfit:
            described = await _described(client, [state.spec.name for state in unfit])
            # The request replaces whatever was set for a topic before.
            wanted = {
                state.spec.name: {
                    **{name: value for name, (value, own) in described[state.spec.name].items() if own},
                    **state.spec.configs,
                }
                for state in unfit
            }
            resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs) for name, configs in wanted.items()]
            for response in await client.alter_configs(resources):
                for code, message, _, name in response.resources:
                    if code:
                        reason = message or for_code(code).__name__
                        raise TopicsError(f"topic {name} cannot be changed: {reason}", "look at the broker's rights")
            await _agreed(client, [state.spec for state in unfit])
        return unfit


def refuse_unfit(states: Iterable[TopicState]) -> None:
    """Refuse topics with other partitions or configs than they must have.

    Raises:
        TopicsError: with the first of them.
    """
    for state in states:
        if state.fault is not None:
            raise TopicsError(state.fault, REMEDIES[state.condition])


async def _states(client: AIOKafkaAdminClient, specs: Iterable[TopicSpec]) -> list[TopicState]:
    there = await _partition_counts(client)
    specs = list(specs)
    described = await _described(client, [spec.name for spec in specs if spec.configs and spec.name in there])
    return [
        TopicState(
            spec,
            there.get(spec.name, 0),
            {key: value for key, (value, _) in described.get(spec.name, {}).items() if key in spec.configs},
        )
        for spec in specs
    ]


async def _described(client: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, dict[str, tuple[str, bool]]]:
    """Return each topic's configs and whether they are set for it; none where the broker does not tell."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    try:
        responses = await client.describe_configs(resources)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {}
    return {
        name: {key: (value or "", source == _SET_FOR_TOPIC) for key, value, _, source, *_ in entries}
        for response in responses
        for code, _, _, name, entries in response.resources
        if code == 0
    }


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
    """Wait until the broker's metadata shows new topics: a client that asks earlier learns of none."""
    return await _until(
        client, specs, lambda state: state.condition == "missing", "does not appear after it was created"
    )


async def _agreed(client: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[TopicState]:
    return await _until(client, specs, lambda state: bool(state.unfit), "keeps its configs after they were changed")


async def _until(
    client: AIOKafkaAdminClient, specs: list[TopicSpec], is_behind: Callable[[TopicState], bool], fault: str
) -> list[TopicState]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _APPEAR_SECONDS
    while True:
        states = await _states(client, specs)
        behind = [state.spec.name for state in states if is_behind(state)]
        if not behind:
            return states
        if loop.time() > deadline:
            raise TopicsError(f"topic {behind[0]} {fault}", "look at the broker's log")
        await asyncio.sleep(_POLL_SECONDS)
