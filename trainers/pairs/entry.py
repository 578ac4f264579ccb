"""What the answers table remembers of one answer: always its offset and outcome, its content only while it may pair."""

from __future__ import annotations

from typing import NamedTuple, Self

import orjson

from schemas.events import PairKind

WAITING = "waiting"
PAIRED = "paired"
EVICTED = "evicted"

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
    """`waiting`, `paired`, `evicted` or the reason why it is no candidate."""
    reward: float | None = None
    """The latest reward while the answer waits, then the one that it was paired with."""
    partner: str | None = None
    """The experience that the answer was paired with on its arrival."""
    taken_by: str | None = None
    """The experience whose arrival paired this waiting answer."""
    changes: int = 0
    """1 once the answer was judged otherwise than when it was paired, else 0: further changes write nothing."""
    answer: bytes | None = None
    """The whole answer as it was sent, while it may be paired."""

    def encode(self) -> bytes:
        """Return the table value, a JSON object; the answer goes in as it is, and last."""
        offset, outcome, reward, partner, taken_by, changes, answer = self
        fields: dict[str, object] = {"offset": offset, "outcome": outcome, "changes": changes}
        if reward is not None:
            fields["reward"] = reward
        if partner is not None:
            fields["partner"] = partner
        if taken_by is not None:
            fields["taken_by"] = taken_by
        # What orjson returns holds on to a page of memory, and values are kept: only copies of it leave here.
        head = orjson.dumps(fields)[:-1]
        return head + b"}" if answer is None else b"".join((head, _ANSWER, answer, b"}"))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a table value; the answer is left as it is.

        Raises:
            ValueError: the value is not JSON.
            TypeError: it is not of this form.
        """
        head, found, answer = data.partition(_ANSWER)
        if not found:
            return cls(**orjson.loads(data))
        return cls(**orjson.loads(head + b"}"), answer=answer[:-1])
