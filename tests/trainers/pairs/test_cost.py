"""What each rule costs, on the audit's day and against the rules themselves, comparison by comparison."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.settings import PairsSettings
from tests.scenarios import audit_day as audit
from tests.scenarios.test_audit_day import final_answers, in_order, joined
from trainers.pairs import cost
from trainers.pairs.cost import cost_of_rules, judge, looser, pairs_under
from trainers.pairs.rules import REJECT_REASONS, drop_reason, reject_reason, side_of

DAY = audit.audit_day(7)
RULES = PairsSettings()


def judged(kind):
    return [one for answer in final_answers(kind) if (one := judge(answer, RULES)) is not None]


def test_the_audits_numbers_come_out():
    """167 chosen and 312 rejected answers are 52,104 candidate pairs at most; confidence alone cost 130 answers."""
    found = cost_of_rules("widget", judged("widget"), RULES)
    assert (found.positive, found.negative, found.comparisons) == (297, 312, 92_664)
    assert (found.chosen, found.rejected, found.candidate_pairs) == (167, 312, 52_104)
    by_rule = {rule.rule: rule for rule in found.answer_rules}
    assert by_rule["chosen_no_confidence"].rejected == 130 * 312
    assert by_rule["chosen_no_confidence"].share == pytest.approx(0.4377, abs=1e-4)
    assert found.comparable >= 13
    assert found.comparable + sum(rule.rejected for rule in found.pair_rules) == 52_104
    assert sum(rule.share for rule in found.pair_rules) + found.comparable / 52_104 == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["widget", "voice"])
@pytest.mark.parametrize("rules", [RULES, PairsSettings(min_reward_gap=1.6), PairsSettings(user_confidence=0.9)])
def test_every_comparison_is_counted_under_the_rule_that_rejects_it(kind, rules):
    answers = final_answers(kind)
    sides = {
        side: [a for a in answers if side_of(a.reward, rules) == side and drop_reason(a, rules) is None]
        for side in ("chosen", "rejected")
    }
    expected = Counter(reject_reason(good, bad, rules) for good in sides["chosen"] for bad in sides["rejected"])
    found = cost_of_rules(kind, [one for a in answers if (one := judge(a, rules)) is not None], rules)
    assert {rule.rule: rule.rejected for rule in found.pair_rules} == {name: expected[name] for name in REJECT_REASONS}
    assert found.comparable == expected[None]


def test_what_a_rule_rejects_alone_is_what_would_be_gained_without_it():
    answers = judged("widget")
    found = {rule.rule: rule for rule in cost_of_rules("widget", answers, RULES).pair_rules}
    free = [one._replace(intent_type="any") for one in answers]
    assert found["different_intent"].alone == (
        cost_of_rules("widget", free, RULES).comparable - cost_of_rules("widget", answers, RULES).comparable
    )
    without_devices = [one._replace(devices=frozenset()) for one in answers]
    assert found["no_shared_device"].alone == (
        cost_of_rules("widget", without_devices, RULES).comparable - cost_of_rules("widget", answers, RULES).comparable
    )


def test_too_many_groups_leave_out_only_what_a_rule_rejects_alone(monkeypatch):
    whole = cost_of_rules("widget", judged("widget"), RULES)
    monkeypatch.setattr(cost, "MAX_GROUP_PAIRS", 0)
    short = cost_of_rules("widget", judged("widget"), RULES)
    assert [(r.rule, r.rejected) for r in short.pair_rules] == [(r.rule, r.rejected) for r in whole.pair_rules]
    assert {r.alone for r in short.pair_rules} == {None}


def test_a_looser_threshold_is_tried_on_the_answers_themselves():
    answers = list(joined(in_order(DAY)))
    assert pairs_under([answers], RULES) == {"widget": 13, "voice": 2}
    tried = {change: pairs_under([answers], rules).total() for change, rules in looser(RULES).items()}
    assert set(tried) == {
        "chosen_reward_above 0.1 -> 0.05",
        "rejected_reward_below -0.1 -> -0.05",
        "min_evaluation_confidence 0.5 -> 0.4",
        "min_reward_gap 0.3 -> 0.2",
        "one_to_one true -> false",
        "user_confidence unset -> 0.5",
    }
    assert min(tried.values()) >= 15
    assert max(tried.values()) > 15


def test_no_answers_cost_nothing():
    found = cost_of_rules("voice", [], RULES)
    assert (found.comparisons, found.candidate_pairs, found.comparable) == (0, 0, 0)
    assert {rule.share for rule in (*found.answer_rules, *found.pair_rules)} == {0.0}
