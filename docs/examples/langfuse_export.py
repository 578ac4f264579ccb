"""An export as Langfuse's blob storage has it, to walk the guide to adoption with: `langfuse_export.py FOLDER`.

A hundred questions were each asked twice; a thumb is up for the answer that helps, down for the other one. One line of
the scores is torn, as it is where a disk was full.
"""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

QUESTIONS = 100
TORN = 41
"""Line of the scores."""
BEGAN = datetime(2026, 10, 1, 9)


def at(seconds: float) -> str:
    """Return a time as such an export writes it."""
    return (BEGAN + timedelta(seconds=seconds)).isoformat(sep=" ", timespec="microseconds")


def generation(number: int, question: int, answer: str) -> dict[str, Any]:
    """Return the call of a model, an observation of the trace of this number."""
    asked = [
        {"role": "system", "content": "You watch a chiller plant."},
        {"role": "user", "content": f"How warm is chiller {question}?"},
    ]
    content = [{"type": "text", "text": answer}]
    if number % 20 == 0:
        content.insert(0, {"type": "thinking", "thinking": f"The sensor of chiller {question} was read just now."})
    return {
        "id": f"observation-{number}",
        "trace_id": f"trace-{number}",
        "trace_name": "plant-assistant",
        "type": "GENERATION",
        "name": "answer",
        "start_time": at(number * 60),
        "end_time": at(number * 60 + 2),
        "latency": 2.0,
        "provided_model_name": "claude-sonnet-4-5",
        "input": json.dumps(asked),
        "output": json.dumps({"role": "assistant", "content": content, "stop_reason": "end_turn"}),
        "usage_details": {"input": 40, "output": 20},
    }


def thumb(number: int, up: bool) -> dict[str, Any]:
    """Return the score that a user gave the trace of this number."""
    when = at(number * 60 + 30)
    score = {"id": f"score-{number}", "trace_id": f"trace-{number}", "name": "thumb", "source": "API"}
    return {**score, "data_type": "BOOLEAN", "value": float(up), "string_value": str(up), "timestamp": when}


def main(folder: Path) -> None:
    """Write `observations.jsonl` and `scores.jsonl`."""
    observations, scores = [], []
    for number in range(2 * QUESTIONS):
        question, helps = number // 2, number % 2 == 0
        answer = f"Chiller {question} is at {6 + question % 5} degrees." if helps else "Please ask the shift leader."
        observations.append(json.dumps(generation(number, question, answer)))
        scores.append(json.dumps(thumb(number, helps)))
    scores[TORN - 1] = scores[TORN - 1][:60]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "observations.jsonl").write_text("\n".join(observations) + "\n")
    (folder / "scores.jsonl").write_text("\n".join(scores) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
