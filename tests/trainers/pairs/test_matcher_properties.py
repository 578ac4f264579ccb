"""The matcher against an independent, brute-force reading of the rules, and against crashes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import LabelledAnswer
from schemas.records import Answer
from schemas.settings import PairsSettings, UnpairedSettings
from tests.trainers.pairs.matchers import HOUR, answer, decided, feed, partners, rebuilt, timed
from trainers.jobs.heldout import id_of
from trainers.pairs.entry import Entry
from trainers.pairs.funnel import merge
from trainers.pairs.matcher import PairMatcher

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
    PairsSettings,
    bucket_size=st.sampled_from([1, 2, 500]),
    one_to_one=st.booleans(),
    user_confidence=st.none(),
    patience=st.sampled_from([0, 5]),
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


times = st.sampled_from([0.0, 1.0, 4.0, 5.0, 6.0, 12.0])
logs = st.lists(answers_strategy | answers_strategy | times, max_size=30)
"""Ticks among answers; a broker's clock can step back."""


@given(logs, rules_strategy, st.booleans())
def test_pairs_obey_every_rule_and_no_answer_is_used_twice(log, rules, unpaired):
    matcher, latest, pairs = PairMatcher(rules, UnpairedSettings(enabled=unpaired, kinds="both")), {}, []
    alone = []
    for offset, (one, at) in enumerate(timed(log)):
        if one is not None:
            latest[one.kind, one.experience_id] = one
        decision = decided(matcher, one, offset, at)
        for labelled in (made for made in decision.examples if isinstance(made, LabelledAnswer)):
            alone.append((labelled.kind, labelled.experience_id))
            judged = latest[alone[-1]]
            assert (labelled.good, labelled.answer) == (judged.reward > 0, judged.content)
        for pair in decision.pairs:
            pairs.append(pair)
            good = latest[pair.kind, pair.chosen_experience_id]
            bad = latest[pair.kind, pair.rejected_experience_id]
            assert obeys_every_rule(good, bad)
            assert (pair.chosen, pair.rejected) == (good.content, bad.content)
            assert (pair.chosen_reward, pair.rejected_reward) == (good.reward, bad.reward)
    assert len({pair.pair_id for pair in pairs}) == len(pairs)
    used = [(pair.kind, name) for pair in pairs for name in (pair.chosen_experience_id, pair.rejected_experience_id)]
    assert len(set(alone)) == len(alone)
    assert set(alone).isdisjoint(used)
    assert unpaired or not alone
    if rules.one_to_one:
        assert len(set(used)) == len(used)


@given(st.lists(answers_strategy, max_size=30, unique_by=lambda one: (one.kind, one.experience_id)), st.booleans())
def test_once_patience_is_over_no_two_waiting_answers_could_be_paired(answers, one_to_one):
    matcher, pairs, _, _ = feed([*answers, HOUR], PairsSettings(one_to_one=one_to_one))
    used = {(p.kind, name) for p in pairs for name in (p.chosen_experience_id, p.rejected_experience_id)}
    free = [one for one in answers if (one.kind, one.experience_id) not in used]
    good = [one for one in free if one.reward and one.reward > 0.1 and (one.evaluation_confidence or 0) >= 0.5]
    bad = [one for one in free if one.reward and one.reward < -0.1]
    assert not any(obeys_every_rule(one, other) for one in good for other in bad)
    funnel = merge([matcher.funnel(HOUR)])
    for kind in ("widget", "voice"):
        counts = funnel[kind]
        assert counts["answers"] == sum(one.kind == kind for one in answers)
        waiting = counts["waiting"]
        assert counts["answers"] == sum(counts["dropped"].values()) + sum(waiting.values()) + counts["paired"]
        assert sum(counts["comparisons"].values()) == waiting["chosen"] * waiting["rejected"]
        assert counts["comparisons"]["possible"] == counts["waiting_for_same_query"] == 0


def rank(good, bad, at):
    """How good a pair is by the description, the best lowest."""
    shared = len(set(good.domains) & set(bad.domains))
    return good.query != bad.query, -shared, bad.reward - good.reward, *at


