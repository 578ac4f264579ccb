"""What a response of the Anthropic SDK becomes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types import Message, RedactedThinkingBlock, TextBlock, ThinkingBlock, ToolUseBlock, Usage

from schemas.settings import TracesSettings
from streams.client import CaptureError, to_trace
from trainers.traces.suitability import assess


def message(*content: Any, stop_reason: Any = "end_turn", **usage: int) -> Message:
    return Message(
        id="msg_1",
        content=list(content),
        model="claude-sonnet-4-5",
        role="assistant",
        type="message",
        stop_reason=stop_reason,
        usage=Usage(**{"input_tokens": 140, "output_tokens": 504, **usage}),
    )


THINKING = ThinkingBlock(type="thinking", thinking="The pump is 001.", signature="s")
TEXT = TextBlock(type="text", text="4.2 mm/s.")


def test_thinking_and_answer_are_kept_apart() -> None:
    trace = to_trace(message(THINKING, TEXT), messages="Vibration of pump 001?", latency_seconds=14.9, confidence=0.8)
    assert trace.model_dump(exclude={"timestamp"}, exclude_none=True) == {
        "schema_version": 1,
        "trace_id": "msg_1",
        "kind": "user_query",
        "prompt": "Vibration of pump 001?",
        "thinking": "The pump is 001.",
        "response": "4.2 mm/s.",
        "model": "claude-sonnet-4-5",
        "input_tokens": 140,
        "output_tokens": 504,
        "latency_seconds": 14.9,
        "confidence": 0.8,
        "stop_reason": "end_turn",
    }
    assert assess(trace, TracesSettings()).grade == "excellent"


def test_response_without_thinking_has_none() -> None:
    assert to_trace(message(TEXT), messages="q").thinking is None
    hidden = RedactedThinkingBlock(type="redacted_thinking", data="opaque")
    assert to_trace(message(hidden, TEXT), messages="q").thinking is None


def test_tool_call_is_part_of_the_answer() -> None:
    call = ToolUseBlock(type="tool_use", id="t1", name="show_gauge", input={"pump": "001"})
    assert to_trace(message(TEXT, call), messages="q").response == (
        '4.2 mm/s.\n{"tool": "show_gauge", "input": {"pump": "001"}}'
    )


def test_cached_tokens_are_tokens_of_the_prompt() -> None:
    trace = to_trace(message(TEXT, cache_read_input_tokens=1000, cache_creation_input_tokens=60), messages="q")
    assert trace.input_tokens == 1200


def test_answer_that_was_cut_off_is_unusable() -> None:
    trace = to_trace(message(THINKING, TEXT, stop_reason="max_tokens"), messages="q")
    assert "truncated" in assess(trace, TracesSettings()).reasons


def test_conversation_is_written_with_its_roles() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{"type": "text", "text": "yes?"}]},
        {"role": "user", "content": [{"type": "text", "text": "what is this"}, image]},
    ]
    prompt = to_trace(message(TEXT), messages=messages).prompt
    assert prompt == "user: hello\n\nassistant: yes?\n\nuser: what is this\n[image]"


def test_every_text_is_redacted_before_it_is_in_the_trace() -> None:
    trace = to_trace(
        message(
            ThinkingBlock(type="thinking", thinking="Ann asks", signature="s"), TextBlock(type="text", text="Ann!")
        ),
        messages="I am Ann",
        system=[{"type": "text", "text": "You serve Ann"}],
        redact=lambda text: text.replace("Ann", "[name]"),
    )
    assert "Ann" not in trace.to_json().decode()
    assert (trace.prompt, trace.system) == ("I am [name]", "You serve [name]")
    assert (trace.thinking, trace.response) == ("[name] asks", "[name]!")


@pytest.mark.parametrize(
    "response",
    [
        SimpleNamespace(id="x"),
        SimpleNamespace(id="x", content=None),
        message(TextBlock(type="text", text="x" * 600_000)),
    ],
)
def test_what_is_no_response_is_refused_in_one_line(response: Any) -> None:
    with pytest.raises(CaptureError, match="no trace can be made of") as caught:
        to_trace(response, messages="q")
    assert "\n" not in str(caught.value)
