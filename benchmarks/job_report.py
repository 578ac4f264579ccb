"""The tables of what jobs learn, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean
from typing import Any

Run = dict[str, Any]

_COLUMNS = {
    "dpo": (
        ("accuracy of the base", "accuracy_in_use", "{:.3f}"),
        ("accuracy", "accuracy", "{:.3f}"),
        ("implicit accuracy", "implicit_accuracy", "{:.3f}"),
        ("margin over prompts", "improvement.mean", "{:+.3f}"),
        ("from", "improvement.low", "{:+.3f}"),
        ("to", "improvement.high", "{:+.3f}"),
        ("traces' loss", "other_tier_regression", "{:+.4f}"),
    ),
    "kto": (
        ("pairs' accuracy of the base", "other_tier_accuracy_in_use", "{:.3f}"),
        ("pairs' accuracy", "other_tier_accuracy", "{:.3f}"),
        ("pairs' gap, nats lost", "other_tier_gap_loss", "{:+.2f}"),
        ("implicit accuracy", "implicit_accuracy", "{:.3f}"),
        ("margin over prompts", "improvement.mean", "{:+.3f}"),
        ("from", "improvement.low", "{:+.3f}"),
        ("to", "improvement.high", "{:+.3f}"),
        ("traces' loss", "other_tier_regression", "{:+.4f}"),
    ),
    "sft": (
        ("loss of the base", "loss_in_use", "{:.4f}"),
        ("loss", "loss", "{:.4f}"),
        ("improvement over prompts", "improvement.mean", "{:+.4f}"),
        ("from", "improvement.low", "{:+.4f}"),
        ("to", "improvement.high", "{:+.4f}"),
        ("beyond form", "beyond_form.mean", "{:+.4f}"),
        ("from", "beyond_form.low", "{:+.4f}"),
        ("to", "beyond_form.high", "{:+.4f}"),
        ("pairs' loss", "other_tier_regression", "{:+.4f}"),
    ),
}


def markdown(runs: Sequence[Run], machine: str, reduced: dict[str, Any], threads: int) -> str:
    """Return one table a tier: a row each run, and the mean of each kind."""
    parts = [
        f"Machine: {machine}; {threads} thread(s) a run. Set otherwise than by default: `{json.dumps(reduced)}`.\n"
    ]
    for tier in _COLUMNS:
        mine = [run for run in runs if run["tier"] == tier]
        parts += [_table(tier, mine), ""] if mine else []
    return "\n".join(parts)


def _table(tier: str, runs: Sequence[Run]) -> str:
    titles = ["data", "seed", *(title for title, _, _ in _COLUMNS[tier]), "gate"]
    rows = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for control in sorted({run["control"] or "" for run in runs}):
        group = [run for run in runs if (run["control"] or "") == control]
        rows += [_row(tier, control, str(run["seed"]), [run]) for run in group]
        if len(group) > 1:
            rows.append(_row(tier, control, "mean", group))
    first = runs[0]["result"]["metrics"]
    prompts = (first.get("improvement") or {}).get("count", 0)
    trained = f"{first.get('trained_on')} examples trained on, in {first.get('steps')} steps"
    held = f"{first.get('held_out')} held out of {prompts} prompts"
    return f"**{tier.upper()}**: {trained}; {held}.\n\n" + "\n".join(rows)


def _row(tier: str, control: str, seed: str, group: Sequence[Run]) -> str:
    cells = [control or "as it is", seed]
    for _, key, form in _COLUMNS[tier]:
        values = [value for run in group if (value := _value(run, key)) is not None]
        cells.append(form.format(fmean(values)) if values else "")
    promoted = sum(bool(run["result"].get("promoted")) for run in group)
    words = ("promoted" if promoted else "rejected") if len(group) == 1 else f"{promoted} of {len(group)} promoted"
    return "| " + " | ".join([*cells, words]) + " |"


def _value(run: Run, key: str) -> float | None:
    found: Any = run["result"]["metrics"]
    for part in key.split("."):
        found = None if found is None else found.get(part)
    value: float | None = found
    return value
