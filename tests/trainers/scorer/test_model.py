import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from schemas.settings import ScorerSettings
from tests.trainers.scorer.test_samples import samples
from trainers.scorer.model import ScorerModel

PAIR = np.array([0]), np.array([1])


def test_arrays_hold_the_moments_in_the_order_of_the_modules_parameters():
    model = ScorerModel(ScorerSettings(rank=4))
    model.update(samples([1.0, -1.0]), 2, *PAIR, 1e-3)
    before = model.arrays()
    taken, _ = model.update(samples([1.0, -1.0]), 2, *PAIR, 1e-3)
    after = model.arrays()
    assert taken
    # A weight moves by its own moments: where the order is that of the module, all of them agree.
    mean, square = after["adam.mean"] / (1 - 0.9**2), after["adam.square"] / (1 - 0.999**2)
    moved = after["network"] - before["network"]
    assert moved == pytest.approx(-1e-3 * mean / (np.sqrt(square) + 1e-8), abs=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 32])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_network_that_is_served_is_the_weighted_mean_of_both_parts(rank: int, share: float):
    model = ScorerModel(ScorerSettings(rank=rank))
    rows = np.random.default_rng(0).random((20, 813), np.float32) / 20
    judged = replace(samples([1.0, -1.0] * 10), rows=rows)
    model.share(share)
    for _ in range(30):
        model.update(judged, 20, np.arange(0, 20, 2), np.arange(1, 20, 2), 1e-2)
    network, linear = model.parts(rows)
    assert np.ptp(linear) > 0.01
    assert model.scores(rows) == pytest.approx((1 - share) * network + share * linear, rel=1e-4, abs=1e-5)
    assert model.parameters == 877 * rank + 129


def test_replayed_samples_are_not_learned_twice_by_the_linear_part():
    fresh, replayed = ScorerModel(ScorerSettings(rank=4)), ScorerModel(ScorerSettings(rank=4))
    fresh.update(samples([1.0, -1.0]), 2, *PAIR, 1e-3)
    replayed.update(samples([1.0, -1.0, -0.5, 0.5]), 2, *PAIR, 1e-3)
    assert replayed.arrays()["linear.mean"].tolist() == fresh.arrays()["linear.mean"].tolist()
    assert int(replayed.arrays()["linear.seen"]) == 2


LEARN = """
import numpy as np
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import entry, run
from trainers.scorer.learner import OnlineLearner
learner = OnlineLearner(ScorerSettings(groups_per_step=32))
run(learner, [entry(n, (1.0, -1.0, 0.5, None) * 2) for n in range(96)], batch=32)
print(learner.weights_hash())
"""


@pytest.mark.long
def test_weights_do_not_depend_on_how_many_threads_numpy_may_take():
    """Steps of this size would be split by its BLAS, where they were left to it."""
    found = {
        subprocess.run(
            [sys.executable, "-c", LEARN],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for threads in ("1", "8")
    }
    assert len(found) == 1
