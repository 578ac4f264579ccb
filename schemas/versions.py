"""Records of the version registry: what a trained version is, and which one is in use."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints

from schemas.base import Event, Identifier, Part, Probability, Timestamp
from schemas.events import ModelLine, ModelTier

VersionStatus = Literal["candidate", "promoted", "rejected"]

VersionName = Annotated[
    str, StringConstraints(pattern=r"^(?:(?:scorer|dpo|kto|sft)-[A-Za-z0-9][A-Za-z0-9_-]{0,63}|policy-base)$")
]
"""`<tier>-<first 12 hex digits of what it is made of>`, or one of `BASES`; never a path out of its folder."""

TIERS: dict[ModelLine, tuple[ModelTier, ...]] = {"scorer": ("scorer",), "policy": ("dpo", "kto", "sft")}
"""By line: the tiers whose versions it is made of."""

BASES: dict[ModelLine, str] = {"policy": "policy-base"}
"""By line: the name of the base model itself, which is in use until a version is, and can be returned to."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def line_of(version: str) -> ModelLine:
    """Return the line that a version of this name is of."""
    return "scorer" if version.startswith("scorer-") else "policy"


class VersionRecord(Event):
    """What a version is made of and how it was judged: `version.json` of its folder, written once."""

    tier: ModelTier
    """Which training made it."""
    version: VersionName
    """Its name, and its folder's."""
    status: VersionStatus = "candidate"
    """The gate's verdict when it was added, `rejected` or `candidate`; `promoted` once it has been in use."""
    parent_version: VersionName | None = None
    """The version of the same line that it continues from, whichever tier made that."""
    created_at: Timestamp
    """When it was added."""
    job_id: Identifier | None = None
    """The training job that made it."""
    reason: str
    """Why it was made, and why the gate judged as it did, in one line."""
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    """The gate's figures."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The settings that were in effect."""
    base_model: str | None = None
    """The base model that it adapts."""
    base_model_sha256: Sha256 | None = None
    """Hash of the base model's weights."""
    base_model_parts: dict[str, Sha256] = Field(default_factory=dict)
    """Hashes of the base model's `weights`, `tokenizer` and `chat_template`."""
    libraries: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that made it, by name."""
    seed: int | None = None
    """Seed of the training."""
    dataset_sha256: Sha256 | None = None
    """Hash of the dataset."""
    files: dict[str, Sha256] = Field(default_factory=dict)
    """Hash of every file, by path within the folder; filled in when it is added."""


class Selection(Part):
    """One change of the version in use."""

    version: VersionName
    """In use from then on; one of `BASES` for the base model itself."""
    action: Literal["promoted", "rolled back", "tried"]
    """What was done; one that is tried answers a share of the queries, and what is in use the others."""
    previous: VersionName | None = None
    """In use until then; None for the base model, or a scorer that no version had been made of."""
    reason: str
    """Why."""
    at: Timestamp
    """When."""
    share: Probability | None = None
    """Of one that is tried: the share of the queries that it answers."""


class NotServed(Event):
    """Why the server that answers from a tier's versions did not take one: `not-served.json`, until it takes one."""

    version: VersionName
    """Which one; it stays out of use, or is in use and is not served."""
    reason: str
    """Why, in one line."""
    at: Timestamp
    """When."""


class InUse(Event):
    """The whole history of a line's version in use, the newest last: `in-use.json`."""

    history: tuple[Selection, ...] = ()
    """Every change."""

    @property
    def version(self) -> str | None:
        """The version in use; None before the first promotion, and where it is the base model again."""
        newest = self.selection
        return None if newest is None or newest.version in BASES.values() else newest.version

    @property
    def selection(self) -> Selection | None:
        """The change that made it so; None before the first."""
        return next((one for one in reversed(self.history) if one.action != "tried"), None)

    @property
    def candidate(self) -> Selection | None:
        """The version that is being tried; None where none is."""
        return self.history[-1] if self.history and self.history[-1].action == "tried" else None

    def then(self, selection: Selection) -> Self:
        """Return the history with one more change."""
        return self.model_copy(update={"history": (*self.history, selection)})
