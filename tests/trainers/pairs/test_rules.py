import pytest

from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.rules import broken_rule, drop_reason, make_pair, reject_reason, substance

RULES = PairsSettings()


def answer(name="good", **changes):
    fields = {
        "kind": "widget",
        "experience_id": name,
        "query": "show pump 1",
        "intent_type": "status",
        "domains": ("hvac",),
        "device_types": (),
        "content": [{"widget_id": "w", "widget_type": "chart", "text": name}],
        "reward": 0.9,
        "evaluation_confidence": 0.8,
        "judged_by_user": False,
    }
    return Answer(**(fields | changes))


def bad(**changes):
    return answer("bad", **({"reward": -0.9, "evaluation_confidence": None} | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"reward": None}, "no_reward"),
        ({"reward": 0.1}, "neutral"),
        ({"reward": -0.1}, "neutral"),
        ({"reward": 0.1001}, None),
        ({"reward": -0.1001, "evaluation_confidence": None}, None),
        ({"evaluation_confidence": None}, "chosen_no_confidence"),
        ({"evaluation_confidence": None, "judged_by_user": True}, "chosen_no_confidence"),
        ({"evaluation_confidence": 0.49}, "chosen_low_confidence"),
        ({"evaluation_confidence": 0.5}, None),
        ({"content": None}, "no_content"),
        ({"content": []}, "no_content"),
        ({"kind": "voice", "content": " "}, "no_content"),
        ({"reward": -1.0, "content": []}, "no_content"),
    ],
)
def test_an_answer_is_dropped_for_the_named_reason(changes, reason):
    assert drop_reason(answer(**changes), RULES) == reason


@pytest.mark.parametrize(
    ("setting", "changes", "reason"),
    [
        ({"chosen_reward_above": 0.95}, {}, "neutral"),
        ({"rejected_reward_below": -0.95}, {"reward": -0.9}, "neutral"),
        ({"min_evaluation_confidence": 0.9}, {}, "chosen_low_confidence"),
        ({"user_confidence": 0.9}, {"evaluation_confidence": None, "judged_by_user": True}, None),
        ({"user_confidence": 0.2}, {"evaluation_confidence": None, "judged_by_user": True}, "chosen_low_confidence"),
        ({"user_confidence": 0.9}, {"evaluation_confidence": None}, "chosen_no_confidence"),
    ],
)
def test_every_setting_of_the_answer_rules_has_an_effect(setting, changes, reason):
    assert drop_reason(answer(**changes), PairsSettings(**setting)) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"intent_type": "control"}, "different_intent"),
        ({"domains": ("HVAC",)}, "no_shared_domain"),
        ({"domains": ()}, "no_shared_domain"),
        ({"domains": ("power", "hvac")}, None),
        ({"reward": -0.18}, "small_gap"),
        ({"content": [{"widget_id": "other", "widget_type": "chart", "text": "good"}]}, "same_answer"),
        ({"query": "show pump 2"}, None),
    ],
)
def test_a_comparison_is_rejected_for_the_named_rule(changes, reason):
    assert reject_reason(answer(reward=0.11), bad(**({"reward": -0.5} | changes)), RULES) == reason


@pytest.mark.parametrize(
    ("mine", "theirs", "reason"),
    [
        (("pump",), ("chiller",), "no_shared_device"),
        (("pump",), (), None),
        ((), ("pump",), None),
        (("pump", "fan"), ("fan",), None),
        (("Pump",), ("pump",), "no_shared_device"),
    ],
)
def test_devices_must_be_shared_only_where_both_have_some(mine, theirs, reason):
    assert reject_reason(answer(device_types=mine), bad(device_types=theirs), RULES) == reason


def test_the_gap_setting_has_an_effect():
    assert reject_reason(answer(), bad(), PairsSettings(min_reward_gap=1.9)) == "small_gap"
    assert reject_reason(answer(), bad(), PairsSettings(min_reward_gap=1.8)) is None


