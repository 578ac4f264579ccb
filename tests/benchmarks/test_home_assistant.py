from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.home_assistant import DATA, Row, load_rows, to_experience, to_feedback
from benchmarks.real_run import Inputs, with_shuffled_labels

ROW = Row(
    number=7,
    experience_id="model/task-0",
    query="lamp off",
    categories=("light", "switch"),
    tool_call="{'tool_name': 'TurnOff', 'tool_args': {'name': 'Lamp', 'domain': ['light']}}",
    response="Off.",
    good=True,
    model="model",
)
recorded = pytest.mark.skipif(not DATA.exists(), reason="the recorded data is not beside the project")


def test_a_row_is_one_experience_with_one_widget() -> None:
    event = to_experience(ROW)
    assert event.experience_id == "model/task-0"
    assert (event.intent.type, event.intent.domains) == ("light", ("light", "switch"))
    assert [device.type for device in event.intent.devices] == ["light"]
    [widget] = event.widget_plan
    assert (widget.widget_type, widget.params) == ("TurnOff", {"name": "Lamp", "domain": ["light"]})
    assert widget.text == "domain: ['light'], name: Lamp"
    assert event.voice_reply == "Off."


def test_the_order_of_arguments_makes_no_other_widget() -> None:
    turned = replace(ROW, tool_call="{'tool_name': 'TurnOff', 'tool_args': {'domain': ['light'], 'name': 'Lamp'}}")
    assert to_experience(turned).widget_plan == to_experience(ROW).widget_plan


def test_a_row_without_tool_call_has_an_empty_plan() -> None:
    assert to_experience(replace(ROW, tool_call="")).widget_plan == ()


def test_a_call_that_is_no_dict_is_kept_as_raw_text() -> None:
    [widget] = to_experience(replace(ROW, tool_call="{'name': 'Joe's'}")).widget_plan
    assert (widget.text, widget.params) == ("{'name': 'Joe's'}", None)


@pytest.mark.parametrize(("good", "reward"), [(True, 1.0), (False, -1.0)])
def test_the_label_is_a_sure_evaluators_reward(good: bool, reward: float) -> None:
    event = to_feedback(replace(ROW, good=good))
    assert (event.source, event.reward, event.evaluation_confidence) == ("evaluator", reward, 1.0)


def test_shuffled_labels_keep_their_number_and_the_rows_their_rest() -> None:
    rows = [replace(ROW, number=number, good=number % 3 == 0) for number in range(60)]
    shuffled = with_shuffled_labels(Inputs(rows, []), seed=1).rows
    assert sum(row.good for row in shuffled) == 20
    assert [row.good for row in shuffled] != [row.good for row in rows]
    assert [replace(row, good=True) for row in shuffled] == [replace(row, good=True) for row in rows]
    assert shuffled == with_shuffled_labels(Inputs(rows, []), seed=1).rows


@recorded
def test_the_recorded_rows_have_the_known_counts() -> None:
    rows = load_rows()
    assert len({row.experience_id for row in rows}) == len(rows) == 5495
    assert Counter(row.good for row in rows) == {True: 4545, False: 950}
    plans = [to_experience(row).widget_plan for row in rows]
    assert sum(not plan for plan in plans) == 693
    assert sum(bool(plan) and plan[0].params is None for plan in plans) == 161
    assert sum(not row.withheld for row in rows) == 4293
