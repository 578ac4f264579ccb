"""What the answers table remembers of one answer: always its offset and outcome, its content only while it may pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic_core import from_json, to_json

from schemas.events import PairKind
from schemas.records import Answer

WAITING = "waiting"
PAIRED = "paired"
EVICTED = "evicted"


def key_of(kind: PairKind, experience_id: str) -> bytes:
    """Return the table key of an answer."""
    return f"{kind}:{experience_id}".encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer, as of the highest input offset that was decided for it."""

    offset: int
    """Input offset of the decision."""
    outcome: str
    """`waiting`, `paired`, `evicted` or the reason why it is no candidate."""
    reward: float | None = None
    """The latest reward."""
    partner: str | None = None
    """The experience that the answer was paired with on its arrival."""
    taken_by: str | None = None
    """The experience whose arrival paired this waiting answer."""
    changes: int = 0
    """How often the reward changed after pairing."""
    answer: Answer | None = None
    """The whole answer, while it may be paired."""

    def encode(self) -> bytes:
        """Return the table value."""
        head = {name: getattr(self, name) for name in ("offset", "outcome", "reward", "partner", "taken_by", "changes")}
        data = to_json({name: value for name, value in head.items() if value is not None})
        return data if self.answer is None else data[:-1] + b',"answer":' + self.answer.to_json() + b"}"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a table value.

        Raises:
            ValueError: the value is not of this form.
        """
        fields = from_json(data)
        if fields.get("answer") is not None:
            fields["answer"] = Answer.model_validate(fields["answer"])
        return cls(**fields)
