from __future__ import annotations

from dataclasses import replace

from benchmarks.home_assistant import Row, to_experience
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


def test_the_order_of_arguments_makes_no_other_widget() -> None:
    turned = replace(ROW, tool_call="{'tool_name': 'TurnOff', 'tool_args': {'domain': ['light'], 'name': 'Lamp'}}")
    assert to_experience(turned).widget_plan == to_experience(ROW).widget_plan


def test_shuffled_labels_keep_their_number_and_the_rows_their_rest() -> None:
    rows = [replace(ROW, number=number, good=number % 3 == 0) for number in range(60)]
    shuffled = with_shuffled_labels(Inputs(rows, []), seed=1).rows
    assert sum(row.good for row in shuffled) == 20
    assert [row.good for row in shuffled] != [row.good for row in rows]
    assert [replace(row, good=True) for row in shuffled] == [replace(row, good=True) for row in rows]
    assert shuffled == with_shuffled_labels(Inputs(rows, []), seed=1).rows


def test_withheld_queries_are_published_without_feedback() -> None:
    rows = [replace(ROW, experience_id=f"m/{number}", query=f"query {number}") for number in range(20)]
    published = Inputs(rows, []).published
    assert published.experiences == {f"m/{number}" for number in range(20)}
    assert published.feedback == {f"{row.experience_id}/judged" for row in rows if not row.withheld}
    assert 0 < len(published.feedback) < 20
