"""The book against an independent, brute-force reading of the rules, and against crashes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Answer
from schemas.settings import PairsSettings
from tests.trainers.pairs.books import answer, feed, partners, rebuilt
from trainers.pairs.book import PairBook
from trainers.pairs.entry import Entry
from trainers.pairs.funnel import merge

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
