import pytest

from benchmarks.home_assistant import DATA, Row, load_rows, to_experience, to_feedback

needs_data = pytest.mark.skipif(not DATA.is_file(), reason=f"no {DATA.name} beside the project")


def row(tool_call: str, response: str = "Done.", good: bool = True) -> Row:
    return Row(7, "m/t-0", "Lock it", ("lock", "todo"), tool_call, response, good, "m")


def test_tool_call_becomes_one_widget():
    event = to_experience(row("{'tool_name': 'HassTurnOn', 'tool_args': {'name': 'Lock', 'domain': ['lock']}}"))
    [widget] = event.widget_plan
    assert (widget.widget_type, widget.text) == ("HassTurnOn", "domain: ['lock'], name: Lock")
    assert widget.params == {"name": "Lock", "domain": ["lock"]}
    assert (event.intent.type, event.intent.domains) == ("lock", ("lock", "todo"))
    assert [device.type for device in event.intent.devices] == ["lock"]


def test_call_that_is_no_dict_is_kept_as_raw_text():
    call = "{'tool_name': 'HassListAddItem', 'tool_args': {'name': 'Trader Joe's'}}"
    [widget] = to_experience(row(call)).widget_plan
    assert widget.text == call


def test_no_call_is_an_empty_plan_and_no_response_no_reply():
    event = to_experience(row("", ""))
    assert event.widget_plan == ()
    assert event.voice_reply is None


def test_label_becomes_an_evaluators_sure_judgement():
    judged = to_feedback(row("", good=False))
    assert (judged.source, judged.reward, judged.evaluation_confidence) == ("evaluator", -1.0, 1.0)


@needs_data
def test_every_row_is_an_experience_of_its_own():
    rows = load_rows()
    events = [to_experience(row) for row in rows]
    assert len({event.experience_id for event in events}) == len(rows) == 5495
    assert sum(not row.good for row in rows) == 950
    assert sum(not event.widget_plan for event in events) == 693
    raw = [e for e in events if e.widget_plan and e.widget_plan[0].params is None]
    assert len(raw) == 161
    assert [e.timestamp for e in events] == sorted({e.timestamp for e in events})
    assert sum(row.withheld for row in rows) == 1202
