"""The content of messages, in the dialects of the model APIs: mappings from a log, or the SDKs' own objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.events import flat_prompt

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""What each dialect calls the four roles of a turn."""

_TEXT = ("text", "output_text", "input_text", "refusal")
_THINKING = ("thinking", "reasoning")
_CALLS = ("tool_use", "tool_call", "function_call")
_RESULTS = ("tool_result", "tool_call_response")
_ANSWERS = (*_TEXT, *_CALLS)
_NOT_SENT_AGAIN = (*_THINKING, "redacted_thinking")


class Said(NamedTuple):
    """What a model's message says."""

    text: str
    """The answer, calls of tools in it as JSON."""
    thinking: str | None
    omitted: bool
    """Whether it thought, and the API left the text out."""
    redacted: int
    """Blocks of thinking that came encrypted."""
    calls_tool: bool

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a `Trace` that it makes; None where it says nothing of one."""
        return {
            "thinking": self.thinking,
            "thinking_omitted": self.omitted or None,
            "redacted_thinking": self.redacted or None,
            "response": self.text,
        }


def said(message: Any) -> Said:
    """Return what a model's message says, its thinking apart."""
    blocks = blocks_of(message)
    kinds = [kind_of(block) for block in blocks]
    thinking = [
        text for block, kind in zip(blocks, kinds, strict=True) if kind in _THINKING if (text := _thought(block))
    ]
    return Said(
        text="\n".join(as_text(block) for block, kind in zip(blocks, kinds, strict=True) if kind in _ANSWERS),
        thinking="\n\n".join(thinking) or None,
        omitted=not thinking and any(kind in _THINKING for kind in kinds),
        redacted=kinds.count("redacted_thinking"),
        calls_tool=any(kind in _CALLS for kind in kinds),
    )


def turns_of(messages: Iterable[Any]) -> list[dict[str, str]]:
    """Return messages as turns of text; one that says nothing but past reasoning is left out.

    Raises:
        ValueError: a message has a role that no API knows.
    """
    turns = []
    for message in messages:
        role = role_of(message)
        if role not in ROLES:
            raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
        if text := content_text(message):
            turns.append({"role": ROLES[role], "content": text})
    return turns


def role_of(message: Any) -> str:
    """Return what a message's dialect calls its role; empty text where it tells none."""
    return str(part(message, "role") or part(message, "from"))


def last_answer(messages: Sequence[Any]) -> tuple[Sequence[Any], Any] | None:
    """Return the messages before the model's last one, and that one; None where nothing was asked and answered."""
    last = max((n for n, one in enumerate(messages) if ROLES.get(role_of(one)) == "assistant"), default=0)
    return (messages[:last], messages[last]) if last else None


def prompt_fields(turns: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return the fields of a `Trace` that a conversation before the answer makes: of one turn, the prompt alone."""
    return {"prompt": flat_prompt(turns)} | ({"messages": list(turns)} if len(turns) > 1 else {}) if turns else {}


def without_system(turns: Sequence[dict[str, str]]) -> tuple[str | None, list[dict[str, str]]]:
    """Return the system prompt that a conversation begins with, None where there is none, and the turns after it."""
    count = next((number for number, turn in enumerate(turns) if turn["role"] != "system"), len(turns))
    return "\n\n".join(turn["content"] for turn in turns[:count]) or None, list(turns[count:])


def content_text(message: Any) -> str:
    """Return what a message says as text, without past reasoning: a message, or content as it is sent."""
    if isinstance(message, str):
        return message
    return "\n".join(as_text(block) for block in blocks_of(message) if kind_of(block) not in _NOT_SENT_AGAIN)


def blocks_of(message: Any) -> list[Any]:
    """Return a message's content as blocks, whatever the dialect: its reasoning, its parts, then its calls of tools."""
    if isinstance(message, (list, tuple)):
        return list(message)
    content = next((found for name in ("content", "parts", "value") if (found := part(message, name))), ())
    reasoning = part(message, "reasoning_content") or part(message, "reasoning")
    blocks: list[Any] = (
        [{"type": "thinking", "thinking": reasoning}] if isinstance(reasoning, str) and reasoning else []
    )
    blocks += [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    if refusal := part(message, "refusal"):
        blocks.append({"type": "text", "text": str(refusal)})
    calls = [part(call, "function") or call for call in part(message, "tool_calls") or ()]
    if function := part(message, "function_call"):
        calls.append(function)
    return blocks + [{"type": "tool_use", "name": part(call, "name"), "input": _arguments(call)} for call in calls]


def as_text(block: Any) -> str:
    """Return a block as text: a call as JSON, a result as what came back; one without text is named."""
    kind = kind_of(block)
    if kind in _TEXT:
        return block if isinstance(block, str) else str(part(block, "text") or part(block, "content"))
    if kind in _CALLS:
        return json.dumps({"tool": part(block, "name"), "input": _arguments(block)}, ensure_ascii=False)
    if kind in _RESULTS:
        result = part(block, "content") or part(block, "response") or part(block, "result")
        return _plain(result)
    return f"[{kind}]"


def kind_of(block: Any) -> str:
    """Return a block's type; bare text is of type `text`."""
    return "text" if isinstance(block, str) else str(part(block, "type"))


def part(thing: Any, name: str) -> Any:
    """Return a field of a mapping or of an object of an SDK; empty text where it has none."""
    found = thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
    return "" if found is None else found


def _plain(value: Any) -> str:
    if isinstance(value, (str, list, tuple)):
        return content_text(value)
    return json.dumps(value, ensure_ascii=False)


def _thought(block: Any) -> str:
    return str(part(block, "thinking") or part(block, "content") or part(block, "text"))


def _arguments(call: Any) -> Any:
    given = part(call, "input") or part(call, "arguments") or {}
    if isinstance(given, str):
        try:
            return json.loads(given)
        except ValueError:
            return given
    return given
