"""What the pair matcher decides, case by case, and what it keeps of it."""

import json
import tracemalloc

import pytest

from schemas.records import Answer
from schemas.settings import PairsSettings
from tests.trainers.pairs.matchers import AT_ONCE, HOUR, RULES, SMALL, answer, feed, partners, rebuilt
from trainers.pairs.funnel import merge
from trainers.pairs.matcher import PairMatcher


def test_a_good_and_a_bad_answer_make_a_pair_whichever_comes_first():
    good, bad = answer("good"), answer("bad", -0.9)
    assert partners(feed([good, bad])[1]) == partners(feed([bad, good])[1]) == [("good", "bad")]
    assert feed([good, bad])[1] == feed([bad, good])[1]


def test_the_arriving_answer_is_written_first_and_names_its_partner():
    matcher = PairMatcher(RULES, None)
    matcher.decide(answer("good"), 0, 0.0)
    decision = matcher.decide(answer("bad", -0.9), 1, 0.0)
    assert [key for key, _ in decision.writes] == [b"widget:bad", b"widget:good"]
    assert json.loads(decision.writes[0][1]) == {
        "offset": 1,
        "outcome": "paired",
        "reward": -0.9,
        "partner": "good",
    }
    assert json.loads(decision.writes[1][1])["taken_by"] == "bad"


def test_the_best_partner_has_the_same_query_then_most_domains_then_the_largest_gap():
    waiting = [
        answer("large gap", 1.0, query="other"),
        answer("two domains", 0.5, query="other", domains=("hvac", "power")),
        answer("same query", 0.3),
        answer("same query, better", 0.4),
    ]
    comers = [answer(f"bad {n}", -0.9, domains=("hvac", "power")) for n in range(4)]
    assert [chosen for chosen, _ in partners(feed([*waiting, *comers], AT_ONCE)[1])] == [
        "same query, better",
        "same query",
        "two domains",
        "large gap",
    ]


def test_equally_good_partners_are_taken_in_the_order_of_arrival():
    waiting = [answer(name) for name in ("b", "c", "a")]
    comers = [answer(f"bad {n}", -0.9) for n in range(3)]
    assert [chosen for chosen, _ in partners(feed([*waiting, *comers])[1])] == ["b", "c", "a"]


def test_kinds_and_intents_are_never_mixed():
    answers = [answer("a"), answer("b", -1.0, intent_type="control"), answer("c", -1.0, kind="voice", content="no")]
    assert feed(answers)[1] == []


def test_an_answer_is_used_once_unless_set_otherwise():
    answers = [answer("good"), answer("bad 1", -0.9), answer("bad 2", -0.8)]
    assert partners(feed(answers)[1]) == [("good", "bad 1")]
    often = PairsSettings(one_to_one=False)
    assert partners(feed(answers, often)[1]) == [("good", "bad 1"), ("good", "bad 2")]


def test_a_reward_that_changes_while_waiting_moves_the_answer():
    answers = [answer("a", 0.9), answer("a", -0.9), answer("b", 0.9)]
    _, pairs, _, outcomes = feed(answers)
    assert partners(pairs) == [("b", "a")]
    assert outcomes == ["waiting", "waiting", "paired"]
    assert feed([answer("a", 0.9), answer("a", 0.0), answer("b", -0.9)])[1] == []


def test_a_dropped_answer_can_become_a_candidate():
    answers = [answer("a", confidence=None), answer("b", -0.9), answer("a")]
    _, pairs, _, outcomes = feed(answers)
    assert (partners(pairs), outcomes[0]) == ([("a", "b")], "chosen_no_confidence")


def test_a_reward_that_changes_after_pairing_is_counted_and_the_pair_stays():
    answers = [answer("a"), answer("b", -0.9), answer("a", -1.0), answer("c", 0.9), answer("b", -0.9)]
    matcher, pairs, _, outcomes = feed(answers)
    assert partners(pairs) == [("a", "b")]
    assert outcomes[2:] == ["reward_changed_after_pairing", "waiting", "judged_again"]
    assert matcher.funnel(HOUR)["widget"]["reward_changed_after_pairing"] == 1


