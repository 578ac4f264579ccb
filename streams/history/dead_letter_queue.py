"""Dead letters as an operator handles them: read, filtered, and tried again where they are valid now."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from pydantic import ValidationError

from schemas.events import DeadLetter
from schemas.settings import Settings
from streams.contract import CONTRACTS
from streams.kafka.dead_letters import ATTEMPT_HEADER, MAX_VALUE_BYTES, explain
from streams.kafka.log_range import LogRange, TimeRange
from streams.kafka.options import MAX_RECORD_BYTES, broker_errors, client_options
from streams.topics import DEAD_LETTERS, topic_specs


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter where it lies."""

    offset: int
    """Place in the topic of dead letters: its number in every command."""
    content: DeadLetter
    retried: bool = False
    """Whether it was sent again from here."""

    @property
    def cut(self) -> bool:
        """Whether no more than the start of the value was kept."""
        return self.content.value is not None and self.content.value_bytes > MAX_VALUE_BYTES


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; what is None does not matter."""

    reason: str | None = None
    """The letter's `error_type`."""
    topic: str | None = None
    """Name of the source without the prefix."""
    since: datetime | None = None
    """Dead-lettered then or later."""
    offsets: Collection[int] | None = None

    def takes(self, letter: Letter, settings: Settings) -> bool:
        """Tell whether a letter is meant."""
        content = letter.content
        return (
            self.reason in (None, content.error_type)
            and (self.topic is None or content.topic == settings.topic(self.topic))
            and (self.since is None or content.timestamp >= self.since)
            and (self.offsets is None or letter.offset in self.offsets)
        )


class RetriedLog:
    """Which letters were sent again, kept in the data directory; a lost line means no more than a second try."""

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.data_dir) / "dead-letters" / f"{settings.topic(DEAD_LETTERS)}.retried.jsonl"
        self._known = set(self._read())

    def __contains__(self, letter: Letter) -> bool:
        return (letter.offset, letter.content.value_sha256) in self._known

    def add(self, letter: Letter) -> None:
        """Note a letter.

        Raises:
            OSError: the data directory cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(orjson.dumps([letter.offset, letter.content.value_sha256]) + b"\n")

    def _read(self) -> list[tuple[int, str]]:
        found = []
        for line in self._path.read_bytes().splitlines() if self._path.exists() else []:
            try:
                offset, digest = orjson.loads(line)
                found.append((int(offset), str(digest)))
            except (ValueError, TypeError):
                continue  # a line that a crash has cut
        return found


async def read_letters(
    settings: Settings, chosen: Filter, progress: Callable[[int, int], None]
) -> AsyncIterator[Letter]:
    """Yield the letters that are there now and meant, oldest first; records that are no letters are passed over.

    Args:
        settings: where the broker is.
        chosen: which are meant.
        progress: told how many records are done, of how many.

    Raises:
        TopicsError: the topic of dead letters is missing.
        ConnectionFailedError: the broker cannot be reached.
    """
    retried = RetriedLog(settings)
    async with LogRange(settings, DEAD_LETTERS, TimeRange()) as records:
        done = 0
        async for record in records:
            progress(done := done + 1, records.offsets)
            try:
                letter = Letter(record.offset, DeadLetter.from_json(record.value or b""))
            except ValidationError:
                continue
            if chosen.takes(letter, settings):
                yield replace(letter, retried=letter in retried)


def row_of(letter: Letter) -> dict[str, Any]:
    """Return what a list tells of a letter."""
    content = letter.content
    return {
        "number": letter.offset,
        "at": content.timestamp.isoformat(timespec="seconds"),
        "source": printable(f"{content.topic}[{content.partition}]@{content.offset}"),
        "reason": printable(content.error_type),
        "attempt": content.attempt,
        "bytes": content.value_bytes,
        "cut": letter.cut,
        "retried": letter.retried,
        "error": printable(content.error),
    }


def printable(text: str) -> str:
    """Return text that moves no cursor: whoever wrote the record chose it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def key_of(letter: Letter) -> bytes | None:
    """Return the source's key.

    Raises:
        ValueError: it is no base64.
    """
    key = letter.content.key
    return None if key is None else base64.b64decode(key, validate=True)


def value_of(letter: Letter) -> bytes:
    """Return what was kept of the source's value.

    Raises:
        ValueError: it is no base64.
    """
    return base64.b64decode(letter.content.value or "", validate=True)


def obstacle(letter: Letter, settings: Settings) -> str | None:
    """Return why a letter cannot be sent again, in one line; None where it can."""
    content = letter.content
    names = {spec.name for spec in topic_specs(settings)} - {settings.topic(DEAD_LETTERS)}
    if content.topic not in names:
        return f"topic {content.topic!r} is none of this deployment"
    if content.value is None:
        return "it had no value"
    if letter.cut:
        size = MAX_VALUE_BYTES // 1024
        return f"its value of {content.value_bytes:,} bytes was cut at {size} KiB: publish it again from its source"
    try:
        key_of(letter)
        value = value_of(letter)
    except (binascii.Error, ValueError):
        return "its value is no base64"
    if hashlib.sha256(value).hexdigest() != content.value_sha256:
        return "its value is not the one whose hash it holds"
    return _fault(content.topic.removeprefix(settings.topics.prefix), value)


def _fault(topic: str, value: bytes) -> str | None:
    if topic not in CONTRACTS:
        return None  # between our own agents: the reader decides
    event = CONTRACTS[topic].event
    try:
        event.from_json(value)
    except ValidationError as error:
        return f"still no {event.__name__}: {explain(error)[1]}"
    return None


async def retry(
    settings: Settings, letters: AsyncIterator[Letter], told: Callable[[Letter, str | None], Any], *, dry: bool = False
) -> None:
    """Send letters again to where they came from, each as its next attempt; those that cannot be are left.

    Args:
        settings: all settings.
        letters: which.
        told: called for each with None, or with the obstacle.
        dry: look at them only.

    Raises:
        ConnectionFailedError: the broker did not take one; those told before are sent.
        OSError: the data directory cannot be written.
    """
    log = RetriedLog(settings)
    producer = AIOKafkaProducer(**client_options(settings), acks="all", max_request_size=MAX_RECORD_BYTES)
    with broker_errors(settings):
        try:
            await producer.start()
            async for letter in letters:
                reason = obstacle(letter, settings)
                if reason is None and not dry:
                    attempt = str(letter.content.attempt + 1).encode()
                    headers = [(ATTEMPT_HEADER, attempt)]
                    await producer.send_and_wait(
                        letter.content.topic, value_of(letter), key=key_of(letter), headers=headers
                    )
                    log.add(letter)
                told(letter, reason)
        finally:
            await producer.stop()
