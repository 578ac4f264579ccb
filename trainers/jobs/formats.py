"""How answers and reasoning become chat messages, and back. A change of any text here is a new `FORMAT_VERSION`."""

from __future__ import annotations

import json
import re

from pydantic import JsonValue

from schemas.events import LabelledAnswer, PreferencePair, Trace, TrainingExample

FORMAT_VERSION = 1
"""Recorded with every version: a model must be asked in the format that it was trained in."""

PLAN_INSTRUCTION = "Answer with the dashboard's widgets as a JSON list."
REPLY_INSTRUCTION = "Answer in one short spoken reply."

Message = dict[str, str]

_THINKING = re.compile(r"<think>\n(.*?)\n</think>\n\n(.*)", re.DOTALL)


def plan_text(plan: JsonValue) -> str:
    """Return a widget plan as compact JSON; widget ids only tell the widgets of one plan apart and are left out."""
    widgets = plan if isinstance(plan, list) else [plan]
    without_ids = [
        {name: value for name, value in widget.items() if name != "widget_id"} if isinstance(widget, dict) else widget
        for widget in widgets
    ]
    return json.dumps(without_ids, ensure_ascii=False, separators=(",", ":"))


def parse_plan(text: str) -> list[JsonValue]:
    """Return the widget plan that a model has written, its widgets numbered from `w0`.

    Raises:
        ValueError: the text is no JSON list.
    """
    plan = json.loads(text)
    if not isinstance(plan, list):
        raise ValueError("a widget plan is a JSON list")
    return [
        {"widget_id": f"w{number}", **widget} if isinstance(widget, dict) else widget
        for number, widget in enumerate(plan)
    ]


def answer_text(thinking: str | None, response: str) -> str:
    """Return reasoning and answer as the text of one message, the reasoning between its marks."""
    return response if thinking is None else f"<think>\n{thinking}\n</think>\n\n{response}"


def split_answer(text: str) -> tuple[str | None, str]:
    """Return reasoning and answer of a message; no reasoning where its marks are not there."""
    match = _THINKING.fullmatch(text)
    return (match[1], match[2]) if match else (None, text)


def prompt_messages(kind: str, query: str) -> list[Message]:
    """Return the question for a widget plan (`widget`) or a spoken reply (`voice`)."""
    instruction = PLAN_INSTRUCTION if kind == "widget" else REPLY_INSTRUCTION
    return [{"role": "system", "content": instruction}, {"role": "user", "content": query}]


def answer_message(content: JsonValue) -> Message:
    """Return an answer of a preference pair: a reply as it is, a widget plan as JSON."""
    return {"role": "assistant", "content": content if isinstance(content, str) else plan_text(content)}


def pair_messages(pair: PreferencePair) -> dict[str, list[Message]]:
    """Return `prompt`, `chosen` and `rejected` of a pair, as TRL's DPO takes them."""
    return {
        "prompt": prompt_messages(pair.kind, pair.prompt),
        "chosen": [answer_message(pair.chosen)],
        "rejected": [answer_message(pair.rejected)],
    }


def labelled_messages(answer: LabelledAnswer) -> dict[str, list[Message]]:
    """Return `prompt` and `completion` of a labelled answer, as TRL's KTO takes them."""
    return {"prompt": prompt_messages(answer.kind, answer.prompt), "completion": [answer_message(answer.answer)]}


def conversations(example: TrainingExample) -> tuple[list[Message], ...]:
    """Return an example's conversations: a pair's two, the chosen first; a labelled answer's or a trace's one."""
    if isinstance(example, Trace):
        return (trace_messages(example),)
    if isinstance(example, LabelledAnswer):
        parts = labelled_messages(example)
        return (parts["prompt"] + parts["completion"],)
    parts = pair_messages(example)
    return tuple(parts["prompt"] + parts[side] for side in ("chosen", "rejected"))


def trace_messages(trace: Trace) -> list[Message]:
    """Return a trace as a conversation: its turns where it has them, else its prompt, then the answer."""
    system = [{"role": "system", "content": trace.system}] if trace.system else []
    turns = [{"role": turn.role, "content": turn.content} for turn in trace.messages or ()]
    answer = answer_text(trace.thinking, trace.response)
    return [*system, *(turns or [{"role": "user", "content": trace.prompt}]), {"role": "assistant", "content": answer}]
