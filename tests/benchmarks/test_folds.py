"""The protocol of the learning benchmark: what is learned from what, and how differences are judged."""

import numpy as np
import pytest

from benchmarks.folds import FOLDS, examples_of, fold_mean, over_seeds, paired_difference, shuffled, split
from benchmarks.home_assistant import DATA, load_rows
from trainers.embedding import HashEmbedder


def test_difference_is_paired_by_query_and_its_interval_is_that_of_the_mean():
    rng = np.random.default_rng(1)
    hard = rng.random(400)
    one = {f"q{n}": float(value + 0.1) for n, value in enumerate(hard)}
    other = {f"q{n}": float(value + rng.normal(0, 0.2)) for n, value in enumerate(hard)}
    found = paired_difference(one, other)
    gaps = np.array([one[query] - other[query] for query in one])
    half = 1.96 * gaps.std() / len(gaps) ** 0.5
    assert found.mean == pytest.approx(gaps.mean())
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.003)
    assert found.queries == 400


def test_equal_learners_differ_by_nothing():
    same = {"a": 0.2, "b": 0.9}
    found = paired_difference(same, same)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_queries_are_averaged_over_seeds_and_folds_weigh_alike():
    runs = [[{"a": 1.0}, {"b": 0.0, "c": 0.5}], [{"a": 0.5}, {"b": 0.5, "c": 0.5}]]
    assert over_seeds(runs) == {"a": 0.75, "b": 0.25, "c": 0.5}
    assert fold_mean(runs[0]) == pytest.approx(0.625)


@pytest.mark.skipif(not DATA.is_file(), reason=f"no {DATA.name} beside the project")
def test_no_query_is_learned_and_asked_in_one_fold_and_shuffling_moves_only_labels():
    examples = examples_of(load_rows(), HashEmbedder())
    asked = set()
    for fold in range(FOLDS):
        seen, unseen = split(examples, fold)
        assert not {one.row.query for one in seen} & {one.row.query for one in unseen}
        asked |= {one.row.query for one in unseen}
    assert asked == {one.row.query for one in examples if one.entry.item_ids}
    dealt = shuffled(examples, 0)
    assert [one.entry.features for one in dealt] == [one.entry.features for one in examples]
    assert sum(one.entry.rewards[:1] == (1.0,) for one in dealt) == pytest.approx(
        sum(one.row.good for one in examples), abs=60
    )
    assert sum(a.entry.rewards != b.entry.rewards for a, b in zip(dealt, examples, strict=True)) > 500
