from __future__ import annotations

from collections.abc import Sequence

import orjson

from benchmarks.peers.effects import Effect, Outcome, check, effects_in, experiences_in, feedbacks_in


def after_a_kill(effects: Sequence[Effect], *published: str, kill: float = 10.0, learns: bool = True) -> Outcome:
    return check(published, effects, [kill], learns)


def test_feedback_without_an_effect_is_lost() -> None:
    found = after_a_kill([Effect(1, "a", 1), Effect(2, "b", None)], "a", "b", "c")
    assert (found.feedbacks, found.kills, found.lost) == (3, 1, 1)


def test_what_came_after_the_kill_was_joined_with_what_was_kept() -> None:
    effects = [Effect(1, "a", 1), Effect(11, "a", 1), Effect(12, "b", 2)]
    found = after_a_kill(effects, "a", "b", "c")
    assert (found.joined, found.to_join) == (1, 2)


def test_the_same_step_again_is_a_repetition() -> None:
    effects = [Effect(1, "a", 1), Effect(2, "b", 2), Effect(11, "a", 1), Effect(11, "b", 2), Effect(12, "c", 3)]
    found = after_a_kill(effects, "a", "b", "c")
    assert (found.twice, found.forgotten) == (0, 0)


def test_two_steps_that_both_count_are_twice() -> None:
    found = after_a_kill([Effect(1, "a", 1), Effect(2, "b", 2), Effect(11, "a", 3)], "a", "b")
    assert (found.twice, found.forgotten) == (1, 0)


def test_held_out_twice_is_not_learned_twice() -> None:
    found = after_a_kill([Effect(1, "a", None), Effect(11, "a", None)], "a")
    assert (found.lost, found.twice) == (0, 0)


def test_steps_that_are_taken_anew_with_other_feedback_are_forgotten() -> None:
    before = [Effect(number, f"f{number}", number) for number in range(1, 6)]
    after = [Effect(11, "g", 3), Effect(12, "h", 4)]  # it went on from step 2
    found = after_a_kill([*before, *after], *(f"f{number}" for number in range(1, 6)), "g", "h")
    assert (found.lost, found.twice, found.forgotten) == (0, 0, 3)


def test_what_was_forgotten_and_learned_again_is_learned_once() -> None:
    before = [Effect(1, "a", 1), Effect(2, "b", 2), Effect(3, "c", 3)]
    after = [Effect(11, "c", 2), Effect(12, "b", 3)]  # from step 1, in another order
    found = after_a_kill([*before, *after], "a", "b", "c")
    assert (found.twice, found.forgotten) == (0, 0)


def test_an_engine_that_goes_back_without_repeating_counts_by_what_it_kept() -> None:
    before = [Effect(1, "a", 1), Effect(2, "b", 2), Effect(3, "c", 3)]
    after = [Effect(11, "d", 2), Effect(12, "c", 3)]  # "c" in step 3 again, but of another line
    found = after_a_kill([*before, *after], "a", "b", "c", "d")
    assert (found.twice, found.forgotten) == (0, 1)


def test_a_step_that_is_told_to_its_end_after_the_kill_is_not_gone_back_to() -> None:
    before = [Effect(1, "a", 1), Effect(2, "b", 2), Effect(2, "d", 3)]
    after = [Effect(11, "b", 2), Effect(11, "c", 2), Effect(11, "d", 3), Effect(12, "e", 4)]
    found = after_a_kill([*before, *after], "a", "b", "c", "d", "e")
    assert (found.lost, found.twice, found.forgotten) == (0, 0, 0)


def test_an_end_of_its_own_counts_as_one() -> None:
    effects = [Effect(1, "a", 1), Effect(2, "b", 2), Effect(6, "c", 2)]
    found = check(["a", "b", "c"], effects, [10.0], learns=True, deaths=[5.0])
    assert (found.forgotten, found.deaths) == (1, 1)


def test_where_nothing_learns_each_further_record_counts() -> None:
    effects = [Effect(1, "a", None), Effect(2, "a", None), Effect(3, "b", None)]
    assert after_a_kill(effects, "a", "b", learns=False).twice == 1


def test_a_score_update_is_read_with_its_step_where_it_was_learned() -> None:
    update = {"experience_id": "answer-3", "feedback_id": "judgement-7", "scorer_epoch": 1, "scorer_step": 5}
    learned = orjson.dumps({**update, "reason": "feedback_learned"})
    held_out = orjson.dumps({**update, "reason": "feedback_held_out"})
    arrived = orjson.dumps({**update, "reason": "experience_arrived", "feedback_id": None})
    found = [list(effects_in("score-updates", 2.0, value)) for value in (learned, held_out, arrived)]
    assert found == [[Effect(2.0, "judgement-7", 5)], [Effect(2.0, "judgement-7", None)], []]


def test_a_record_of_the_join_is_about_every_feedback_in_it() -> None:
    value = b'{"id":"answer-12","feedback":["judgement-1","judgement-23"]}\n\x00\xff{"id":"answer-4"}'
    assert experiences_in(value) == {b"answer-12", b"answer-4"}
    assert feedbacks_in(value) == {b"judgement-1", b"judgement-23"}
    assert {effect.feedback_id for effect in effects_in("joined", 1.0, value)} == {"judgement-1", "judgement-23"}
