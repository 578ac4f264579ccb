"""Like is paired with like: an answer waits for one to the same query before another query's may have it."""

import json
import random

import pytest

from schemas.settings import PairsSettings
from tests.trainers.pairs.matchers import HOUR, RULES, answer, feed, partners, rebuilt

PAIRS = 894
CHAT = {"kind": "voice", "intent_type": "chat", "domains": ("chat",)}


def judged(number, good, flipped=False):
    """A reply to a query of its own, of which there are two: one that people chose and one that they rejected."""
    name = f"{'chosen' if good else 'rejected'} {number}"
    reward = 1.0 if good != flipped else -1.0
    return answer(name, reward, confidence=1.0, query=f"query {number}", content=name, **CHAT)


def in_order(flipped=False):
    return [judged(number, good, flipped) for number in range(PAIRS) for good in (True, False)]


def side_by_side():
    """As a burst comes through the partitions of the join: in order, give or take some hundred."""
    rng = random.Random(1)
    return [one for _, one in sorted(enumerate(in_order()), key=lambda place: place[0] + rng.uniform(0, 400))]


def shuffled():
    return random.Random(2).sample(in_order(), 2 * PAIRS)


def slowly():
    """Two answers a minute, and a tick each minute."""
    answers = in_order()
    return [item for n in range(PAIRS) for item in (60.0 * n, answers[2 * n], answers[2 * n + 1])]


def of_one_prompt(pairs):
    return sum(pair.prompt == pair.rejected_prompt for pair in pairs) / len(pairs)


@pytest.mark.parametrize(("order", "share"), [(side_by_side, 0.98), (shuffled, 0.98), (slowly, 0.99)])
def test_judged_pairs_come_out_as_pairs_of_one_prompt(order, share):
    _, pairs, _, _ = feed([*order(), 10 * HOUR * PAIRS])
    assert len(pairs) == PAIRS
    assert of_one_prompt(pairs) >= share


def test_flipped_labels_flip_the_pairs():
    pairs = partners(feed(in_order())[1])
    assert partners(feed(in_order(flipped=True))[1]) == [(rejected, chosen) for chosen, rejected in pairs]


def test_what_has_no_partner_of_its_query_is_paired_once_patience_is_over():
    """One answer of every tenth query is missing: of 45 good and 45 bad ones all find a partner, and no sooner."""
    answers = [one for place, one in enumerate(shuffled()) if int(one.experience_id.split()[1]) % 10 or place % 2]
    left = {one.query for one in answers}
    alone = [one for one in answers if sum(other.query == one.query for other in answers) == 1]
    good = sum(one.reward > 0 for one in alone)
    matcher, pairs, _, _ = feed(answers)
    assert of_one_prompt(pairs) == 1
    assert matcher.funnel(0.0)["voice"]["waiting_for_same_query"] == len(alone) > 20
    late = matcher.tick(len(answers), HOUR).pairs
    assert len(late) == min(good, len(alone) - good) > 5
    assert len(pairs) + len(alone) == len(left)
    funnel = matcher.funnel(HOUR)["voice"]
    assert min(funnel["waiting"].values()) == funnel["waiting_for_same_query"] == funnel["comparisons"]["possible"] == 0


def test_both_answers_have_waited_before_they_are_paired_across_queries():
    log = [answer("good"), 10.0, answer("bad", -0.9, query="another"), HOUR, HOUR + 9, HOUR + 10]
    _, pairs, table, outcomes = feed(log)
    assert partners(pairs) == [("good", "bad")]
    assert outcomes == ["waiting", "tick", "waiting", "tick", "tick", "tick"]
    assert partners(feed(log[:-1])[1]) == []
    assert b"since" not in b"".join(table.values())


def test_a_partner_of_the_same_query_is_taken_though_patience_is_over():
    log = [answer("good"), HOUR, answer("of another", -1.0, query="another"), answer("of the same", -0.5)]
    assert partners(feed(log)[1]) == [("good", "of the same")]


def test_at_a_tick_the_best_pair_is_made_first_whoever_came_first():
    log = [
        answer("first", 0.5, query="1"),
        answer("second", 0.9, query="2", domains=("hvac", "power")),
        answer("third", -0.5, query="3"),
        answer("fourth", -0.9, query="4", domains=("hvac", "power")),
        HOUR,
    ]
    assert partners(feed(log)[1]) == [("second", "fourth"), ("first", "third")]


def test_an_answer_that_is_judged_again_goes_on_waiting():
    log = [answer("good", 0.5), 600.0, answer("good", 0.9), 600.0, answer("bad", -0.9, query="another"), HOUR + 600]
    matcher, _, table, _ = feed(log[:-1])
    assert json.loads(table[b"widget:good"]).get("since", 0.0) == 0.0
    assert matcher.is_due(HOUR)
    assert partners(feed(log)[1]) == [("good", "bad")]


def test_a_tick_is_due_once_an_answer_has_newly_waited_long_enough():
    matcher, _, table, _ = feed([100.0, answer("good")])
    assert [matcher.is_due(100 + HOUR - 1), matcher.is_due(100 + HOUR)] == [False, True]
    matcher.tick(2, 100 + HOUR)
    assert not matcher.is_due(1000 * HOUR)
    assert rebuilt(table).is_due(100 + HOUR)


def test_a_tick_that_comes_again_sees_no_answers_that_came_behind_it():
    log = [answer("good", query="1"), answer("bad", -0.5, query="2"), HOUR, answer("bad", -0.9, query="2"), HOUR]
    table = feed([*log[:2], 0.0, log[3]])[2]
    again = rebuilt(table)
    assert again.tick(2, HOUR).pairs == ()
    assert partners(again.tick(4, HOUR).pairs) == [("good", "bad")]


def test_the_oldest_of_a_full_side_is_paired_across_queries_before_it_would_leave():
    small = PairsSettings(bucket_size=2)
    log = [answer("bad", -0.9, query="another"), *(answer(f"good {n}", query=f"{n}") for n in range(3))]
    matcher, pairs, table, outcomes = feed(log, small)
    assert partners(pairs) == [("good 0", "bad")]
    assert outcomes == ["waiting"] * 4
    assert matcher.funnel(0.0)["widget"]["dropped"]["evicted"] == 0
    assert rebuilt(table, small).funnel(0.0) == matcher.funnel(0.0)


def test_the_funnel_tells_who_waits_for_the_same_query():
    log = [answer("good"), 60.0, answer("bad", -0.9, query="another")]
    matcher = feed(log)[0]
    for now, waiting, possible in ((60.0, 2, 0), (HOUR, 1, 0), (HOUR + 60, 0, 1)):
        counts = matcher.funnel(now)["widget"]
        assert (counts["waiting"], counts["waiting_for_same_query"]) == ({"chosen": 1, "rejected": 1}, waiting)
        assert (counts["comparisons"]["within_patience"], counts["comparisons"]["possible"]) == (1 - possible, possible)


def test_without_patience_another_query_is_as_good_at_once():
    log = [answer("good"), answer("bad", -0.9, query="another")]
    assert partners(feed(log, PairsSettings(patience=0))[1]) == [("good", "bad")]


def test_settings_that_have_changed_hold_for_those_who_wait_at_the_next_tick():
    """Answers of before there was patience have waited since ever; a smaller gap allows what it did not."""
    matcher, _, table, _ = feed([answer("good", 0.15), answer("bad", -0.12)])
    assert matcher.tick(2, HOUR).pairs == ()
    assert partners(rebuilt(table, PairsSettings(min_reward_gap=0.2)).tick(2, HOUR).pairs) == [("good", "bad")]
    assert RULES.min_reward_gap == 0.3
