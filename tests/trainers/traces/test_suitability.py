from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.thinking_traces import load_traces
from schemas.events import Trace
from schemas.settings import TracesSettings
from trainers.traces.suitability import assess, estimated_tokens, is_eligible

DATA = Path(__file__).parents[4] / "shared" / "data" / "thinking_traces"
SETTINGS = TracesSettings()


def trace(**changes):
    fields = {
        "trace_id": "t",
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "kind": "user_query",
        "prompt": "why?",
        "thinking": "let me see",
        "response": "because",
        "model": "m",
        "stop_reason": "stop",
    }
    return Trace.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "grade", "reasons"),
    [
        ({}, "excellent", ()),
        ({"thinking": None}, "limited", ("no_thinking",)),
        ({"thinking": " \n"}, "limited", ("no_thinking",)),
        ({"thinking": None, "thinking_omitted": True}, "limited", ("thinking_omitted",)),
        ({"redacted_thinking": 1}, "limited", ("redacted_thinking",)),
        ({"thinking": None, "redacted_thinking": 1}, "limited", ("no_thinking", "redacted_thinking")),
        ({"stop_reason": "end_turn"}, "excellent", ()),
        ({"stop_reason": "stop_sequence"}, "excellent", ()),
        ({"stop_reason": "eos"}, "excellent", ()),
        ({"stop_reason": None}, "excellent", ()),
        ({"stop_reason": "tool_use"}, "unusable", ("tool_use",)),
        ({"stop_reason": "tool_calls"}, "unusable", ("tool_use",)),
        ({"stop_reason": "refusal"}, "unusable", ("unfinished",)),
        ({"stop_reason": "pause_turn"}, "unusable", ("unfinished",)),
        ({"stop_reason": "model_context_window_exceeded"}, "unusable", ("unfinished",)),
        ({"stop_reason": "content_filter"}, "unusable", ("unfinished",)),
        ({"stop_reason": "error"}, "unusable", ("unfinished",)),
        ({"stop_reason": "whatever comes next"}, "unusable", ("unfinished",)),
        ({"thinking": None, "response": "<think>let me see</think>because"}, "excellent", ()),
        ({"thinking": None, "response": "<think></think>because"}, "limited", ("no_thinking",)),
        ({"thinking": None, "response": "<think>let me see"}, "unusable", ("no_thinking", "truncated")),
        ({"thinking": None, "response": "<think>let me see</think> "}, "unusable", ("empty",)),
        ({"response": " "}, "unusable", ("empty",)),
        ({"prompt": ""}, "unusable", ("empty",)),
        ({"stop_reason": "length"}, "unusable", ("truncated",)),
        ({"stop_reason": "max_tokens"}, "unusable", ("truncated",)),
        ({"response": "", "thinking": "", "stop_reason": "length"}, "unusable", ("empty", "no_thinking", "truncated")),
        ({"input_tokens": 8000, "output_tokens": 192}, "excellent", ()),
        ({"input_tokens": 8000, "output_tokens": 193}, "unusable", ("too_long",)),
    ],
)
def test_a_trace_is_graded_with_its_reasons(changes, grade, reasons):
    found = assess(trace(**changes), SETTINGS)
    assert (found.grade, found.reasons) == (grade, reasons)


def test_reasoning_within_the_answer_is_parted_from_it():
    found = trace(thinking=None, response="\n<think>\nlet me see\n</think>\n\nbecause")
    assert (found.thinking, found.response) == ("let me see", "because")
    none = trace(thinking=None, response="<think>\n\n</think>\n\nbecause")
    assert (none.thinking, none.response) == (None, "because")
    kept = trace(thinking="mine", response="<think>a tag</think> said")
    assert (kept.thinking, kept.response) == ("mine", "<think>a tag</think> said")


def test_tokens_are_the_reported_ones_else_a_quarter_of_the_characters():
    assert estimated_tokens(trace(input_tokens=7, output_tokens=5)) == 12
    assert estimated_tokens(trace(prompt="x" * 8, system="y" * 3, output_tokens=5)) == 3 + 5
    assert estimated_tokens(trace(input_tokens=7, thinking="x" * 10, response="y" * 10)) == 7 + 5


def test_the_context_setting_has_an_effect():
    assert assess(trace(input_tokens=10, output_tokens=1), TracesSettings(max_tokens=10)).reasons == ("too_long",)


@pytest.mark.parametrize(
    ("changes", "required", "eligible"),
    [
        ({}, True, True),
        ({"thinking": None}, True, False),
        ({"thinking": None}, False, True),
        ({"thinking": None, "stop_reason": "length"}, False, False),
        ({"response": ""}, False, False),
    ],
)
def test_only_traces_with_thinking_are_eligible_unless_set_otherwise(changes, required, eligible):
    settings = TracesSettings(require_thinking=required)
    assert is_eligible(assess(trace(**changes), settings), settings) is eligible


@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded thinking traces are not in ../shared/data")
def test_the_recorded_traces_are_graded_as_known():
    traces = load_traces(DATA)
    assert len({trace.trace_id for trace in traces}) == len(traces) == 400
    first_reasons = Counter(next(iter(assess(trace, SETTINGS).reasons), "excellent") for trace in traces)
    assert first_reasons == {"excellent": 189, "no_thinking": 200, "truncated": 6, "empty": 5}
    assert sum(is_eligible(assess(trace, SETTINGS), SETTINGS) for trace in traces) == 189
    assert {trace.model for trace in traces} == {"qwen3:8b"}