def test_the_oldest_answer_leaves_a_full_side_and_is_counted():
    matcher, pairs, table, _ = feed([answer("a"), answer("b"), answer("c"), answer("bad", -0.9)], SMALL)
    assert partners(pairs) == [("b", "bad")]
    assert matcher.funnel(HOUR)["widget"]["dropped"]["evicted"] == 1
    assert "answer" not in json.loads(table[b"widget:a"])
    assert json.loads(table[b"widget:a"])["outcome"] == "evicted"


def test_the_contents_of_used_and_dropped_answers_are_not_kept():
    _, _, table, _ = feed([answer("a"), answer("b", -0.9), answer("c", 0.0), answer("d")])
    assert {key for key, value in table.items() if b'"answer"' in value} == {b"widget:d"}


def test_a_repeated_record_changes_nothing():
    matcher, _, table, _ = feed([answer("a"), answer("b", -0.9), answer("c", 0.0)])
    before = matcher.funnel(HOUR)
    for offset, one in enumerate([answer("a"), answer("b", -0.9), answer("c", 0.0)]):
        decision = matcher.decide(one, offset, 0.0)
        assert (decision.pairs, decision.writes, decision.outcome) == ((), (), "repeated")
    assert matcher.funnel(HOUR) == before
    assert rebuilt(table).funnel(HOUR) == before


def test_an_answer_that_is_dropped_for_the_same_reason_again_writes_nothing():
    matcher, _, _, outcomes = feed([answer("a", 0.0), answer("a", 0.05)])
    assert outcomes == ["neutral", "neutral"]
    assert matcher.decide(answer("a", 0.02), 2, 0.0).writes == ()
    assert [key for key, _ in matcher.decide(answer("a", None), 3, 0.0).writes] == [b"widget:a"]
    assert matcher.funnel(HOUR)["widget"]["dropped"]["no_reward"] == matcher.funnel(HOUR)["widget"]["answers"] == 1


def test_what_other_settings_dropped_is_written_when_it_is_judged_again():
    table = feed([answer("a", 0.5)])[2]
    matcher = rebuilt(table, PairsSettings(chosen_reward_above=0.6))
    table.update(matcher.decide(answer("a", -0.05), 1, 0.0).writes)
    assert rebuilt(table).decide(answer("b", -0.9), 2, 0.0).outcome == "waiting"
    assert matcher.decide(answer("a", -0.05), 2, 0.0).writes == ()


def test_a_paired_answer_writes_its_first_change_only():
    matcher = feed([answer("a"), answer("b", -0.9)])[0]
    decisions = [matcher.decide(answer("a", reward), 2 + n, 0.0) for n, reward in enumerate((0.9, 0.8, 0.7, 0.9))]
    assert [len(one.writes) for one in decisions] == [0, 1, 0, 0]
    assert [one.outcome for one in decisions] == [
        "judged_again",
        "reward_changed_after_pairing",
        "reward_changed_after_pairing",
        "judged_again",
    ]
    assert matcher.funnel(HOUR)["widget"]["reward_changed_after_pairing"] == 1


def test_a_waiting_answer_whose_reward_grows_can_find_a_partner():
    matcher, pairs, _, _ = feed([answer("a", 0.15), answer("b", -0.12), answer("a", 0.17), answer("a", 0.2)])
    assert partners(pairs) == [("a", "b")]
    assert matcher.funnel(HOUR)["widget"]["paired"] == 2


def test_the_table_holds_the_answer_as_it_was_sent():
    sent = answer("a").to_json().replace(b'{"kind"', b'{ "of a later version": 1, "kind"')
    decision = PairMatcher(RULES, None).decide(Answer.from_json(sent), 0, 0.0, sent)
    assert sent in decision.writes[0][1]
    assert partners(rebuilt(dict(decision.writes)).decide(answer("b", -0.9), 1, 0.0).pairs) == [("a", "b")]


