"""The public contract: documents that are kept, and old events that must stay readable."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.settings import Settings
from streams.contract import CONTRACTS, EVENTS, asyncapi, json_schema
from tests.contract.breaking import breaking_changes

KEPT = Path(__file__).parents[2] / "docs" / "contract"
V1 = Path(__file__).parent / "v1"
REMEDY = "write them anew: tierstream schema --json-schema docs/contract --asyncapi docs/contract/asyncapi.json"


@pytest.mark.parametrize("name", EVENTS)
def test_kept_json_schema_is_the_models(name: str) -> None:
    assert json.loads((KEPT / f"{name}.json").read_text()) == json_schema(EVENTS[name]), REMEDY


def test_kept_asyncapi_document_is_the_models() -> None:
    assert json.loads((KEPT / "asyncapi.json").read_text()) == asyncapi(Settings()), REMEDY


@pytest.mark.parametrize("name", EVENTS)
def test_events_of_version_1_stay_readable(name: str) -> None:
    """The files hold what version 1 wrote: never edit a line, add some."""
    lines = (V1 / f"{name}.jsonl").read_bytes().splitlines()
    assert len(lines) >= 2
    validator = Draft202012Validator(json_schema(EVENTS[name]))
    for line in lines:
        validator.validate(json.loads(line))
        again = json.loads(EVENTS[name].from_json(line).to_json())
        assert _within(json.loads(line), again), line


WITHOUT_EFFECT = {
    "Experience": ["query_embedding[]: minimum is tighter", "query_embedding[]: maximum is tighter"],
}
"""What version 1 took and then passed over without a word: a vector beyond the bound was never scored."""


@pytest.mark.parametrize("name", EVENTS)
def test_nothing_that_version_1_took_is_refused_now(name: str) -> None:
    old = json.loads((V1 / f"{name}.schema.json").read_text())
    known = [f".{change}" for change in WITHOUT_EFFECT.get(name, ())]
    assert breaking_changes(old, json_schema(EVENTS[name])) == known


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi(Settings())

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [ref for inner in value.values() for ref in references(inner)]
        return [ref for inner in value for ref in references(inner)] if isinstance(value, list) else []

    found = references(document)
    assert len(found) > 2 * len(CONTRACTS)
    for reference in found:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_asyncapi_parser_accepts_the_document(tmp_path: Path) -> None:
    script = """
        import { Parser } from '@asyncapi/parser'; import fs from 'fs';
        const { document, diagnostics } = await new Parser().parse(fs.readFileSync(process.argv[2], 'utf8'));
        diagnostics.filter((d) => d.severity < 2).forEach((d) => console.log(d.message, d.path.join('.')));
        console.log(document ? 'valid' : 'invalid', document?.channels().all().length);
    """
    (tmp_path / "check.mjs").write_text(script)
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "@asyncapi/parser@3"],
        cwd=tmp_path,
        check=True,
        timeout=240,
    )
    command = ["node", "check.mjs", str(KEPT / "asyncapi.json")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"valid {len(CONTRACTS)}\n"


def _within(old: Any, new: Any) -> bool:
    """Whether every value that the old event gave is in the new one; times and embeddings may be written otherwise."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(
            key in new and (_within(value, new[key]) or key == "timestamp" or "embedding" in key)
            for key, value in old.items()
            if value is not None
        )
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(_within, old, new))
    return bool(old == new or new == {"type": old})  # a device may be its type alone
