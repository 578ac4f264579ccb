import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.scorer.samples import Draws, SampleBuffer, Samples, choose_pairs, draw, neighbour_pairs


def samples(rewards: list[float], intents: list[int] | None = None, groups: list[int] | None = None) -> Samples:
    count = len(rewards)
    return Samples(
        np.repeat(np.array(rewards, np.float32)[:, None], 813, axis=1),
        np.array(rewards, np.float32),
        np.array(intents or [0] * count, np.uint64),
        np.zeros(count, np.uint64),
        np.array(groups or range(count), np.uint64),
    )


def test_draws_are_those_of_splitmix64():
    # The first words of the reference implementation (Vigna, splitmix64.c) for the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    draws = Draws(1234567)
    assert [*draws.words(3).tolist(), *draws.words(1).tolist()] == expected
    assert len(set(Draws(2**64 - 1).words(1000).tolist())) == 1000


@given(st.lists(st.lists(st.integers(0, 10**6), max_size=9), max_size=9))
def test_buffer_keeps_the_newest_and_no_more(chunks: list[list[int]]):
    buffer, everything = SampleBuffer(5), []
    for chunk in chunks:
        buffer.add(samples([float(n) for n in chunk]))
        everything += chunk
    assert sorted(buffer.samples.rewards.tolist()) == sorted(float(n) for n in everything[-5:])
    assert buffer.samples.rows[:, 7].tolist() == buffer.samples.rewards.tolist()


def test_buffer_restored_to_a_smaller_capacity_keeps_the_newest():
    large, small = SampleBuffer(4), SampleBuffer(2)
    large.add(samples([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    small.restore(large.samples, large.position)
    assert sorted(small.samples.rewards.tolist()) == [5.0, 6.0]


def test_buffer_restored_to_a_larger_capacity_goes_on_in_order():
    small, large = SampleBuffer(2), SampleBuffer(3)
    small.add(samples([1.0, 2.0, 3.0]))
    large.restore(small.samples, small.position)
    large.add(samples([4.0, 5.0]))
    assert sorted(large.samples.rewards.tolist()) == [3.0, 4.0, 5.0]


def test_half_of_the_draws_are_of_the_same_intent():
    buffer = SampleBuffer(100)
    buffer.add(samples([1.0] * 2 + [0.5] * 98, [7] * 2 + [8] * 98))
    drawn = buffer.samples.take(draw(buffer, np.array([7], np.uint64), 40, Draws(1)))
    assert (drawn.intents[:20] == 7).all()
    assert len(drawn) == 40


def test_draws_from_an_empty_buffer_are_none():
    assert len(draw(SampleBuffer(4), np.array([7], np.uint64), 8, Draws(1))) == 0


def test_pairs_need_one_intent_and_two_rewards_and_a_fresh_sample():
    all_of_them = samples([1.0, -1.0, 1.0, -1.0, -1.0], intents=[1, 2, 1, 1, 2])
    better, worse = choose_pairs(all_of_them, 2, 99, Draws(1))
    # 0 beats 3; 1 shares its intent with 4 only, whose reward is the same.
    assert (better.tolist(), worse.tolist()) == ([0], [3])


def test_pairs_within_an_experience_go_first():
    all_of_them = samples([1.0, -1.0, *[-1.0] * 50], groups=[9, 9, *range(50)])
    for seed in range(20):
        better, worse = choose_pairs(all_of_them, 2, 3, Draws(seed))
        assert len(better) == 3
        assert (0, 1) in set(zip(better.tolist(), worse.tolist(), strict=True))


def test_no_pair_is_taken_twice():
    better, worse = choose_pairs(samples([1.0, -1.0, 0.5]), 3, 99, Draws(1))
    assert sorted(zip(better.tolist(), worse.tolist(), strict=True)) == [(0, 1), (0, 2), (2, 1)]


@pytest.mark.parametrize("rewards", [[], [1.0], [1.0, 1.0, 1.0]])
def test_no_difference_in_rewards_gives_no_pairs(rewards: list[float]):
    assert len(choose_pairs(samples(rewards), len(rewards), 9, Draws(1))[0]) == 0
    judged = samples(rewards)
    assert len(neighbour_pairs(judged.rewards, judged.intents)[0]) == 0


def test_neighbour_pairs_name_the_better_first():
    judged = samples([-1.0, 1.0])
    better, worse = neighbour_pairs(judged.rewards, judged.intents, reach=1)
    assert (better.tolist(), worse.tolist()) == ([1], [0])
