"""Imports: what each format's sample holds, what is left out and why, and what a broken line costs."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.base import Event
from schemas.errors import InputError
from schemas.events import Experience, Trace
from schemas.settings import Settings, TracesSettings
from streams.history.importing import Imported, found_in, import_files
from streams.imports.events import Making, reward_of
from streams.imports.files import Files
from streams.imports.found import Bad, LeftOut, Ready
from streams.imports.preview import Preview
from streams.imports.registry import formats
from trainers.traces.suitability import assess

DATA = Path(__file__).parents[1] / "data" / "imports"


def found(*names: str | Path, form: str | None = None, **making: Any) -> tuple[list[Event], Counter[str], list[Bad]]:
    """Return the events of samples, the count of what was left out, and what was bad."""
    files = Files([DATA / name for name in names])
    all_found = list(found_in(files, None if form is None else formats()[form], Making(**making), Imported()))
    left_out = Counter(one.reason for one in all_found if isinstance(one, LeftOut))
    bad = [one for one in all_found if isinstance(one, Bad)]
    return [one.event for one in all_found if isinstance(one, Ready)], left_out, bad


def counted(events: list[Event]) -> dict[str, int]:
    return dict(Counter(type(event).__name__ for event in events))


@pytest.mark.parametrize(
    ("names", "expected", "left_out"),
    [
        (["anthropic-pairs.jsonl"], {"Experience": 5, "Trace": 5}, {}),
        (
            ["anthropic-batch-results.jsonl", "anthropic-batch-requests.jsonl"],
            {"Experience": 2, "Trace": 1},
            {"request": 3, "batch_errored": 1},
        ),
        (["anthropic-batch-results.jsonl"], {}, {"no_request": 2, "batch_errored": 1}),
        (["openai-stored.json"], {"Experience": 1, "Trace": 1}, {"tool_call": 1}),
        (["openai-fine-tuning.jsonl"], {"Experience": 2, "Trace": 1}, {}),
        (["openai-preferences.jsonl"], {"Experience": 2, "Feedback": 2}, {}),
        (["otel-spans.json"], {"Experience": 2, "Trace": 2}, {"no_messages": 3, "no_model_call": 3}),
        (
            ["langfuse-api.json", "langfuse-scores.json"],
            {"Experience": 3, "Trace": 1, "Feedback": 3},
            {"observation_span": 1, "score_without_answer": 1},
        ),
        (
            ["langfuse-blob"],
            {"Experience": 3, "Trace": 1, "Feedback": 3},
            {"observation_span": 1, "score_without_answer": 1},
        ),
        (["claude-code-reminder.jsonl"], {"Experience": 1}, {"turn": 2}),
        (
            ["claude-code-thinking.jsonl"],
            {"Experience": 1, "Trace": 2},
            {"turn": 5, "line_summary": 1, "line_system": 1},
        ),
        (["sharegpt-toolcall.json"], {"Experience": 2}, {}),
        (["tierstream-export"], {"Experience": 3, "Feedback": 3, "Trace": 1}, {}),
    ],
)
def test_a_sample_is_recognised_and_accounted_for(
    names: list[str], expected: dict[str, int], left_out: dict[str, int]
) -> None:
    events, reasons, bad = found(*names)
    assert (counted(events), reasons, bad) == (expected, left_out, [])
    again, _, _ = found(*names)
    assert again == events


def test_both_spellings_of_langfuse_give_the_same() -> None:
    api, blob = found("langfuse-api.json", "langfuse-scores.json")[0], found("langfuse-blob")[0]
    assert sorted(event.to_json() for event in api) == sorted(event.to_json() for event in blob)


def test_thinking_is_told_by_the_rules_of_traces() -> None:
    traces = [event for event in found("anthropic-pairs.jsonl")[0] if isinstance(event, Trace)]
    reasons = {trace.trace_id: assess(trace, TracesSettings()).reasons for trace in traces}
    assert reasons == {
        "msg_01": (),
        "msg_02": ("tool_use",),
        "msg_04": ("truncated",),
        "msg_05": ("thinking_omitted",),
        "msg_06": ("no_thinking", "redacted_thinking"),
    }
    first = traces[0]
    assert (first.input_tokens, first.output_tokens, first.latency_seconds) == (141, 77, 2.1)
    assert (first.system, first.stop_reason) == ("You watch a chiller plant.", "end_turn")
    assert first.timestamp.isoformat() == "2026-10-01T08:00:00+00:00"
    assert first.experience_id == "msg_01"


def test_turns_stay_turns_with_calls_and_results() -> None:
    *_, last = (event for event in found("claude-code-thinking.jsonl")[0] if isinstance(event, Trace))
    assert [(turn.role, turn.content) for turn in last.messages or ()] == [
        ("user", "Why does the parser test fail?"),
        ("assistant", 'Let me look.\n{"tool": "Read", "input": {"file_path": "/tmp/project/test_parser.py"}}'),
        ("user", "assert parse('1') == 2"),
    ]
    assert (last.thinking, last.response) == (
        "parse returns 1, the test expects 2.",
        "The test is wrong: it expects 2 of '1'.",
    )


SAMPLES = {
    "anthropic": ["anthropic-pairs.jsonl"],
    "openai": ["openai-fine-tuning.jsonl", "openai-stored.json", "openai-preferences.jsonl"],
    "otel": ["otel-spans.json"],
    "langfuse": ["langfuse-blob"],
    "claude-code": ["claude-code-thinking.jsonl"],
    "sharegpt": ["sharegpt-toolcall.json"],
    "tierstream": ["tierstream-export"],
}
"""Of each format."""


def lines_of(form: str) -> list[bytes]:
    """Return a format's samples as lines; an export of spans as one of each span."""
    records = [one for one in Files([DATA / name for name in SAMPLES[form]]).read() if not isinstance(one, Bad)]
    values: list[Any] = [record.value for record in records]
    if form == "otel":
        resources = [resource for value in values for resource in value["resourceSpans"]]
        parts = [
            (resource, scope, span)
            for resource in resources
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
        values = [{"resourceSpans": [{**r, "scopeSpans": [{**s, "spans": [span]}]}]} for r, s, span in parts]
    return [json.dumps(value).encode() for value in values]


def test_every_format_has_a_sample() -> None:
    assert SAMPLES.keys() == formats().keys()


@pytest.mark.parametrize("form", SAMPLES)
@pytest.mark.parametrize("broken", [b'{"half', b'{"unknown": 1}', b"5", b"\xff\xfe"])
def test_a_broken_line_in_the_middle_is_named_and_costs_nothing_else(tmp_path: Path, form: str, broken: bytes) -> None:
    lines, path = lines_of(form), tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join(lines))
    whole, all_reasons, none = found(path, form=form)
    middle = len(lines) // 2
    path.write_bytes(b"\n".join([*lines[:middle], broken, *lines[middle:]]))
    events, reasons, bad = found(path, form=form)
    assert (none, [one.where for one in bad]) == ([], [f"line {middle + 1}"])
    assert (len(events), reasons) == (len(whole), all_reasons)
    assert len(whole) >= 2


