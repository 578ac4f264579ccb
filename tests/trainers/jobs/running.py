"""Runs a job as its process does, in this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainers.jobs import dpo, kto, process, sft

TIERS = {"dpo": dpo.DPO, "kto": kto.KTO, "sft": sft.SFT}


def run(folder: Path) -> tuple[int, dict[str, Any]]:
    """Run a job as its process does; return the exit status and the result."""
    code = process.main(TIERS[folder.name[:3]], [str(folder)])
    return code, json.loads((folder / "result.json").read_bytes())


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]
