"""Answers that find no partner and train by themselves: when, which, and how many jobs they give."""

import json

import pytest

from schemas.events import LabelledAnswer
from schemas.settings import PairsSettings, UnpairedSettings
from tests.trainers.pairs.matchers import HOUR, RULES, answer, partners
from tests.trainers.pairs.matchers import feed as feed_any
from trainers.pairs.unpaired import broken_label, jobs_of, label

ON = UnpairedSettings(enabled=True)


def feed(log, rules=RULES, unpaired=ON):
    return feed_any(log, rules, unpaired)


def alone(made):
    return [one.experience_id for one in made if isinstance(one, LabelledAnswer)]


def test_an_answer_waits_for_the_same_query_then_as_long_for_any_and_then_trains_by_itself():
    log = [answer("good"), HOUR, 2 * HOUR - 1]
    assert feed(log)[1] == []
    matcher, made, table, _ = feed([*log, 2 * HOUR])
    assert [(one.experience_id, one.good, one.reward, one.prompt) for one in made] == [("good", True, 0.9, "q")]
    assert json.loads(table[b"widget:good"]) == {"offset": 0, "outcome": "unpaired", "reward": 0.9}
    funnel = matcher.funnel(2 * HOUR)["widget"]
    assert (funnel["unpaired"], funnel["waiting"], funnel["paired"]) == (1, {"chosen": 0, "rejected": 0}, 0)


def test_nothing_trains_by_itself_unless_that_is_on():
    matcher, made, _, _ = feed([answer("good"), 9 * HOUR], unpaired=UnpairedSettings())
    assert (made, matcher.is_due(99 * HOUR)) == ([], False)
    assert matcher.funnel(9 * HOUR)["widget"]["waiting"]["chosen"] == 1


def test_a_tick_is_due_where_an_answer_has_waited_so_long():
    matcher = feed([answer("good"), HOUR])[0]
    assert [matcher.is_due(at) for at in (HOUR, 2 * HOUR - 1, 2 * HOUR)] == [False, False, True]
    matcher.tick(9, 2 * HOUR)
    assert not matcher.is_due(9 * HOUR)


def test_one_that_still_finds_a_partner_in_time_is_paired_and_no_other_of_the_two_trains_by_itself():
    log = [answer("good"), 1.5 * HOUR, answer("bad", -0.9, query="other"), 2.0 * HOUR, 5 * HOUR]
    # At 2 hours the bad one has not waited an hour: the good one goes alone, and then the bad one.
    assert alone(feed(log)[1]) == ["good", "bad"]
    log = [answer("good"), 0.5 * HOUR, answer("bad", -0.9, query="other"), 1.5 * HOUR, 5 * HOUR]
    made = feed(log)[1]
    assert (partners([one for one in made if not isinstance(one, LabelledAnswer)]), alone(made)) == (
        [("good", "bad")],
        [],
    )


@pytest.mark.parametrize("one_to_one", [True, False])
def test_an_answer_that_trains_by_itself_is_never_paired_and_never_trains_again(one_to_one):
    log = [answer("good"), 2 * HOUR, answer("bad", -0.9), answer("good", 0.5), answer("good", 0.5), 9 * HOUR]
    matcher, made, _, outcomes = feed(log, PairsSettings(one_to_one=one_to_one))
    assert [one.experience_id for one in made] == ["good", "bad"]
    assert outcomes[3:5] == ["reward_changed_after_pairing", "reward_changed_after_pairing"]
    assert matcher.funnel(9 * HOUR)["widget"]["reward_changed_after_pairing"] == 1


def test_an_answer_that_serves_several_pairs_does_not_train_by_itself():
    made = feed([answer("good"), answer("bad", -0.9), 9 * HOUR], PairsSettings(one_to_one=False))[1]
    assert alone(made) == []


def test_plans_alone_train_by_themselves_unless_set_otherwise():
    log = [answer("plan"), answer("reply", kind="voice", content="Yes."), 2 * HOUR]
    kinds = {
        kinds: alone(feed(log, unpaired=UnpairedSettings(enabled=True, kinds=kinds))[1])
        for kinds in ("widget", "voice", "both")
    }
    assert kinds == {"widget": ["plan"], "voice": ["reply"], "both": ["plan", "reply"]}


def test_one_that_has_to_leave_a_full_side_trains_by_itself_instead_of_being_lost():
    matcher, made, _, _ = feed([answer("a"), answer("b"), answer("c")], PairsSettings(bucket_size=2))
    assert alone(made) == ["a"]
    assert matcher.funnel(0.0)["widget"]["dropped"]["evicted"] == 0


def test_a_finished_example_says_itself_whether_it_obeys_the_rules():
    good = label(answer("good"), RULES)
    bad = label(answer("bad", -0.9), RULES)
    assert (broken_label(good, RULES), broken_label(bad, RULES), bad.evaluation_confidence) == (None, None, None)
    changes = {
        "wrong_side": {"good": False},
        "chosen_low_confidence": {"evaluation_confidence": 0.4},
        "no_content": {"answer": []},
        "wrong_id": {"experience_id": "other"},
    }
    assert {name: broken_label(good.model_copy(update=change), RULES) for name, change in changes.items()} == {
        name: name for name in changes
    }
    with pytest.raises(ValueError, match="no candidate"):
        label(answer("neutral", 0.0), RULES)


@pytest.mark.parametrize(
    ("good", "bad", "jobs"),
    [(167, 312, 5), (154, 299, 5), (40, 40, 1), (79, 0, 0), (400, 19, 0), (400, 45, 2), (20, 60, 1)],
)
def test_so_many_answers_give_so_many_jobs_of_80_with_a_quarter_of_each_side(good, bad, jobs):
    assert jobs_of(good, bad, 80) == jobs
