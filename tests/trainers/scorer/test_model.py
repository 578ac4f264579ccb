import os
import subprocess
import sys

import numpy as np
import pytest

from schemas.settings import ScorerSettings
from tests.trainers.scorer.test_samples import samples
from trainers.scorer.model import ScorerModel

PAIR = np.array([0]), np.array([1])


def test_arrays_hold_the_moments_in_the_order_of_the_modules_parameters():
    model = ScorerModel(ScorerSettings(rank=4))
    model.update(samples([1.0, -1.0]), *PAIR, 1e-3)
    before = model.arrays()
    taken, _ = model.update(samples([1.0, -1.0]), *PAIR, 1e-3)
    after = model.arrays()
    assert taken
    # A weight moves by its own moments: where the order is that of the module, all of them agree.
    weights = [np.concatenate([a[name].ravel() for name in a if name.startswith("weights.")]) for a in (before, after)]
    mean, square = after["adam.mean"] / (1 - 0.9**2), after["adam.square"] / (1 - 0.999**2)
    assert weights[1] - weights[0] == pytest.approx(-1e-3 * mean / (np.sqrt(square) + 1e-8), abs=1e-6)


LEARN = """
import numpy as np
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import entry, run
from trainers.scorer.learner import OnlineLearner
learner = OnlineLearner(ScorerSettings(groups_per_step=32))
run(learner, [entry(n, (1.0, -1.0, 0.5, None) * 2) for n in range(96)], batch=32)
print(learner.weights_hash())
"""


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
