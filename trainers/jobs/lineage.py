"""What a version was made from, example by example: one line each of `lineage.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import JsonValue

from schemas.events import PreferencePair, Trace
from trainers.jobs.heldout import Split, id_of, prompts_of

AnySplit = Split[PreferencePair] | Split[Trace]


def lineage_lines(examples: AnySplit) -> Iterator[bytes]:
    """Yield a line for each example of the job, with what it was used for."""
    for use, members in (
        ("training", examples.training),
        ("held_out", examples.held_out),
        ("left_out", examples.left_out),
    ):
        for example in members:
            yield json.dumps({"id": id_of(example), "use": use, **_origin(example)}).encode() + b"\n"


def _origin(example: PreferencePair | Trace) -> dict[str, JsonValue]:
    prompts: list[JsonValue] = [*prompts_of(example)]
    if isinstance(example, Trace):
        experiences: list[JsonValue] = [] if example.experience_id is None else [example.experience_id]
        return {"kind": example.kind, "experience_ids": experiences, "model": example.model, "prompts": prompts}
    return {
        "kind": example.kind,
        "experience_ids": [example.chosen_experience_id, example.rejected_experience_id],
        "feedback_ids": [*example.chosen_feedback_ids, *example.rejected_feedback_ids],
        "prompts": prompts,
    }
