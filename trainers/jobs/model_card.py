"""The model card of an exported version: what it is made of, how it was judged, how it is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from schemas.versions import VersionRecord
from trainers.jobs.base_model import BaseModel, is_packaged

CARD_NAME = "README.md"
_FRONT = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_COUNTS = ("examples", "trained_on", "held_out_of_job", "dropped", "cut", "held_out")


def license_of(base: BaseModel) -> str | None:
    """Return the licence that a base model comes under, as its package or its own card says; None where none does."""
    if is_packaged(base.name):
        return metadata.metadata(base.name)["License"]
    card = base.path / CARD_NAME
    front = _FRONT.match(card.read_text("utf-8", errors="replace")) if card.is_file() else None
    found = front and re.search(r"^license:\s*(.+?)\s*$", front[1], re.MULTILINE)
    return found[1].strip("\"'") if found else None


def model_card(record: VersionRecord, base_name: str, base_license: str | None, *, merged: bool) -> str:
    """Return the card as Markdown, with the front matter that the hub reads.

    Args:
        record: of the version.
        base_name: path of the base model, or its name on the hub.
        base_license: its licence, where that is known.
        merged: whether the folder is a whole model.
    """
    return "\n".join(_lines(record, base_name, base_license, merged)) + "\n"


def _lines(record: VersionRecord, base_name: str, base_license: str | None, merged: bool) -> Iterator[str]:
    front = {"base_model": base_name, "library_name": "transformers" if merged else "peft"}
    front |= {"license": base_license.lower()} if base_license else {}
    yield from (
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in front.items()),
        f"tags: [{record.tier}]",
        "---",
        "",
    )
    yield from (f"# {record.version}", "", f"{record.reason}.", "")
    yield from _table("Origin", _origin(record, base_name, base_license))
    yield from _table("Examples", {key: record.metrics[key] for key in _COUNTS if key in record.metrics})
    figures = {key: value for key, value in record.metrics.items() if key not in _COUNTS and key != "losses"}
    yield from _table("Gate and costs", figures)
    yield from _table("Training settings", record.settings.get("training") or {})
    yield from ("## Loading", "", "```python", *(_MERGED if merged else _ADAPTER), "```")


def _origin(record: VersionRecord, base_name: str, base_license: str | None) -> dict[str, Any]:
    return {
        "tier": record.tier,
        "made": record.created_at.isoformat(timespec="seconds"),
        "job": record.job_id,
        "continues from": record.parent_version or "the base model",
        "base model": base_name,
        "licence of the base model": base_license or "not said by its files: look where it came from",
        "base weights, sha256": record.base_model_sha256,
        "dataset, sha256": record.dataset_sha256,
        "seed": record.seed,
        "libraries": record.libraries,
    }


def _table(title: str, rows: Any) -> Iterator[str]:
    if rows:
        yield from (f"## {title}", "", "| | |", "|---|---|")
        yield from (f"| {name} | {_cell(value)} |" for name, value in rows.items())
        yield ""


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else "-" if value is None else json.dumps(value)
    return " ".join(text.split()).replace("|", "\\|")


_ADAPTER = (
    "from pathlib import Path",
    "",
    "from peft import AutoPeftModelForCausalLM",
    "from transformers import AutoTokenizer",
    "",
    'folder = Path("FOLDER")  # this one',
    "model = AutoPeftModelForCausalLM.from_pretrained(folder)",
    'tokenizer = AutoTokenizer.from_pretrained(model.peft_config["default"].base_model_name_or_path)',
)
_MERGED = (
    "from pathlib import Path",
    "",
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    "",
    'folder = Path("FOLDER")  # this one',
    "model = AutoModelForCausalLM.from_pretrained(folder)",
    "tokenizer = AutoTokenizer.from_pretrained(folder)",
)
