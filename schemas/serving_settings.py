"""Settings of the servers that answer from what was trained."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema

from schemas.base import StrictModel
from schemas.setting_types import Duration


def _server_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{value!r} is no address of a server: write it as http://127.0.0.1:8000")
    return value.rstrip("/").removesuffix("/v1")


ServerUrl = Annotated[
    str,
    AfterValidator(_server_url),
    WithJsonSchema({"type": "string", "description": "http://HOST[:PORT][/PATH], or https"}),
]
"""Address of a server that speaks OpenAI's API, without `/v1`."""


class ServingSettings(StrictModel):
    """Servers that answer from what was trained."""

    url: ServerUrl | None = None
    """A server with OpenAI's API that loads LoRA adapters at run time, as vLLM and `tierstream serve` do: a version is
    put into use once it is loaded there and has answered a question. None by default."""
    api_key: SecretStr | None = None
    """Bearer token that this server asks for; give it as `TIERSTREAM_SERVING__API_KEY`, never in a file that is
    shared."""
    timeout: Duration = 60.0
    """How long this server may take to load a version, and again to answer the question."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port of `tierstream serve`, which listens on this machine alone; 0 picks a free one."""
    rollback_when_worse: bool = False
    """Whether a version in use that is judged worse than the one before it is rolled back, once, by a worker."""
    candidate_share: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the queries that a version which has passed its gate answers first, chosen by the query's hash; it is
    put into use, or not, by what people say of it. 0 puts it into use at once."""
    candidate_judgements: int = Field(default=400, ge=30)
    """Judged answers after which such a version is put into use, or goes where it is worse; it goes earlier where that
    is clear."""
    worse_margin: float = Field(default=0.02, ge=0, le=2)
    """A version is worse where its mean reward is lower by more than this with 95 % confidence, at every look."""
