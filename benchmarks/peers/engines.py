"""The engines that are compared, in groups, and what each guarantees."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from benchmarks.peers.kafka_streams import OUTPUT, find_javac, jars
from schemas.config import load
from schemas.errors import BrokerError
from streams import topics

OURS, UNPAIRED, BARE, FLOOR = "Tierstream", "Tierstream, unpaired", "bare aiokafka", "floor"
FASTSTREAM, QUIX, BYTEWAX = "FastStream", "Quix Streams", "Bytewax"
TWO_HOPS, ACKNOWLEDGED = "bare aiokafka, two hops", "two hops, state acknowledged"
OUR_JOIN, STREAMS, STREAMS_OFTEN = "Tierstream, join alone", "Kafka Streams", "Kafka Streams, commits each 20 ms"


def _nothing() -> None:
    """Most need nothing."""


def _java() -> None:
    find_javac()
    jars(load(None, os.environ, {}).settings)


@dataclass(frozen=True, slots=True)
class Engine:
    """How an engine is started, and what it gives; the figures are to be read with that."""

    module: str | None
    """In this package; None for `tierstream worker`."""
    state: str
    """Where the join's state is."""
    delivery: str
    """When an input counts as done."""
    after_a_crash: str
    """What becomes of learning."""
    pairs: bool = False
    """Whether preference pairs are made beside it."""
    options: tuple[str, ...] = ()
    """Further arguments of its command."""
    output: str = topics.SCORE_UPDATES
    """Topic of what comes of feedback, without prefix."""
    need: Callable[[], None] = _nothing
    """Raises `BrokerError` where the machine lacks what it needs."""

    @property
    def missing(self) -> str | None:
        """What the machine lacks to run it, in words."""
        try:
            self.need()
        except BrokerError as error:
            return str(error)
        return None


@dataclass(frozen=True, slots=True)
class Group:
    """Engines that are measured beside each other, and whose ratios are taken."""

    title: str
    ours: tuple[str, ...]
    peers: tuple[str, ...]
    """Those that do the same work, as their users would write it."""
    others: tuple[str, ...] = ()
    """For reference."""
    killed: bool = False
    """Whether they claim to survive a SIGKILL, and so get some."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the table's order."""
        return (*self.ours, *self.peers, *self.others)


_IN_MEMORY, _LOST = "memory", "starts anew: join state and weights are lost"
_AT_LEAST_ONCE = "at least once: outputs are awaited, then offsets committed"
_CHANGELOG = (
    "a local RocksDB, made anew at each start of a changelog that is acknowledged after outputs, before offsets"
)
_CHECKPOINT = "goes on from its checkpoint of every 50 steps: what was learned since is gone, or learned again"
_STREAMS = Engine(
    "kafka_streams",
    "a local RocksDB with a changelog in the same transaction as outputs and offsets",
    "exactly once: in a transaction every 100 ms; latency is that of a reader of what is committed",
    "does not learn",
    options=("100",),
    output=OUTPUT,
    need=_java,
)


def _learner(name: str, option: str, what: str) -> dict[str, Engine]:
    title = f"{FASTSTREAM} with {name}"
    return {title: Engine("faststream_batch", _IN_MEMORY, _AT_LEAST_ONCE, f"{_LOST} ({what})", options=(option,))}


_MEMORY = {
    BARE: Engine("bare", _IN_MEMORY, _AT_LEAST_ONCE, _LOST),
    FASTSTREAM: Engine("faststream_batch", _IN_MEMORY, _AT_LEAST_ONCE, _LOST),
    QUIX: Engine("quix", _IN_MEMORY, "at least once: outputs are flushed, then offsets committed", _LOST),
    BYTEWAX: Engine(
        "bytewax_flow", _IN_MEMORY, "at least once: outputs are flushed, offsets kept once a second", _LOST
    ),
}
_STATES = {
    BARE: _CHANGELOG,
    FASTSTREAM: _CHANGELOG,
    QUIX: "its own: a local RocksDB with a changelog, flushed before offsets are committed",
    BYTEWAX: "its own: a stateful operator, in its recovery store (SQLite) once a second, with the offsets",
}
_DURABLE = {
    f"{name}, durable": replace(_MEMORY[name], state=state, after_a_crash=_CHECKPOINT, options=("durable",))
    for name, state in _STATES.items()
}
_LEARNERS = {
    **_learner("Vowpal Wabbit", "vowpal-wabbit", "linear, squared loss"),
    **_learner("River", "river", "linear regression, SGD"),
    **_learner("PyTorch", "pytorch", "our network's size, Adam, a step a feedback"),
}
_OURS = Engine(
    None,
    "a local RocksDB with a changelog, acknowledged before the input counts as done",
    "once outputs and state are acknowledged; repeated outputs are told by id or origin",
    "exact: every step follows from a log",
    pairs=True,
)

ENGINES: Mapping[str, Engine] = {
    OURS: _OURS,
    UNPAIRED: replace(_OURS, pairs=False, options=("--roles", "join,scorer")),
    **_MEMORY,
    TWO_HOPS: Engine("two_hops", _IN_MEMORY, "as above, and again for the topic in between", _LOST),
    ACKNOWLEDGED: Engine(
        "two_hops",
        "memory; the records of a changelog and of a log of steps are written and waited for",
        "as above",
        _LOST,
        options=("acknowledged",),
    ),
    FLOOR: Engine("floor", "none", "fetches and decodes, and does none of the work", "nothing to lose"),
    **_DURABLE,
    **_LEARNERS,
    OUR_JOIN: replace(
        _OURS, pairs=False, options=("--roles", "join"), output="scorer-log", after_a_crash="does not learn"
    ),
    STREAMS: _STREAMS,
    STREAMS_OFTEN: replace(_STREAMS, delivery="as above, every 20 ms", options=("20",)),
}
GROUPS: Mapping[str, Group] = {
    "memory": Group("In memory", (OURS, UNPAIRED), tuple(_MEMORY), (TWO_HOPS, ACKNOWLEDGED, FLOOR)),
    "durable": Group("With durable state", (OURS,), tuple(_DURABLE), killed=True),
    "learners": Group("With the learner that its users would have", (OURS,), tuple(_LEARNERS)),
    "join": Group("The join alone", (OUR_JOIN,), (STREAMS, STREAMS_OFTEN), killed=True),
}