def test_a_pair_carries_what_its_rules_need():
    pair = make_pair(
        answer(domains=("hvac", "power"), device_types=("pump", "fan")),
        bad(domains=("power", "hvac", "water"), device_types=("fan",), query="pump 1?"),
        RULES,
    )
    assert (pair.prompt, pair.rejected_prompt) == ("show pump 1", "pump 1?")
    assert (pair.reward_gap, pair.evaluation_confidence) == (1.8, 0.8)
    assert pair.shared_domains == ("hvac", "power")
    assert pair.shared_device_types == ("fan",)
    assert (pair.chosen_devices, pair.rejected_devices) == (("pump", "fan"), ("fan",))
    assert broken_rule(pair, RULES) is None


def test_pair_ids_depend_on_kind_and_both_experiences():
    ids = {
        make_pair(answer(), bad(), RULES).pair_id,
        make_pair(answer(kind="voice", content="yes"), bad(kind="voice", content="no"), RULES).pair_id,
        make_pair(answer("other"), bad(), RULES).pair_id,
        make_pair(answer(query="another query"), bad(), RULES).pair_id,
    }
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"chosen_reward": 0.1, "reward_gap": 1.0}, "chosen_reward"),
        ({"rejected_reward": 0.0, "reward_gap": 0.9}, "rejected_reward"),
        ({"evaluation_confidence": 0.4}, "chosen_low_confidence"),
        ({"rejected": []}, "no_content"),
        ({"shared_domains": ()}, "no_shared_domain"),
        ({"chosen_devices": ("a",), "rejected_devices": ("b",)}, "no_shared_device"),
        ({"reward_gap": 1.5}, "wrong_gap"),
        ({"rejected_experience_id": "good"}, "same_experience"),
        ({"rejected": [{"widget_id": "x", "widget_type": "chart", "text": "good"}]}, "same_answer"),
        ({"pair_id": "made-up"}, "wrong_id"),
    ],
)
def test_a_finished_pair_that_breaks_a_rule_is_found_out(changes, rule):
    pair = make_pair(answer(), bad(), RULES).model_copy(update=changes)
    assert broken_rule(pair, RULES) == rule


def test_a_finished_pair_with_a_small_gap_is_found_out():
    assert broken_rule(make_pair(answer(), bad(), RULES), PairsSettings(min_reward_gap=1.9)) == "small_gap"


def test_contents_are_compared_whatever_their_order_and_the_size_of_their_numbers():
    def plan(**params):
        return [{"widget_id": "w", "params": params}]

    assert substance(plan(a=1, b=2)) == substance(plan(b=2, a=1))
    assert substance(plan(a=2**70, b=1)) == substance(plan(b=1, a=2**70)) != substance(plan(a=2**70 + 1, b=1))
    assert substance(plan(a=1)) != substance(plan(a=True))


def widget(**fields):
    return [{"widget_id": "w", "widget_type": "gauge", "text": "Temp\u00e9rature of pump 1", **fields}]


@pytest.mark.parametrize(
    "spelt",
    [
        widget(text="  temp\u00e9rature  OF pump 1"),
        widget(text="Tempe\u0301rature of pump 1"),
        widget(text="Temp\u00e9rature\u200b of pump 1"),
        widget(params={}),
        widget(params=None),
        widget(size="", position=[]),
        widget(widget_id="another"),
    ],
)
def test_the_same_answer_however_it_is_spelt_makes_no_pair(spelt):
    assert substance(spelt) == substance(widget())
    assert reject_reason(answer(content=widget()), bad(content=spelt), RULES) == "same_answer"


@pytest.mark.parametrize("other", [widget(params={"a": 0}), widget(params={"a": False}), widget(size="small")])
def test_what_says_something_else_is_another_answer(other):
    assert substance(other) != substance(widget())


def test_the_same_reply_however_it_is_spelt():
    assert substance("It\u2019s  on ") == substance("it's on") != substance("it's off")


def test_a_pair_carries_the_rules_that_it_was_made_under():
    made = make_pair(answer(), bad(), PairsSettings(min_reward_gap=0.7, one_to_one=False, patience=60))
    assert made.chosen_by == {
        "chosen_reward_above": 0.1,
        "rejected_reward_below": -0.1,
        "min_evaluation_confidence": 0.5,
        "min_reward_gap": 0.7,
        "one_to_one": False,
        "patience": 60,
    }
