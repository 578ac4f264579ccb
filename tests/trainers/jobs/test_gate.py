import math

import pytest

from trainers.jobs.gate import Interval, decide, mean_interval, means_of_prompts


def test_the_interval_is_students_t_by_hand():
    # s = sqrt(5/3) = 1.29099, standard error 0.64550, t(0.975, 3) = 3.18245: half-width 2.05426
    found = mean_interval([1.0, 2.0, 3.0, 4.0], 0.95)
    assert found is not None
    assert (found.mean, found.count) == (2.5, 4)
    assert found.low == pytest.approx(0.44574, abs=1e-5)
    assert found.high == pytest.approx(4.55426, abs=1e-5)


def test_one_value_has_no_interval():
    assert mean_interval([1.0], 0.95) is None


def test_answers_to_one_prompt_are_one_observation():
    assert means_of_prompts([1.0, 3.0, 5.0], ["a", "a", "b"]) == [2.0, 5.0]


def test_a_better_version_is_promoted():
    assert decide(Interval(0.3, 0.1, 0.5, 9), 0.05, 0.02, 0.1, "reward").promoted


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
    assert not decide(improvement, 0.05, None, 0.1, "reward").promoted, why


@pytest.mark.parametrize(("regression", "promoted"), [(None, True), (0.1, True), (0.11, False), (math.nan, False)])
def test_the_other_tiers_text_may_get_worse_up_to_the_bound(regression, promoted):
    assert decide(Interval(0.3, 0.1, 0.5, 9), 0.0, regression, 0.1, "reward").promoted is promoted


def test_the_reason_names_the_figures():
    verdict = decide(Interval(0.3, -0.1, 0.7, 9), 0.0, None, 0.1, "implicit reward")
    assert verdict.reason == (
        "not shown to be better on 9 held-out prompts: "
        "+0.3000 [-0.1000, +0.7000] implicit reward, needed is above +0.0000"
    )
