"""What a version was made from, example by example: one line each of `lineage.jsonl`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from schemas.events import LabelledAnswer, PreferencePair, Trace, TrainingExample
from trainers.jobs.heldout import Split, id_of, prompts_of

AnySplit = Split[PreferencePair] | Split[LabelledAnswer] | Split[Trace]

HELD_OUT_PROMPT = "held_out_prompt"
"""Why a pair is dropped whose rejected answer alone is of a prompt that is held out."""
NOT_REACHED = "not_reached"
"""Why an example is dropped that `max_steps` ended the training before."""


@dataclass(frozen=True)
class Record:
    """Of every example of a job exactly one of: trained on, held out, dropped with a reason."""

    trained: list[TrainingExample]
    held_out: list[TrainingExample]
    dropped: list[tuple[TrainingExample, str]]
    cut: frozenset[str]
    """Ids of those trained on that were shortened."""

    def counts(self) -> dict[str, JsonValue]:
        """Return the figures that a version and a job tell."""
        return {
            "trained_on": len(self.trained),
            "held_out_of_job": len(self.held_out),
            "dropped": dict(Counter(reason for _, reason in self.dropped)),
            "cut": len(self.cut),
        }

    def lines(self) -> Iterator[bytes]:
        """Yield a line of `lineage.jsonl` for each example."""
        for example in self.trained:
            cut: dict[str, JsonValue] = {"cut": True} if id_of(example) in self.cut else {}
            yield _line(example, "training", cut)
        for example in self.held_out:
            yield _line(example, "held_out", {})
        for example, reason in self.dropped:
            yield _line(example, "dropped", {"reason": reason})


def make_record(
    examples: AnySplit,
    dropped: Mapping[str, tuple[TrainingExample, str]],
    cut: frozenset[str],
    trained: frozenset[str],
) -> Record:
    """Put together what became of a job's examples.

    Args:
        examples: those that fit, parted.
        dropped: by id those that did not, with the reason.
        cut: ids of those that were shortened.
        trained: ids of those that the trainer was given.
    """
    return Record(
        trained=[one for one in examples.training if id_of(one) in trained],
        held_out=list(examples.held_out),
        dropped=[
            *dropped.values(),
            *((one, HELD_OUT_PROMPT) for one in examples.left_out),
            *((one, NOT_REACHED) for one in examples.training if id_of(one) not in trained),
        ],
        cut=cut & trained,
    )


def _line(example: TrainingExample, use: str, more: dict[str, JsonValue]) -> bytes:
    return json.dumps({"id": id_of(example), "use": use, **more, **_origin(example)}).encode() + b"\n"


def _origin(example: TrainingExample) -> dict[str, JsonValue]:
    prompts: list[JsonValue] = [*prompts_of(example)]
    if isinstance(example, Trace):
        experiences: list[JsonValue] = [] if example.experience_id is None else [example.experience_id]
        return {"kind": example.kind, "experience_ids": experiences, "model": example.model, "prompts": prompts}
    if isinstance(example, LabelledAnswer):
        return {
            "kind": example.kind,
            "experience_ids": [example.experience_id],
            "feedback_ids": [*example.feedback_ids],
            "good": example.good,
            "prompts": prompts,
        }
    return {
        "kind": example.kind,
        "experience_ids": [example.chosen_experience_id, example.rejected_experience_id],
        "feedback_ids": [*example.chosen_feedback_ids, *example.rejected_feedback_ids],
        "prompts": prompts,
    }
