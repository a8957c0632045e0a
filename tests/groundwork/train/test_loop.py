"""The early-stopping point of a run, by the measure that its metric names."""

import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.metric import ACCURACY, LOSS, Metric
from groundwork.train import loop
from groundwork.train.losses import Counts
from groundwork.train.step import TrainState

SCORE = Metric("score", higher_is_better=True)
# of two replicates, at each of four evaluations
LOSSES = [[3.0, 3.0], [1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]
SCORES = [[0.1, 0.5], [0.3, 0.2], [0.3, 0.9], [0.7, 0.1]]


@pytest.mark.parametrize(
    ("metric", "steps"),
    [
        (LOSS, [1, 2]),
        (ACCURACY, [1, 2]),
        (SCORE, [3, 2]),
        (SCORE._replace(higher_is_better=False), [0, 3]),
    ],
)
def test_the_best_value_on_validation_decides_and_the_earlier_of_equals(metric, steps):
    def state(step):
        variables = {"params": jnp.asarray([step, 10.0 + step])}
        return TrainState(jnp.full(2, step), None, variables, None)

    best = loop.no_best(state(0))
    for step, (losses, scores) in enumerate(zip(LOSSES, SCORES, strict=True)):
        sums = {"score": 4 * jnp.asarray(scores), "accuracy": jnp.asarray([step, step])}
        counts = Counts(4 * jnp.asarray(losses), jnp.asarray([4, 4]), sums)
        best = loop._keep_better(best, state(step), counts, metric.stopping)
    np.testing.assert_array_equal(best.step, steps)
    np.testing.assert_array_equal(best.variables["params"], [steps[0], 10 + steps[1]])