@pytest.mark.parametrize("form", SAMPLES)
def test_the_account_of_a_sample_adds_up_by_record(tmp_path: Path, form: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join([*lines_of(form), b"{"]))
    done = asyncio.run(
        import_files([path], None, Making(), Settings(), dry_run=True, on_bad=lambda *_: None, progress=lambda *_: None)
    )
    assert done.format == form
    assert done.records == len(done.places) == len(lines_of(form)) + 1
    became = Counter(done.places.values())
    assert became["bad"] == done.bad == 1
    assert became["with events"] >= 1


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log.jsonl").write_bytes(b"\n".join([*lines_of("anthropic"), b"{"]))
    _, _, bad = found(tmp_path, form="anthropic")
    assert [one.where for one in bad] == [f"{tmp_path}/{day}/log.jsonl: line 7" for day in ("monday", "tuesday")]


def test_packed_bom_crlf_and_folders_are_read_alike(tmp_path: Path) -> None:
    data = (DATA / "anthropic-pairs.jsonl").read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    (tmp_path / "c.json").write_text(json.dumps([json.loads(line) for line in data.splitlines()], indent=2))
    plain = found("anthropic-pairs.jsonl")[0]
    for name in ("a.jsonl.gz", "b.jsonl", "c.json"):
        assert found(tmp_path / name)[0] == plain, name
    events, reasons, _ = found(tmp_path)
    assert (events, reasons) == (plain, {"repeated": 20})


def test_answers_to_one_prompt_or_of_one_task_share_a_domain() -> None:
    first, second = (e for e in found("openai-preferences.jsonl")[0] if isinstance(e, Experience))
    assert first.intent == second.intent
    assert first.intent.type == "chat"
    named = [e for e in found("langfuse-blob")[0] if isinstance(e, Experience)]
    assert {one.intent.domains[0] for one in named} == {"control-room"}
    assert len({one.intent.domains[1] for one in named}) == 2


def test_intent_and_domain_come_from_a_field_or_a_constant() -> None:
    events, _, _ = found("langfuse-blob", intent=".environment", domain="plant")
    assert {e.intent.type for e in events if isinstance(e, Experience)} == {"chat"}
    events, _, _ = found("langfuse-blob", intent=".trace_name", domain="plant")
    assert {(e.intent.type, e.intent.domains) for e in events if isinstance(e, Experience)} == {
        ("control-room", ("plant",))
    }


@pytest.mark.parametrize(
    ("value", "scale", "reward"),
    [
        (True, (0.0, 1.0), 1.0),
        (0.0, (0.0, 1.0), -1.0),
        (0.75, (0.0, 1.0), 0.5),
        (-1.0, (0.0, 1.0), -1.0),
        (3, (1.0, 5.0), 0.0),
        (0.0, (-1.0, 1.0), 0.0),
        (1, (5.0, 1.0), 1.0),
        ("Correct", (0.0, 1.0), 1.0),
        ("perhaps", (0.0, 1.0), "score_is_no_number"),
        (4, (0.0, 1.0), "score_beyond_scale"),
    ],
)
def test_a_score_becomes_a_reward_or_a_reason(
    value: float | bool | str, scale: tuple[float, float], reward: float | str
) -> None:
    assert reward_of(value, scale) == reward


def test_the_preview_counts_pairs_by_the_real_rules() -> None:
    def told(**making: Any) -> dict[str, str]:
        preview = Preview(Settings())
        for event in found("langfuse-blob", **making)[0]:
            preview.take(event)
        return dict(preview.lines())

    assert told()["tier 2"] == "0 pairs, 80 missing to the next job (2 chosen_no_confidence, 1 waiting)"
    assert told(confidence=0.9)["tier 2"].startswith("1 pairs, 79 missing to the next job")
    assert told()["tier 1"] == "3 feedback to learn from"
    assert told()["tier 3"] == "1 traces, 99 missing to the next job"


def test_our_own_export_comes_back_as_it_was() -> None:
    lines = lines_of("tierstream")
    events, _, bad = found("tierstream-export", form="tierstream")
    assert ([json.loads(event.to_json()) for event in events], bad) == ([json.loads(line) for line in lines], [])
    assert counted(events) == {"Experience": 3, "Feedback": 3, "Trace": 1}


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        found(tmp_path / "absent")
    with pytest.raises(InputError, match="has no file of"):
        found(tmp_path)
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(InputError, match="the format is not recognised; name it: anthropic, "):
        found(tmp_path / "x.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"conversations": []}\n' * 50)[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        found(tmp_path / "cut.jsonl.gz", form="sharegpt")


def test_standard_input_is_read_packed_or_not_and_a_bad_line_ends_with_1(tmp_path: Path) -> None:
    data = b"\n".join([*lines_of("anthropic"), b"{"])
    for given in (data, gzip.compress(data)):
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", "import", "auto", "-", "--dry-run"],
            input=given,
            capture_output=True,
            cwd=Path(__file__).parents[2],
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr.splitlines()[0].partition(b":")[0]) == (1, b"line 7")
        assert b"anthropic: 7 records read = 6 with events + 0 left out + 1 bad" in done.stdout
