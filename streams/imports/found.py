"""What a format finds in the records of a file: calls, scores, finished events, or a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import JsonValue

from schemas.base import Event
from schemas.events import FeedbackSource


class Record(NamedTuple):
    """One JSON value of a file: a line, an element of an array, or the whole."""

    where: str
    """For a message: `line 3`."""
    value: JsonValue
    written_at: datetime
    """When the file was last written; the time of what has none of its own."""


class Call(NamedTuple):
    """A call of a model that was answered."""

    where: str
    fields: dict[str, Any]
    """Fields of a `Trace`; without `thinking` the call becomes an experience only."""
    about: JsonValue = None
    """The record that `--intent .FIELD` looks into."""
    name: str | None = None
    """What the source calls the task: a domain of the experience."""
    calls_tool: bool = False
    """Whether it ends with the call of a tool, so that it is no answer yet."""
    known_as: tuple[str, ...] = ()
    """Names by which scores refer to it, beside its id; of several calls of one name the last one is meant."""


class Score(NamedTuple):
    """A judgement of a call."""

    where: str
    feedback_id: str
    of: tuple[str, ...]
    """What is judged: the first of these names that a call is known as."""
    value: float | bool | str
    timestamp: JsonValue | datetime
    source: FeedbackSource = "user"
    confidence: float | None = None
    comment: str | None = None


class Ready(NamedTuple):
    """An event as it is to be published."""

    where: str
    event: Event


class LeftOut(NamedTuple):
    """Something that is as it should be, and of which no event is made; counted by reason."""

    where: str
    reason: str
    """In one word, `no_answer` for one."""


class Bad(NamedTuple):
    """Something that is not of the format; named by its place, and the exit code is 1."""

    where: str
    reason: str


Found = Call | Score | Ready | LeftOut | Bad

OfRecord = Callable[[Record, Mapping[str, Any]], Iterable[Found]]
"""Finds what one record holds, which is an object."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be imported; an entry point in the group `tierstream.imports` names one."""

    name: str
    about: str
    """For the list, in one line."""
    read: Callable[[Iterable[Record]], Iterator[Found]]
    """Pure: what the records hold, each accounted for. Reads only what it yields for, so that a bar can move."""
    recognises: Callable[[Mapping[str, Any]], bool]
    """Whether a record, the first of a file, looks like this format."""


def reading(each: OfRecord) -> Callable[[Iterable[Record]], Iterator[Found]]:
    """Make a reader of a function of one record, for a format whose records stand by themselves.

    What is no object, or not of the form that the function expects, is reported as bad.
    """

    def read(records: Iterable[Record]) -> Iterator[Found]:
        for record in records:
            yield from guarded(record, each)

    return read


def guarded(record: Record, each: OfRecord) -> list[Found]:
    """Return what a function finds in a record, or why it is not of the format."""
    if not isinstance(record.value, dict):
        return [Bad(record.where, "not a JSON object")]
    try:
        return list(each(record, record.value))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        missing = f"{error.args[0]} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        return [Bad(record.where, missing[:300])]
