"""What KTO's gate compares: good answers with bad ones, each prompt in one comparison, and noise on either side."""

import random

import pytest

from schemas.settings import PairsSettings
from tests.trainers.jobs import tiny
from trainers.jobs.gate import chance_of, mean_interval
from trainers.jobs.judge import matched
from trainers.pairs.unpaired import label


def labelled(prompt: str, good: bool, kind: str = "widget"):
    return label(tiny.answer(0, good), PairsSettings()).model_copy(update={"prompt": prompt, "kind": kind})


def test_a_prompt_with_both_is_compared_with_itself_and_the_others_one_to_one_within_their_kind():
    answers = [
        (labelled("both", True), 1.0),
        (labelled("both", True), 2.0),
        (labelled("both", False), 0.5),
        (labelled("good alone", True), 3.0),
        (labelled("bad alone", False), 1.0),
        (labelled("bad reply", False, "voice"), 9.0),
    ]
    assert sorted(matched(*zip(*answers, strict=True))) == [1.0, 2.0]  # 1.5 - 0.5 and 3 - 1; the reply has no other


def test_the_order_of_the_answers_changes_nothing():
    rng = random.Random(0)
    answers = [(labelled(f"p{n}", n % 3 == 0), rng.gauss(0, 1)) for n in range(40)]
    shuffled = rng.sample(answers, len(answers))
    assert sorted(matched(*zip(*answers, strict=True))) == pytest.approx(sorted(matched(*zip(*shuffled, strict=True))))


@pytest.mark.parametrize("prompts", [12, 26, 80])
def test_labels_that_a_coin_threw_are_taken_for_better_as_seldom_as_the_gate_allows(prompts):
    better = 0
    for seed in range(400):
        rng = random.Random(seed)
        # Sizes are nearly the same, as log-ratios of like answers are: only the labels are chance.
        answers = [(labelled(f"p{n}", rng.random() < 0.5), rng.gauss(0.2, 0.05)) for n in range(prompts)]
        interval = mean_interval(matched(*zip(*answers, strict=True)), 0.95)
        better += interval is not None and interval.low > 0
    assert better <= 400 * chance_of(0.95) * 2
