"""What a response of the Anthropic SDK becomes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types import Message, RedactedThinkingBlock, TextBlock, ThinkingBlock, ToolUseBlock, Usage

from schemas.events import Trace
from schemas.settings import Settings, TracesSettings
from streams.client import AsyncClient, capture_stats, to_trace
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
def test_what_is_no_response_is_logged_in_one_line_and_counted(response: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = capture_stats().get("no_trace", 0)
    assert to_trace(response, messages="q") is None
    assert caplog.messages[0].startswith("no trace can be made of ")
    assert "\n" not in caplog.messages[0]
    assert capture_stats()["no_trace"] == before + 1


def test_a_logged_pair_of_request_and_response_becomes_the_same_trace() -> None:
    at = datetime(2026, 10, 1, tzinfo=UTC)
    request = {"system": "Be short.", "messages": [{"role": "user", "content": "Vibration?"}], "model": "claude-x"}
    logged = json.loads(message(THINKING, TEXT).model_dump_json())
    trace = to_trace(logged, request=request, timestamp=at)
    assert trace == to_trace(message(THINKING, TEXT), messages="Vibration?", system="Be short.", timestamp=at)
    assert trace.timestamp == at


def test_capture_says_how_many_it_left_out_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Counter(capture_stats())
    handed_over: list[Trace] = []

    async def submit(trace: Trace) -> None:
        handed_over.append(trace)

    client: Any = SimpleNamespace(settings=Settings(), _redact=None, submit=submit)
    named = [message(TEXT).model_copy(update={"id": f"msg_{number}"}) for number in range(200)]
    for one in named:
        asyncio.run(AsyncClient.capture(client, one, messages="q"))
    assert Counter(capture_stats()) - before == {"off": 200}
    monkeypatch.setenv("ENABLE_TIER3_CAPTURE", "true")
    for one in named:
        asyncio.run(AsyncClient.capture(client, one, messages="q"))
    found = Counter(capture_stats()) - before
    assert (found["captured"], found["captured"] + found["not_drawn"]) == (len(handed_over), 200)
    assert 10 < found["captured"] < 60


# Loops as they are written with the SDK


def test_a_loop_whose_messages_hold_the_sdks_own_blocks_becomes_turns() -> None:
    call = ToolUseBlock(type="tool_use", id="t1", name="read_gauge", input={"pump": "001"})
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "4.2 mm/s"}]}
    messages: list[Any] = [{"role": "user", "content": "Vibration?"}]
    first = message(THINKING, TextBlock(type="text", text="I look."), call, stop_reason="tool_use")
    messages.append({"role": "assistant", "content": first.content})
    messages.append({"role": "user", "content": [result]})
    trace = to_trace(message(THINKING, TEXT), messages=messages)
    assert trace.messages is not None
    assert [(turn.role, turn.content) for turn in trace.messages] == [
        ("user", "Vibration?"),
        ("assistant", 'I look.\n{"tool": "read_gauge", "input": {"pump": "001"}}'),
        ("user", "4.2 mm/s"),
    ]
    assert trace.prompt == (
        'user: Vibration?\n\nassistant: I look.\n{"tool": "read_gauge", "input": {"pump": "001"}}\n\nuser: 4.2 mm/s'
    )
    assert Trace.from_json(trace.to_json()) == trace


def test_a_whole_response_appended_as_a_turn_works() -> None:
    trace = to_trace(
        message(TEXT), messages=[{"role": "user", "content": "a"}, message(TEXT), {"role": "user", "content": "b"}]
    )
    assert trace.messages is not None
    assert [turn.content for turn in trace.messages] == ["a", "4.2 mm/s.", "b"]


def test_the_prompt_is_drawn_from_the_turns_where_it_is_not_given() -> None:
    fields = {"trace_id": "t", "timestamp": 1, "kind": "k", "response": "r", "model": "m"}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert Trace.model_validate({**fields, "messages": turns}).prompt == "user: a\n\nassistant: b\n\nuser: c"
    assert Trace.model_validate({**fields, "messages": turns[:1]}).prompt == "a"


def test_thinking_that_the_api_left_out_is_told_apart_from_none() -> None:
    empty = ThinkingBlock(type="thinking", thinking="", signature="s")
    omitted = to_trace(message(empty, TEXT), messages="q")
    assert (omitted.thinking, omitted.thinking_omitted) == (None, True)
    assert assess(omitted, TracesSettings()).reasons == ("thinking_omitted",)
    hidden = RedactedThinkingBlock(type="redacted_thinking", data="opaque")
    holed = to_trace(message(THINKING, hidden, TEXT), messages="q")
    assert (holed.thinking, holed.redacted_thinking) == ("The pump is 001.", 1)
    assert assess(holed, TracesSettings()).reasons == ("redacted_thinking",)


@pytest.mark.parametrize("response", [SimpleNamespace(id="x"), SimpleNamespace(), None, message(TEXT)])
def test_capture_never_raises_into_the_serving_path(response: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENABLE_TIER3_CAPTURE", "true")
    messages: Any = 7 if isinstance(response, Message) else "q"
    client: Any = SimpleNamespace(settings=Settings(), _redact=None)
    assert asyncio.run(AsyncClient.capture(client, response, messages=messages, confidence=1.0)) is None
