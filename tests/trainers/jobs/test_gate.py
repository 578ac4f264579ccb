import math

import numpy as np
import pytest

from trainers.jobs.gate import (
    Interval,
    Regression,
    decide,
    fewest_prompts,
    mean_interval,
    means_of_prompts,
    signed_rank_interval,
)


def test_the_interval_is_the_wider_of_students_t_and_signed_ranks_by_hand():
    # s = sqrt(3.5) = 1.87083, standard error 0.76376, t(63/64, 5) = 2.96742: 3.5 - 2.26641.
    # Of six values no mean of two may be left off: P(W = 0) = 1/64, P(W <= 1) = 2/64.
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.95)
    assert found is not None
    assert (found.mean, found.count) == (3.5, 6)
    assert (found.low, found.high) == (1.0, 6.0)
    assert signed_rank_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.95) == (1.0, 6.0)
    # Of ten P(W <= 6) = 14/1024 and P(W <= 7) = 19/1024, so of the 55 means of two, 0, 0.5, 1, 1, 1.5, 1.5, 2, ...,
    # the first six are left off.
    assert signed_rank_interval([float(n) for n in range(10)], 0.95) == (2.0, 7.0)
    # One value that outweighs the others: standard error 10, t(63/64, 9) = 2.54892.
    ten = mean_interval([1.0] * 9 + [101.0], 0.95)
    assert ten is not None
    assert ten.low == pytest.approx(11 - 25.48921, abs=1e-4)
    assert signed_rank_interval([1.0] * 9 + [101.0], 0.95)[0] == 1.0


def test_values_that_agree_but_for_their_sign_are_not_taken_for_many():
    """Student's t alone would find them far above 0: two of the same size say nothing that a coin could not."""
    assert mean_interval([0.5, 0.5], 0.95) is None
    assert mean_interval([0.5] * 5, 0.95) is None
    all_but_one = mean_interval([0.5] * 7 + [-0.5], 0.95)
    assert all_but_one is not None
    assert all_but_one.low <= 0
    alike = mean_interval([0.5] * 6, 0.95)
    assert alike is not None
    assert alike.low == 0.5


@pytest.mark.parametrize(("confidence", "fewest"), [(0.95, 6), (0.99, 8), (0.5, 2), (0.9, 5)])
def test_fewer_prompts_than_chance_could_fool_are_not_judged(confidence, fewest):
    assert fewest_prompts(confidence) == fewest
    assert mean_interval([1.0 + n for n in range(fewest - 1)], confidence) is None
    assert mean_interval([1.0 + n for n in range(fewest)], confidence) is not None


def swapped(draw, sizes):
    """Return margins of pairs whose answers a coin swapped: sizes are the model's, signs the coin's."""
    return draw.choice([-1.0, 1.0], len(sizes)) * sizes


BY_COIN = {
    "alike in size": lambda draw, size: swapped(draw, np.ones(size)),
    "nearly alike": lambda draw, size: swapped(draw, draw.normal(1, 0.05, size)),
    "of any size": lambda draw, size: swapped(draw, draw.exponential(size=size) ** 3),
}
OTHER_NOISE = {
    "normal": lambda draw, size: draw.normal(size=size),
    "heavy tails": lambda draw, size: draw.standard_t(1.5, size),
}


def promoted_of_400(noise, size):
    made = (noise(np.random.default_rng([seed, size]), size) for seed in range(400))
    return sum(decide(mean_interval(list(margins), 0.95), 0.0, [], "reward").promoted for margins in made)


@pytest.mark.parametrize("size", [6, 13, 40])
@pytest.mark.parametrize("kind", BY_COIN)
def test_pairs_swapped_by_a_coin_are_promoted_in_at_most_one_of_forty_jobs(kind, size):
    """10 of 400 are 2.5 %; at six prompts the true share is 1/64, 6.25 of 400."""
    assert promoted_of_400(BY_COIN[kind], size) <= 10


@pytest.mark.parametrize("size", [6, 13, 40])
@pytest.mark.parametrize("kind", OTHER_NOISE)
def test_other_noise_is_promoted_as_seldom(kind, size):
    assert promoted_of_400(OTHER_NOISE[kind], size) <= 10


def test_a_true_gain_is_found_on_few_prompts():
    found = sum(
        decide(mean_interval(list(np.random.default_rng(seed).normal(2.0, 1.0, 8)), 0.95), 0.0, [], "reward").promoted
        for seed in range(100)
    )
    assert found > 90


@pytest.mark.parametrize(
    ("beyond", "promoted", "words"),
    [
        (Interval(0.05, 0.01, 0.09, 9), True, "better on 9 held-out prompts"),
        (Interval(0.02, -0.01, 0.05, 9), False, "not shown to be by more than its answers' form"),
        (Interval(math.nan, math.nan, math.nan, 9), False, "not shown to be by more than its answers' form"),
        (None, False, "too few to tell whether by more than its answers' form"),
    ],
)
def test_answers_that_suit_any_question_as_well_are_not_promoted(beyond, promoted, words):
    verdict = decide(Interval(0.3, 0.1, 0.5, 9), 0.0, [], "nats a token", beyond_form=beyond)
    assert verdict.promoted is promoted
    assert words in verdict.reason


def test_answers_to_one_prompt_are_one_observation():
    assert means_of_prompts([1.0, 3.0, 5.0], ["a", "a", "b"]) == [2.0, 5.0]


def test_a_better_version_is_promoted():
    assert decide(Interval(0.3, 0.1, 0.5, 9), 0.05, [lost(0.02)], "reward").promoted


@pytest.mark.parametrize(
    ("improvement", "why"),
    [
        (Interval(0.0, 0.0, 0.0, 9), "equal"),
        (Interval(-0.3, -0.5, -0.1, 9), "worse"),
        (Interval(0.3, -0.1, 0.7, 9), "better by chance, as far as one can tell"),
        (Interval(0.3, 0.05, 0.55, 9), "better by no more than the margin"),
        (Interval(math.nan, math.nan, math.nan, 9), "no number"),
        (None, "too few prompts"),
    ],
)
def test_what_is_not_shown_to_be_better_is_rejected(improvement, why):
    assert not decide(improvement, 0.05, [], "reward").promoted, why


def lost(loss: float | None) -> Regression:
    return Regression("held-out traces", loss, 0.1, "nats a token")


@pytest.mark.parametrize(
    ("loss", "promoted"), [(None, True), (-1.0, True), (0.1, True), (0.11, False), (math.nan, False)]
)
def test_the_other_tiers_figures_may_get_worse_up_to_the_bound(loss, promoted):
    verdict = decide(Interval(0.3, 0.1, 0.5, 9), 0.0, [lost(0.0), lost(loss)], "reward")
    assert verdict.promoted is promoted
    assert ("but held-out traces lose" in verdict.reason) is not promoted
    assert ("no held-out traces yet to see what they lose" in verdict.reason) is (loss is None)


def test_the_reason_names_the_figures():
    verdict = decide(Interval(0.3, -0.1, 0.7, 9), 0.0, [], "implicit reward")
    assert verdict.reason == (
        "not shown to be better on 9 held-out prompts: "
        "+0.3000 [-0.1000, +0.7000] implicit reward, needed is above +0.0000"
    )
