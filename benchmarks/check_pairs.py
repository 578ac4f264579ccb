"""`python -m benchmarks.check_pairs CSV DATASET...`: checks the datasets of DPO jobs against the raw rows.

Nothing of the system is used: reward, confidence, intent, domains, devices and content are derived once more from
the CSV file and the README beside it, so that a mistake in the system's own mapping or rules cannot hide itself.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PAIRS_PER_JOB = 80
CHOSEN_ABOVE = 0.1
REJECTED_BELOW = -0.1
LEAST_CONFIDENCE = 0.5
LEAST_GAP = 0.3

Raw = Mapping[str, str]
Pair = Mapping[str, Any]


def read_raw(path: Path) -> dict[str, Raw]:
    """Return the rows by model and task.

    Raises:
        OSError: the file cannot be read.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return {f"{row['model_id']}/{row['task_id']}": row for row in csv.DictReader(file)}


def check_datasets(datasets: Mapping[str, Sequence[Pair]], rows: Mapping[str, Raw]) -> list[str]:
    """Return what is wrong with the datasets, by name, one line each; nothing where all obey.

    Every dataset has exactly 80 distinct pairs, no pair is in two of them, and no answer is used twice.
    """
    problems: list[str] = []
    seen_pairs: set[str] = set()
    seen_answers: set[tuple[str, str]] = set()
    for name, pairs in datasets.items():
        distinct = {pair["pair_id"] for pair in pairs}
        if (len(pairs), len(distinct)) != (PAIRS_PER_JOB, PAIRS_PER_JOB):
            problems.append(f"{name}: {len(pairs)} pairs, {len(distinct)} of them distinct, not {PAIRS_PER_JOB}")
        if distinct & seen_pairs:
            problems.append(f"{name}: {len(distinct & seen_pairs)} pairs are in an earlier dataset")
        seen_pairs |= distinct
        for pair in pairs:
            for side in ("chosen", "rejected"):
                answer = (pair["kind"], pair[f"{side}_experience_id"])
                if answer in seen_answers:
                    problems.append(f"{name}: pair {pair['pair_id']} uses {answer} a second time")
                seen_answers.add(answer)
            problems += [f"{name}: pair {pair['pair_id']}: {what}" for what in broken_rules(pair, rows)]
    return problems


def broken_rules(pair: Pair, rows: Mapping[str, Raw]) -> list[str]:
    """Return the rules that a pair breaks, judged from the raw rows."""
    chosen, rejected = rows.get(pair["chosen_experience_id"]), rows.get(pair["rejected_experience_id"])
    if chosen is None or rejected is None:
        return ["an experience of it is not in the data"]
    kind = pair["kind"]
    good, bad = _reward(chosen), _reward(rejected)
    said = {"chosen": _answer(kind, chosen), "rejected": _answer(kind, rejected)}
    first, second = _device_types(chosen), _device_types(rejected)
    shared = set(_domains(chosen)) & set(_domains(rejected))
    holds = {
        "the chosen reward is not above 0.1": good > CHOSEN_ABOVE,
        "the rejected reward is not below -0.1": bad < REJECTED_BELOW,
        "the confidence is below 0.5": pair["evaluation_confidence"] >= LEAST_CONFIDENCE,
        "the gap is below 0.3": good - bad >= LEAST_GAP,
        "its rewards are not the labels": (pair["chosen_reward"], pair["rejected_reward"]) == (good, bad),
        "its gap is not that of the rewards": abs(pair["reward_gap"] - (good - bad)) < 1e-9,
        "its confidence is not the evaluator's": pair["evaluation_confidence"] == 1.0,
        "an answer of it is empty": bool(said["chosen"]) and bool(said["rejected"]),
        "the two answers agree": said["chosen"] != said["rejected"],
        "the intents differ": _domains(chosen)[0] == _domains(rejected)[0] == pair["intent_type"],
        "no domain is shared": bool(shared) and set(pair["shared_domains"]) == shared,
        "no device type is shared": not first or not second or bool(first & second),
        "a prompt is not the row's": (pair["prompt"], pair["rejected_prompt"]) == (chosen["text"], rejected["text"]),
        "the chosen answer is not the row's": _says(kind, pair["chosen"]) == said["chosen"],
        "the rejected answer is not the row's": _says(kind, pair["rejected"]) == said["rejected"],
        "a query of it is withheld": not is_withheld(chosen["text"]) and not is_withheld(rejected["text"]),
    }
    return [rule for rule, held in holds.items() if not held]


def is_withheld(text: str) -> bool:
    """Whether the rows of a query are not streamed as feedback."""
    return int(hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest(), 16) % 5 == 0


def _reward(row: Raw) -> float:
    # An evaluator alone, who is sure: confidence 1.0 times its reward.
    return 1.0 * {"Good": 1.0, "Bad": -1.0}[row["label"]]


def _domains(row: Raw) -> list[str]:
    return [name.strip() for name in row["category"].split(",") if name.strip()]


def _call(row: Raw) -> Any:
    try:
        return ast.literal_eval(row["tool_call"].strip())
    except (ValueError, SyntaxError):
        return row["tool_call"].strip() or None


def _device_types(row: Raw) -> set[str]:
    call = _call(row)
    if not isinstance(call, dict):
        return set()
    domain = call["tool_args"].get("domain") or []
    return set(map(str, domain)) if isinstance(domain, list) else {str(domain)}


def _answer(kind: str, row: Raw) -> Any:
    """Return what a row's answer says: tool and arguments as one JSON text, or the reply."""
    if kind == "voice":
        return row["response"].strip() or None
    call = _call(row)
    if isinstance(call, dict):
        return json.dumps([call["tool_name"], call["tool_args"]], sort_keys=True)
    return call


def _says(kind: str, content: Any) -> Any:
    """Return what a pair's answer says, in the same form."""
    if kind == "voice":
        return content.strip() or None
    if not isinstance(content, list) or len(content) != 1:
        return content
    [widget] = content
    if "params" in widget:
        return json.dumps([widget["widget_type"], widget["params"]], sort_keys=True)
    return widget["text"]


def read_datasets(paths: Iterable[Path]) -> dict[str, list[Pair]]:
    """Return the pairs of each file, named by its folder.

    Raises:
        OSError: a file cannot be read.
        ValueError: a line is not JSON.
    """
    return {path.parent.name: list(_pairs(path)) for path in paths}


def _pairs(path: Path) -> Iterator[Pair]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def main(arguments: Sequence[str]) -> int:
    """Print every problem; 0 where there is none, 1 where there is one, 2 for wrong usage."""
    if len(arguments) < 2:
        print("usage: python -m benchmarks.check_pairs CSV DATASET...", file=sys.stderr)
        return 2
    try:
        rows, datasets = read_raw(Path(arguments[0])), read_datasets(map(Path, arguments[1:]))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    problems = check_datasets(datasets, rows)
    print("\n".join(problems) or f"{len(datasets)} datasets, {sum(map(len, datasets.values()))} pairs: all obey")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
