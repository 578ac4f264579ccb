"""Command `score`."""

from __future__ import annotations

import json
import sys
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from schemas.config import LoadedSettings
from schemas.errors import InputError
from schemas.events import Experience
from schemas.ranking import RankedItem, RankRequest
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table
from streams.kafka.dead_letters import explain

_SHAPE = 'a request is {"query": ..., "intent": {"type": ...}, "candidates": [{"item_id": ..., "widget_type": ...}]}'


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@settings_options(broker=False)
@json_option
def score(loaded: LoadedSettings, file: Path, as_json: bool) -> None:
    """Score candidates for a query with the scorer in use, the best first; FILE is one JSON request, or one a line.

    A request has query, intent and candidates (item_id, text, and widget_type for a widget), each judged as an answer
    of its own; or it is a whole experience, whose items are scored together. Without FILE, or with -, standard input
    is read.

    Example: tierstream score candidates.json --json
    """
    from trainers.embedding import MissingEmbeddingError
    from trainers.scorer.ranking import embedder_of, rank, score_answer
    from trainers.scorer.serving import newest_scorer

    requests = _requests(file)
    scorer = newest_scorer(loaded.settings.data_dir)
    embedder = embedder_of(scorer, loaded.settings.scorer)
    for number, request in enumerate(requests, start=1):
        try:
            if isinstance(request, Experience):
                ranked = score_answer(scorer, embedder, request)
            else:
                ranked = rank(scorer, embedder, request)
        except MissingEmbeddingError as error:
            raise InputError(f"request {number} of {file}: {error}") from error
        _show(request.query, ranked, asdict(scorer.about), as_json)


def _show(query: str, ranked: Sequence[RankedItem], about: dict[str, Any], as_json: bool) -> None:
    rows = [item.model_dump() for item in ranked]
    if as_json:
        click.echo(json.dumps({"query": query, "items": rows, "scorer": about}))
        return
    click.echo(f"{query}  (scorer of epoch {about['epoch']}, step {about['step']}, rank {about['rank']})")
    print_table(rows)


def _requests(file: Path) -> list[RankRequest | Experience]:
    """Read every request.

    Raises:
        InputError: the file cannot be read, or one of them is none; names its number.
    """
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "name a file of JSON, or -") from error
    raw = raw.removeprefix(BOM_UTF8)
    texts = [line for line in raw.splitlines() if line.strip()]
    if not texts:
        raise InputError(f"{file} is empty", _SHAPE)
    return [_request(text, number, file) for number, text in enumerate(_documents(raw, texts), start=1)]


def _documents(raw: bytes, lines: list[bytes]) -> list[bytes]:
    """Return the lines, or the whole where it is one document over several lines."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return lines
    return [raw]


def _request(text: bytes, number: int, file: Path) -> RankRequest | Experience:
    try:
        fields = json.loads(text)
        if isinstance(fields, dict) and "candidates" not in fields and {"widget_plan", "voice_reply"} & fields.keys():
            return Experience.model_validate_json(json.dumps({"experience_id": "scored", "timestamp": 0, **fields}))
        return RankRequest.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"request {number} of {file} cannot be used: {explain(error)[1]}", _SHAPE) from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"request {number} of {file} is no JSON: {reason}", _SHAPE) from error
