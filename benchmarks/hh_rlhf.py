"""The hh_rlhf rows: people's choices between two replies that end the same dialogue. Queries do not repeat."""

from __future__ import annotations

import gzip
import json
import random
from itertools import takewhile
from pathlib import Path

from benchmarks.home_assistant import Row

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hh_rlhf" / "harmless-base-test.jsonl.gz"
"""Where the rows are, beside the project; never copied into it."""

_REPLY = "\n\nAssistant:"
_QUERY_CHARACTERS = 8000
"""Of a dialogue, its last."""


def load_rows(path: Path = DATA) -> list[Row]:
    """Return two rows a choice, all in one random order, the same at every call; the chosen reply is good.

    Raises:
        FileNotFoundError: the data is not there.
    """
    answers: list[tuple[str, bool, str]] = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            raw = json.loads(line)
            alike = takewhile(lambda both: both[0] == both[1], zip(raw["chosen"], raw["rejected"], strict=False))
            dialogue = "".join(one for one, _ in alike)
            dialogue = dialogue[: dialogue.rfind(_REPLY) + len(_REPLY)] if _REPLY in dialogue else ""
            query = dialogue.removesuffix(_REPLY).strip()[-_QUERY_CHARACTERS:]
            chosen, rejected = (raw[side][len(dialogue) :].strip() for side in ("chosen", "rejected"))
            if query and chosen and rejected and chosen != rejected:
                answers += [(query, True, chosen), (query, False, rejected)]
    random.Random(0).shuffle(answers)
    return [
        Row(number, f"choice/{number}", query, ("chat",), "", reply, good, "unknown")
        for number, (query, good, reply) in enumerate(answers)
    ]
