import json

import pytest

from tests.trainers.jobs import tiny
from trainers.jobs import formats

PLAN = [
    {
        "widget_id": "w0",
        "widget_type": "line_chart",
        "text": "Kühlung “4”",
        "params": {"hours": [1, 2], "deep": {"a": 1}},
    },
    {"widget_id": "w1", "widget_type": "alarm_list", "text": "", "position": {"x": 1}},
]


def test_a_widget_plan_goes_to_text_and_back():
    text = formats.plan_text(PLAN)
    assert formats.parse_plan(text) == PLAN
    assert "widget_id" not in text
    assert "\n" not in text


@pytest.mark.parametrize("text", ["{}", "no JSON", '"w0"'])
def test_what_is_no_list_is_no_plan(text):
    with pytest.raises(ValueError, match=r"JSON list|Expecting value"):
        formats.parse_plan(text)


@pytest.mark.parametrize("thinking", ["2 + 2", "a\n\nb\n", "</think> in words"])
def test_reasoning_and_answer_go_to_one_text_and_apart_again(thinking):
    text = formats.answer_text(thinking, "It is 4.\n\nSure.")
    assert text.startswith("<think>\n")
    assert formats.split_answer(text) == (thinking, "It is 4.\n\nSure.")


def test_an_answer_without_reasoning_stays_as_it_is():
    assert formats.answer_text(None, "4") == "4"
    assert formats.split_answer("4") == (None, "4")


def test_a_pair_asks_for_what_it_holds():
    by_kind = {pair.kind: formats.pair_messages(pair) for pair in tiny.pairs(3)}
    assert by_kind["voice"]["prompt"][0]["content"] == formats.REPLY_INSTRUCTION
    assert by_kind["widget"]["prompt"][0]["content"] == formats.PLAN_INSTRUCTION
    assert by_kind["voice"]["chosen"] == [{"role": "assistant", "content": "The light in the attic 0 is on."}]
    assert json.loads(by_kind["widget"]["rejected"][0]["content"]) == [{"widget_type": "chart", "text": "kitchen 0"}]


def test_a_trace_is_a_conversation_with_its_system_prompt():
    trace = tiny.traces(1)[0].model_copy(update={"system": "Be brief."})
    system, user, assistant = formats.trace_messages(trace)
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"] == trace.prompt
    assert formats.split_answer(assistant["content"]) == (trace.thinking, trace.response)


def test_the_formats_of_version_1_are_these():
    """Models in use were trained in them: another text is another version."""
    assert formats.FORMAT_VERSION == 1
    assert formats.prompt_messages("voice", "q") == [
        {"role": "system", "content": "Answer in one short spoken reply."},
        {"role": "user", "content": "q"},
    ]
    assert formats.prompt_messages("widget", "q")[0]["content"] == "Answer with the dashboard's widgets as a JSON list."
    assert formats.plan_text(PLAN[1:]) == '[{"widget_type":"alarm_list","text":"","position":{"x":1}}]'
    assert formats.answer_text("t", "r") == "<think>\nt\n</think>\n\nr"
