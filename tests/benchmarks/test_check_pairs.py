from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.check_pairs import PAIRS_PER_JOB, broken_rules, check_datasets, is_withheld, main, read_raw
from benchmarks.home_assistant import DATA, Row, load_rows, to_experience, to_feedback
from schemas.events import Experience
from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.rules import make_pair


def raw(**changes: str) -> dict[str, str]:
    row = {
        "text": "light off",
        "category": "light",
        "tool_call": "{'tool_name': 'TurnOff', 'tool_args': {'name': 'Lamp', 'domain': ['light']}}",
        "response": "The lamp is off.",
        "label": "Good",
    }
    return row | changes


GOOD = raw()
BAD = raw(
    label="Bad",
    tool_call="{'tool_name': 'TurnOn', 'tool_args': {'domain': ['light']}}",
    response="It is on.",
)
ROWS = {"m/good": GOOD, "m/bad": BAD}


def pair(kind: str = "voice", **changes: Any) -> dict[str, Any]:
    contents: dict[str, tuple[Any, Any]] = {
        "voice": ("The lamp is off.", "It is on."),
        "widget": (
            [{"widget_id": "w0", "widget_type": "TurnOff", "params": {"name": "Lamp", "domain": ["light"]}}],
            [{"widget_id": "w0", "widget_type": "TurnOn", "params": {"domain": ["light"]}}],
        ),
    }
    chosen, rejected = contents[kind]
    return {
        "pair_id": "p",
        "kind": kind,
        "prompt": "light off",
        "rejected_prompt": "light off",
        "chosen": chosen,
        "rejected": rejected,
        "reward_gap": 2.0,
        "chosen_experience_id": "m/good",
        "rejected_experience_id": "m/bad",
        "chosen_reward": 1.0,
        "rejected_reward": -1.0,
        "evaluation_confidence": 1.0,
        "intent_type": "light",
        "shared_domains": ["light"],
    } | changes


@pytest.mark.parametrize("kind", ["voice", "widget"])
def test_a_right_pair_breaks_nothing(kind: str) -> None:
    assert broken_rules(pair(kind), ROWS) == []


@pytest.mark.parametrize(
    ("row", "changes", "rule"),
    [
        ({"label": "Bad"}, {}, "the chosen reward is not above 0.1"),
        ({}, {"chosen_reward": 0.9}, "its rewards are not the labels"),
        ({}, {"reward_gap": 1.9}, "its gap is not that of the rewards"),
        ({}, {"evaluation_confidence": 0.4}, "the confidence is below 0.5"),
        ({}, {"evaluation_confidence": 0.9}, "its confidence is not the evaluator's"),
        ({"response": " "}, {}, "an answer of it is empty"),
        ({"response": "It is on. "}, {}, "the two answers agree"),
        ({"category": "fan,light"}, {}, "the intents differ"),
        ({"category": "light,fan"}, {"shared_domains": ["fan"]}, "no domain is shared"),
        ({"tool_call": GOOD["tool_call"].replace("light", "fan")}, {}, "no device type is shared"),
        ({"text": "light on"}, {}, "a prompt is not the row's"),
        ({}, {"chosen": "Something else."}, "the chosen answer is not the row's"),
        ({}, {"rejected": "Something else."}, "the rejected answer is not the row's"),
        ({}, {"chosen_experience_id": "m/none"}, "an experience of it is not in the data"),
    ],
)
def test_each_broken_rule_is_named(row: dict[str, str], changes: dict[str, Any], rule: str) -> None:
    assert rule in broken_rules(pair(**changes), {"m/good": GOOD | row, "m/bad": BAD})


def test_a_withheld_query_is_named() -> None:
    text = next(text for text in map(str, range(50)) if is_withheld(text))
    rows = {name: row | {"text": text} for name, row in ROWS.items()}
    assert broken_rules(pair(prompt=text, rejected_prompt=text), rows) == ["a query of it is withheld"]


def test_one_call_with_its_arguments_in_another_order_is_one_answer() -> None:
    other = {**BAD, "tool_call": "{'tool_name': 'TurnOff', 'tool_args': {'domain': ['light'], 'name': 'Lamp'}}"}
    assert "the two answers agree" in broken_rules(pair("widget"), {"m/good": GOOD, "m/bad": other})


def test_a_dataset_of_another_size_a_repeated_pair_and_a_second_use_are_named() -> None:
    problems = check_datasets({"one": [pair()], "two": [pair()]}, ROWS)
    assert problems == [
        f"one: 1 pairs, 1 of them distinct, not {PAIRS_PER_JOB}",
        f"two: 1 pairs, 1 of them distinct, not {PAIRS_PER_JOB}",
        "two: 1 pairs are in an earlier dataset",
        "two: pair p uses ('voice', 'm/good') a second time",
        "two: pair p uses ('voice', 'm/bad') a second time",
    ]


def test_wrong_usage_and_missing_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "none.csv.gz"), str(tmp_path / "none.jsonl")]) == 1
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: ")
    assert error.startswith("error: ")


@pytest.mark.skipif(not DATA.exists(), reason="the recorded data is not beside the project")
def test_pairs_of_the_systems_own_mapping_stand_the_independent_check() -> None:
    rows = load_rows()
    good = next(row for row in rows if row.good and not row.withheld and row.tool_call)
    bad = next(
        row for row in rows if not row.good and not row.withheld and row.tool_call and row.categories == good.categories
    )
    for kind in ("widget", "voice"):
        answers = [_answer(kind, row) for row in (good, bad)]
        made = make_pair(*answers, PairsSettings())
        assert broken_rules(made.model_dump(mode="json", exclude_none=True), read_raw(DATA)) == []


def _answer(kind: Any, row: Row) -> Answer:
    experience: Experience = to_experience(row)
    judged = to_feedback(row)
    plan = [widget.model_dump(mode="json", exclude_none=True) for widget in experience.widget_plan]
    return Answer(
        kind=kind,
        experience_id=row.experience_id,
        query=experience.query,
        intent_type=experience.intent.type,
        domains=experience.intent.domains,
        device_types=tuple(device.type for device in experience.intent.devices),
        content=plan if kind == "widget" else experience.voice_reply,
        reward=judged.reward,
        evaluation_confidence=judged.evaluation_confidence,
        judged_by_user=False,
    )