def test_stricter_settings_hold_for_answers_that_wait_already():
    _, _, table, _ = feed([answer("a", 0.5)])
    matcher = rebuilt(table, PairsSettings(chosen_reward_above=0.6))
    assert matcher.decide(answer("b", -0.9), 1, 0.0).pairs == ()
    assert matcher.funnel(HOUR)["widget"]["dropped"]["neutral"] == 1


def test_a_table_value_of_another_form_is_refused():
    with pytest.raises((ValueError, TypeError)):
        PairMatcher(RULES, None).load(b"widget:a", b"{")


def test_the_funnel_counts_every_answer_under_one_reason():
    answers = [
        answer("none", None),
        answer("neutral", 0.05),
        answer("unsure", 0.9, confidence=None),
        answer("low", 0.9, confidence=0.2),
        answer("empty", 0.9, content=[]),
        answer("good"),
        answer("bad", -0.9),
        answer("waits", 0.15),
        answer("other domain", -0.9, domains=("water",)),
        answer("other intent", -0.9, intent_type="control"),
        answer("close", -0.11),
        answer("same", -0.9, content=[{"widget_id": "other", "text": "waits"}]),
        answer("pump", 0.9, domains=("mine",), device_types=("pump",)),
        answer("fan", -0.9, domains=("mine",), device_types=("fan",)),
    ]
    matcher, _, table, _ = feed(answers)
    funnel = matcher.funnel(HOUR)["widget"]
    assert funnel == {
        "answers": 14,
        "dropped": {
            "no_reward": 1,
            "neutral": 1,
            "chosen_no_confidence": 1,
            "chosen_low_confidence": 1,
            "no_content": 1,
            "evicted": 0,
        },
        "waiting": {"chosen": 2, "rejected": 5},
        "waiting_for_same_query": 0,
        "paired": 2,
        "pairs": 1,
        "unpaired": 0,
        "reward_changed_after_pairing": 0,
        "comparisons": {
            "different_intent": 2,
            "no_shared_domain": 5,
            "no_shared_device": 1,
            "small_gap": 1,
            "same_answer": 1,
            "within_patience": 0,
            "possible": 0,
        },
    }
    assert rebuilt(table, reverse=True).funnel(HOUR) == matcher.funnel(HOUR)


def test_the_funnels_of_partitions_add_up():
    left, right = feed([answer("a"), answer("b")])[0], feed([answer("c", -0.9, intent_type="control")])[0]
    both = merge([left.funnel(HOUR), right.funnel(HOUR)])["widget"]
    assert (both["answers"], both["waiting"]) == (3, {"chosen": 2, "rejected": 1})
    assert both["comparisons"]["different_intent"] == 2


def test_a_partner_whose_write_was_lost_is_repaired():
    matcher = PairMatcher(RULES, None)
    writes = [*matcher.decide(answer("good"), 0, 0.0).writes, *matcher.decide(answer("bad", -0.9), 1, 0.0).writes]
    after_crash = rebuilt(dict(writes[:2]))
    repaired = after_crash.repair_after_crash()
    assert (repaired.pairs, repaired.writes) == ((), (writes[2],))
    assert after_crash.repair_after_crash() is None
    again = after_crash.decide(answer("bad", -0.9), 1, 0.0)
    assert (again.pairs, again.writes) == ((), ())
    assert after_crash.decide(answer("late", -0.9), 2, 0.0).pairs == ()


def test_state_and_writes_of_an_answer_are_bounded_by_its_bucket():
    matcher, table = PairMatcher(SMALL, None), {}
    for offset in range(300):
        writes = matcher.decide(answer(f"a{offset}"), offset, 0.0).writes
        assert len(writes) <= 2
        table.update(writes)
    assert {key for key, value in table.items() if b'"answer"' in value} == {b"widget:a298", b"widget:a299"}


def test_what_is_remembered_of_an_answer_is_small():
    """A serializer's output can hold on to a page of memory, however short it is."""
    matcher = PairMatcher(RULES, None)
    answers = [answer(f"a{offset}", 0.0) for offset in range(2000)]
    tracemalloc.start()
    for offset, one in enumerate(answers):
        matcher.decide(one, offset, 0.0)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held / len(answers) < 400
