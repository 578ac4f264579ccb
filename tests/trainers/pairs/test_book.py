"""The book against an independent, brute-force reading of the rules, and against crashes."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.book import PairBook
from trainers.pairs.entry import Entry
from trainers.pairs.funnel import merge

RULES = PairsSettings()
SMALL = PairsSettings(bucket_size=2)


def answer(name, reward=0.9, confidence=0.8, **changes):
    fields = {
        "kind": "widget",
        "experience_id": name,
        "query": "q",
        "intent_type": "status",
        "domains": ("hvac",),
        "device_types": (),
        "content": [{"widget_id": "w", "text": name}],
        "reward": reward,
        "evaluation_confidence": confidence if reward is not None and reward > 0 else None,
        "judged_by_user": False,
    }
    return Answer(**(fields | changes))


def feed(answers, rules=RULES):
    """Return the book, the pairs, the table and the outcomes after deciding every answer."""
    book, table, pairs, outcomes = PairBook(rules), {}, [], []
    for offset, one in enumerate(answers):
        decision = book.decide(one, offset)
        table.update(decision.writes)
        pairs.extend(decision.pairs)
        outcomes.append(decision.outcome)
    return book, pairs, table, outcomes


def rebuilt(table, rules=RULES, reverse=False):
    book = PairBook(rules)
    for key, value in sorted(table.items(), reverse=reverse):
        book.load(key, value)
    return book


def partners(pairs):
    return [(pair.chosen_experience_id, pair.rejected_experience_id) for pair in pairs]


def test_a_good_and_a_bad_answer_make_a_pair_whichever_comes_first():
    good, bad = answer("good"), answer("bad", -0.9)
    assert partners(feed([good, bad])[1]) == partners(feed([bad, good])[1]) == [("good", "bad")]
    assert feed([good, bad])[1] == feed([bad, good])[1]


def test_the_arriving_answer_is_written_first_and_names_its_partner():
    book = PairBook(RULES)
    book.decide(answer("good"), 0)
    decision = book.decide(answer("bad", -0.9), 1)
    assert [key for key, _ in decision.writes] == [b"widget:bad", b"widget:good"]
    assert json.loads(decision.writes[0][1]) == {
        "offset": 1,
        "outcome": "paired",
        "reward": -0.9,
        "partner": "good",
        "changes": 0,
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
    assert [chosen for chosen, _ in partners(feed([*waiting, *comers])[1])] == [
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
    book, pairs, _, outcomes = feed(answers)
    assert partners(pairs) == [("a", "b")]
    assert outcomes[2:] == ["reward_changed_after_pairing", "waiting", "judged_again"]
    assert book.funnel()["widget"]["reward_changed_after_pairing"] == 1


def test_the_oldest_answer_leaves_a_full_side_and_is_counted():
    book, pairs, table, _ = feed([answer("a"), answer("b"), answer("c"), answer("bad", -0.9)], SMALL)
    assert partners(pairs) == [("b", "bad")]
    assert book.funnel()["widget"]["dropped"]["evicted"] == 1
    assert "answer" not in json.loads(table[b"widget:a"])
    assert json.loads(table[b"widget:a"])["outcome"] == "evicted"


def test_the_contents_of_used_and_dropped_answers_are_not_kept():
    _, _, table, _ = feed([answer("a"), answer("b", -0.9), answer("c", 0.0), answer("d")])
    assert {key for key, value in table.items() if b'"answer"' in value} == {b"widget:d"}


def test_a_repeated_record_changes_nothing():
    book, _, table, _ = feed([answer("a"), answer("b", -0.9), answer("c", 0.0)])
    before = book.funnel()
    for offset, one in enumerate([answer("a"), answer("b", -0.9), answer("c", 0.0)]):
        decision = book.decide(one, offset)
        assert (decision.pairs, decision.writes, decision.outcome) == ((), (), "repeated")
    assert book.funnel() == before
    assert rebuilt(table).funnel() == before


def test_an_answer_that_is_dropped_for_the_same_reason_again_writes_nothing():
    book, _, _, outcomes = feed([answer("a", 0.0), answer("a", 0.05)])
    assert outcomes == ["neutral", "neutral"]
    assert book.decide(answer("a", 0.02), 2).writes == ()
    assert [key for key, _ in book.decide(answer("a", None), 3).writes] == [b"widget:a"]
    assert book.funnel()["widget"]["dropped"]["no_reward"] == book.funnel()["widget"]["answers"] == 1


def test_what_other_settings_dropped_is_written_when_it_is_judged_again():
    table = feed([answer("a", 0.5)])[2]
    book = rebuilt(table, PairsSettings(chosen_reward_above=0.6))
    table.update(book.decide(answer("a", -0.05), 1).writes)
    assert rebuilt(table).decide(answer("b", -0.9), 2).outcome == "waiting"
    assert book.decide(answer("a", -0.05), 2).writes == ()


def test_a_paired_answer_writes_its_first_change_only():
    book = feed([answer("a"), answer("b", -0.9)])[0]
    decisions = [book.decide(answer("a", reward), 2 + n) for n, reward in enumerate((0.9, 0.8, 0.7, 0.9))]
    assert [len(one.writes) for one in decisions] == [0, 1, 0, 0]
    assert [one.outcome for one in decisions] == [
        "judged_again",
        "reward_changed_after_pairing",
        "reward_changed_after_pairing",
        "judged_again",
    ]
    assert book.funnel()["widget"]["reward_changed_after_pairing"] == 1


def test_a_waiting_answer_whose_reward_grows_can_find_a_partner():
    book, pairs, _, _ = feed([answer("a", 0.15), answer("b", -0.12), answer("a", 0.17), answer("a", 0.2)])
    assert partners(pairs) == [("a", "b")]
    assert book.funnel()["widget"]["paired"] == 2


def test_the_table_holds_the_answer_as_it_was_sent():
    sent = answer("a").to_json().replace(b'{"kind"', b'{ "of a later version": 1, "kind"')
    decision = PairBook(RULES).decide(Answer.from_json(sent), 0, sent)
    assert sent in decision.writes[0][1]
    assert partners(rebuilt(dict(decision.writes)).decide(answer("b", -0.9), 1).pairs) == [("a", "b")]


def test_stricter_settings_hold_for_answers_that_wait_already():
    _, _, table, _ = feed([answer("a", 0.5)])
    book = rebuilt(table, PairsSettings(chosen_reward_above=0.6))
    assert book.decide(answer("b", -0.9), 1).pairs == ()
    assert book.funnel()["widget"]["dropped"]["neutral"] == 1


def test_a_table_value_of_another_form_is_refused():
    with pytest.raises((ValueError, TypeError)):
        PairBook(RULES).load(b"widget:a", b"{")


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
    book, _, table, _ = feed(answers)
    funnel = book.funnel()["widget"]
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
        "paired": 2,
        "pairs": 1,
        "reward_changed_after_pairing": 0,
        "comparisons": {
            "different_intent": 2,
            "no_shared_domain": 5,
            "no_shared_device": 1,
            "small_gap": 1,
            "same_answer": 1,
            "possible": 0,
        },
    }
    assert rebuilt(table, reverse=True).funnel() == book.funnel()


def test_the_funnels_of_partitions_add_up():
    left, right = feed([answer("a"), answer("b")])[0], feed([answer("c", -0.9, intent_type="control")])[0]
    both = merge([left.funnel(), right.funnel()])["widget"]
    assert (both["answers"], both["waiting"]) == (3, {"chosen": 2, "rejected": 1})
    assert both["comparisons"]["different_intent"] == 2


answers_strategy = st.builds(
    lambda name, kind, reward, confidence, query, intent, domains, devices, text: Answer(
        kind=kind,
        experience_id=name,
        query=query,
        intent_type=intent,
        domains=tuple(domains),
        device_types=tuple(devices),
        content=text if kind == "voice" else [{"widget_id": name, "text": text}],
        reward=reward,
        evaluation_confidence=confidence,
        judged_by_user=False,
    ),
    st.sampled_from("abcdefgh"),
    st.sampled_from(["widget", "voice"]),
    st.sampled_from([None, 1.0, 0.9, 0.15, 0.0, -0.12, -0.9, -1.0]),
    st.sampled_from([None, 0.2, 0.8, 0.9]),
    st.sampled_from(["q1", "q2"]),
    st.sampled_from(["i1", "i1", "i2"]),
    st.lists(st.sampled_from(["d1", "d2", "d3"]), max_size=2, unique=True),
    st.lists(st.sampled_from(["x", "y"]), max_size=1),
    st.sampled_from(["one", "two", "three", "four"]),
)
rules_strategy = st.builds(
    PairsSettings, bucket_size=st.sampled_from([1, 2, 500]), one_to_one=st.booleans(), user_confidence=st.none()
)


def obeys_every_rule(good, bad):
    """The rules once more, written from their description and not from the code."""
    return (
        good.kind == bad.kind
        and good.experience_id != bad.experience_id
        and good.reward > 0.1
        and good.evaluation_confidence >= 0.5
        and bad.reward < -0.1
        and good.reward - bad.reward >= 0.3
        and good.intent_type == bad.intent_type
        and bool(set(good.domains) & set(bad.domains))
        and (not good.device_types or not bad.device_types or bool(set(good.device_types) & set(bad.device_types)))
        and bool(good.content)
        and bool(bad.content)
        and (
            good.content != bad.content
            if good.kind == "voice"
            else [widget["text"] for widget in good.content] != [widget["text"] for widget in bad.content]
        )
    )


@settings(max_examples=120, deadline=None)
@given(st.lists(answers_strategy, max_size=30), rules_strategy)
def test_pairs_obey_every_rule_and_no_answer_is_used_twice(answers, rules):
    book, latest, pairs = PairBook(rules), {}, []
    for offset, one in enumerate(answers):
        latest[one.kind, one.experience_id] = one
        for pair in book.decide(one, offset).pairs:
            pairs.append(pair)
            assert one.experience_id in (pair.chosen_experience_id, pair.rejected_experience_id)
            good = latest[pair.kind, pair.chosen_experience_id]
            bad = latest[pair.kind, pair.rejected_experience_id]
            assert obeys_every_rule(good, bad)
            assert (pair.chosen, pair.rejected) == (good.content, bad.content)
            assert (pair.chosen_reward, pair.rejected_reward) == (good.reward, bad.reward)
    assert len({pair.pair_id for pair in pairs}) == len(pairs)
    if rules.one_to_one:
        used = [
            (pair.kind, name) for pair in pairs for name in (pair.chosen_experience_id, pair.rejected_experience_id)
        ]
        assert len(set(used)) == len(used)


@settings(max_examples=100, deadline=None)
@given(st.lists(answers_strategy, max_size=30, unique_by=lambda one: (one.kind, one.experience_id)))
def test_no_two_waiting_answers_could_be_paired(answers):
    book, pairs, _, _ = feed(answers)
    used = {(p.kind, name) for p in pairs for name in (p.chosen_experience_id, p.rejected_experience_id)}
    free = [one for one in answers if (one.kind, one.experience_id) not in used]
    good = [one for one in free if one.reward and one.reward > 0.1 and (one.evaluation_confidence or 0) >= 0.5]
    bad = [one for one in free if one.reward and one.reward < -0.1]
    assert not any(obeys_every_rule(one, other) for one in good for other in bad)
    funnel = merge([book.funnel()])
    for kind in ("widget", "voice"):
        counts = funnel[kind]
        assert counts["answers"] == sum(one.kind == kind for one in answers)
        waiting = counts["waiting"]
        assert counts["answers"] == sum(counts["dropped"].values()) + sum(waiting.values()) + counts["paired"]
        assert sum(counts["comparisons"].values()) == waiting["chosen"] * waiting["rejected"]
        assert counts["comparisons"]["possible"] == 0


def best_of(waiting, comer, offset):
    """The partner that the description asks for, found by looking at every answer that waits."""
    good = comer.reward > 0
    able = [
        (one.query != comer.query, -len(set(one.domains) & set(comer.domains)), -abs(one.reward - comer.reward), at)
        for at, one in waiting.items()
        if (one.reward > 0) != good and obeys_every_rule(*((comer, one) if good else (one, comer)))
    ]
    return min(able)[-1] if able else None


@settings(max_examples=150, deadline=None)
@given(st.lists(answers_strategy, max_size=40))
def test_the_partner_is_the_one_that_a_search_through_all_finds(answers):
    waiting, used, expected = {}, set(), []
    for offset, one in enumerate(answers):
        name = one.kind, one.experience_id
        if name in used:
            continue
        waiting = {at: other for at, other in waiting.items() if (other.kind, other.experience_id) != name}
        confident = one.evaluation_confidence is not None and one.evaluation_confidence >= 0.5
        if one.reward is None or abs(one.reward) <= 0.1 or (one.reward > 0 and not confident):
            continue
        at = best_of(waiting, one, offset)
        if at is None:
            waiting[offset] = one
            continue
        partner = waiting.pop(at)
        used |= {name, (partner.kind, partner.experience_id)}
        pair = (one, partner) if one.reward > 0 else (partner, one)
        expected.append(tuple(side.experience_id for side in pair))
    assert partners(feed(answers)[1]) == expected


names = st.text(min_size=1, max_size=30) | st.just(',"answer":{}') | st.just('\\","answer":')


@given(
    st.builds(
        Entry,
        st.integers(0, 2**62),
        st.sampled_from(["waiting", "paired", "neutral"]),
        st.none() | st.floats(-1, 1),
        st.none() | names,
        st.none() | names,
        st.sampled_from([0, 1]),
        st.none() | st.builds(lambda name: answer(name).to_json(), names),
    )
)
def test_a_table_value_is_read_back_as_it_was(entry):
    value = entry.encode()
    assert Entry.decode(value) == entry
    assert ("answer" in json.loads(value)) == (entry.answer is not None)


@settings(max_examples=150, deadline=None)
@given(st.lists(answers_strategy, max_size=25), rules_strategy, st.data())
def test_a_crash_anywhere_changes_neither_pairs_nor_state(answers, rules, data):
    """Chunks publish their pairs, then write; a crash keeps a prefix of the writes and redelivers the chunk."""
    whole_book, whole_pairs, whole_table, _ = feed(answers, rules)
    table, published, committed = {}, {}, 0
    while committed < len(answers):
        start = data.draw(st.integers(max(0, committed - 3), committed), label="redelivered from")
        end = data.draw(st.integers(committed + 1, len(answers)), label="chunk ends before")
        book = rebuilt(table, rules, reverse=data.draw(st.booleans()))
        decisions = [book.decide(answers[offset], offset) for offset in range(start, end)]
        published.update((pair.pair_id, pair) for decision in decisions for pair in decision.pairs)
        writes = [write for decision in decisions for write in decision.writes]
        kept = data.draw(st.integers(0, len(writes)), label="writes that survive")
        table.update(writes[:kept])
        if kept == len(writes):
            committed = end
    assert published == {pair.pair_id: pair for pair in whole_pairs}
    assert table == whole_table
    assert rebuilt(table, rules).funnel() == whole_book.funnel()


def test_a_partner_whose_write_was_lost_is_made_up_for():
    book = PairBook(RULES)
    writes = [*book.decide(answer("good"), 0).writes, *book.decide(answer("bad", -0.9), 1).writes]
    after_crash = rebuilt(dict(writes[:2]))
    again = after_crash.decide(answer("bad", -0.9), 1)
    assert (again.pairs, again.writes) == ((), (writes[2],))
    assert after_crash.decide(answer("late", -0.9), 2).pairs == ()


def test_state_and_writes_of_an_answer_are_bounded_by_its_bucket():
    book, table = PairBook(SMALL), {}
    for offset in range(300):
        writes = book.decide(answer(f"a{offset}"), offset).writes
        assert len(writes) <= 2
        table.update(writes)
    assert {key for key, value in table.items() if b'"answer"' in value} == {b"widget:a298", b"widget:a299"}


def test_what_is_remembered_of_an_answer_is_small():
    """A serializer's output can hold on to a page of memory, however short it is."""
    book = PairBook(RULES)
    answers = [answer(f"a{offset}", 0.0) for offset in range(2000)]
    tracemalloc.start()
    for offset, one in enumerate(answers):
        book.decide(one, offset)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held / len(answers) < 400
