"""What the answers table remembers of one answer: always its offset and outcome, its content only while it may pair."""

from __future__ import annotations

from typing import NamedTuple, Self

from msgspec import Struct
from msgspec.json import Decoder, Encoder
from msgspec.structs import astuple

from schemas.events import PairKind

WAITING = "waiting"
PAIRED = "paired"
EVICTED = "evicted"
UNPAIRED = "unpaired"
"""It trains by itself."""
USED = (PAIRED, UNPAIRED)

# No string of the fields before it can hold this: a quotation mark within a string has a backslash before it.
_ANSWER = b',"answer":'


def key_of(kind: PairKind, experience_id: str) -> bytes:
    """Return the table key of an answer."""
    return f"{kind}:{experience_id}".encode()


def kind_of(key: bytes) -> PairKind:
    """Return the kind that a table key names."""
    return "widget" if key.startswith(b"widget:") else "voice"


def experience_of(key: bytes) -> str:
    """Return the experience that a table key names."""
    return key.partition(b":")[2].decode()


class Entry(NamedTuple):
    """One answer, as of the highest input offset that changed anything about it."""

    offset: int
    """Input offset of the decision."""
    outcome: str
    """`waiting`, `paired`, `unpaired`, `evicted` or the reason why it is no candidate."""
    reward: float | None = None
    """The latest reward while the answer waits, then the one that it was used with."""
    partner: str | None = None
    """The experience that the answer was paired with on its arrival."""
    taken_by: str | None = None
    """The experience whose arrival paired this waiting answer."""
    changes: int = 0
    """1 once the answer was judged otherwise than when it was used, else 0: further changes write nothing."""
    since: float | None = None
    """Broker time in epoch seconds from which on a candidate has waited; None in values of earlier versions."""
    answer: bytes | None = None
    """The whole answer as it was sent, while it may be paired."""

    def encode(self) -> bytes:
        """Return the table value, a JSON object; the answer goes in as it is, and last."""
        head, answer = _ENCODER.encode(_Head(*self[:-1])), self.answer
        return head if answer is None else b"".join((head[:-1], _ANSWER, answer, b"}"))

    def without_answer(self) -> Self:
        """Return what is remembered of an answer that may not be paired any more."""
        return self._replace(answer=None, since=None)

    @property
    def waits_since(self) -> float:
        """`since`, or the beginning of time."""
        return self.since or 0.0

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a table value; the answer is left as it is.

        Raises:
            ValueError: the value is not JSON of this form.
        """
        head, found, answer = data.partition(_ANSWER)
        fields = _DECODER.decode(head + b"}" if found else data)
        return cls._make((*astuple(fields), answer[:-1] if found else None))


class _Head(Struct, omit_defaults=True):
    """All of an entry but the answer."""

    offset: int
    outcome: str
    reward: float | None = None
    partner: str | None = None
    taken_by: str | None = None
    changes: int = 0
    since: float | None = None


_ENCODER, _DECODER = Encoder(), Decoder(_Head)