def able(waiting, comer, offset):
    """The pairs that the rules allow of a comer and those who wait, with their rank."""
    for at, (one, since) in waiting.items():
        if (one.reward > 0) != (comer.reward > 0):
            good, bad = sorted([(offset, comer), (at, one)], key=lambda place: place[1].reward, reverse=True)
            if obeys_every_rule(good[1], bad[1]):
                yield rank(good[1], bad[1], (good[0], bad[0])), at, since


def pass_time(waiting, until):
    """The pairs of different queries that are due, best first of all that are possible."""
    while True:
        due = {at: one for at, (one, since) in waiting.items() if since <= until}
        possible = [
            (ranked, at, other)
            for at, one in due.items()
            for ranked, other, _ in able({n: (o, 0) for n, o in due.items() if n != at}, one, at)
        ]
        if not possible:
            return
        _, *both = min(possible)
        yield tuple(waiting.pop(at)[0] for at in both)


@given(logs, st.sampled_from([0, 5]))
def test_the_partner_is_the_one_that_a_search_through_all_finds(log, patience):
    waiting, used, expected = {}, set(), []

    def pair(*both):
        used.update((one.kind, one.experience_id) for one in both)
        expected.append(tuple(one.experience_id for one in sorted(both, key=lambda one: one.reward, reverse=True)))

    for offset, (one, now) in enumerate(timed(log)):
        if one is None:
            for both in pass_time(waiting, now - patience):
                pair(*both)
            continue
        name = one.kind, one.experience_id
        if name in used:
            continue
        before = [since for other, since in waiting.values() if (other.kind, other.experience_id) == name]
        waiting = {at: (o, since) for at, (o, since) in waiting.items() if (o.kind, o.experience_id) != name}
        confident = one.evaluation_confidence is not None and one.evaluation_confidence >= 0.5
        if one.reward is None or abs(one.reward) <= 0.1 or (one.reward > 0 and not confident):
            continue
        found = [(ranked, at) for ranked, at, _ in able(waiting, one, offset) if not (patience and ranked[0])]
        if found:
            pair(one, waiting.pop(min(found)[1])[0])
        else:
            waiting[offset] = one, *(before or [now])
    assert partners(feed(log, PairsSettings(patience=patience))[1]) == expected


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
        st.sampled_from([None, 0.0, 1764368446.123]),
        st.none() | st.builds(lambda name: answer(name).to_json(), names),
    )
)
def test_a_table_value_is_read_back_as_it_was(entry):
    value = entry.encode()
    assert Entry.decode(value) == entry
    assert ("answer" in json.loads(value)) == (entry.answer is not None)


@pytest.mark.long
@given(logs, rules_strategy, st.sampled_from([None, UnpairedSettings(enabled=True, kinds="both")]), st.data())
def test_a_crash_anywhere_changes_neither_examples_nor_state(log, rules, unpaired, data):
    """Chunks publish their examples, then write; a crash keeps a prefix of the writes and redelivers the chunk."""
    whole, whole_made, whole_table, _ = feed(log, rules, unpaired)
    records, table, published, committed = timed(log), {}, {}, 0
    while committed < len(records):
        start = data.draw(st.integers(max(0, committed - 3), committed), label="redelivered from")
        end = data.draw(st.integers(committed + 1, len(records)), label="chunk ends before")
        matcher = rebuilt(table, rules, data.draw(st.booleans()), unpaired)
        repaired = matcher.repair_after_crash()
        decisions = [] if repaired is None else [repaired]
        decisions += [decided(matcher, records[offset][0], offset, records[offset][1]) for offset in range(start, end)]
        published.update((id_of(one), one) for decision in decisions for one in decision.examples)
        writes = [write for decision in decisions for write in decision.writes]
        kept = data.draw(st.integers(0, len(writes)), label="writes that survive")
        table.update(writes[:kept])
        if kept == len(writes):
            committed = end
    assert published == {id_of(one): one for one in whole_made}
    assert table == whole_table
    assert rebuilt(table, rules).funnel(12.0) == whole.funnel(12.0)
