"""Trials of candidates, simulated: a worse one hardly ever gets into use, an equal one nearly always, at its share."""

from collections import Counter
from statistics import fmean

import pytest

from benchmarks.outcome import DRAWS, SERVING, trial

RUNS = 60
SHARE = 0.1


@pytest.mark.parametrize("rewards", ["graded, spread 0.5", "thumbs, -1 or 1"])
@pytest.mark.parametrize(("drop", "end"), [(0.2, "worse"), (0.0, "taken")])
def test_trials_end_rightly_in_19_of_20_within_the_judgements_that_are_set(rewards, drop, end):
    found = [trial(seed, DRAWS[rewards], before=400, drop=drop, share=SHARE) for seed in range(RUNS)]
    assert Counter(one["end"] for one in found)[end] >= 0.95 * RUNS
    assert max(one["judgements"] for one in found) <= SERVING.candidate_judgements
    assert fmean(one["saw"] for one in found) == pytest.approx(SHARE, abs=0.01)
