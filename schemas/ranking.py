"""What a scorer is asked, and what it answers: a query and candidates in, scores out."""

from __future__ import annotations

from pydantic import Field, JsonValue, field_validator

from schemas.base import Identifier, Part, Text
from schemas.events import Intent, ItemType
from schemas.vectors import Embedding


class Candidate(Part):
    """A widget, or a reply, that the query could be answered with."""

    item_id: Identifier
    """Identifies the candidate in the request."""
    widget_type: Identifier | None = None
    """Kind of widget, `line_chart` for one; a candidate without is a spoken reply."""
    text: Text = ""
    """What the widget shows, in words, or the reply."""
    size: str | None = Field(default=None, max_length=64)
    """Size class of the widget."""
    params: dict[str, JsonValue] | None = None
    """Arguments of the widget."""
    embedding: Embedding | None = None
    """Embedding of the candidate."""


class RankRequest(Part):
    """A query with its candidates, each judged as an answer of its own."""

    query: Text
    """What the operator asked."""
    intent: Intent
    """What the assistant understood."""
    candidates: tuple[Candidate, ...] = Field(min_length=1, max_length=1024)
    """What to choose from."""
    query_embedding: Embedding | None = None
    """Embedding of the query."""

    @field_validator("candidates")
    @classmethod
    def _ids_are_unique(cls, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        if len({candidate.item_id for candidate in candidates}) < len(candidates):
            raise ValueError("two candidates have the same item_id")
        return candidates


class RankedItem(Part):
    """A candidate with its score."""

    item_id: Identifier
    """The candidate's."""
    item_type: ItemType
    """Widget or voice."""
    score: float
    """The scorer's estimate of the reward; higher is better."""
