"""`pruning.ranking` against a stable sort of numpy; `test_select` has floats of 32 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pruning import ranking


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32, jnp.int8])
def test_the_best_are_those_of_a_stable_sort(dtype):
    rng = np.random.default_rng(0)
    scores = rng.integers(-3, 4, (40, 17)).astype(np.float32)
    if jnp.issubdtype(dtype, jnp.floating):
        special = [np.nan, np.inf, -np.inf, -0.0, 0.0, 6e-5, -6e4]
        scores = np.where(rng.random(scores.shape) < 0.4, rng.choice(special, scores.shape), scores)
    scores = jnp.asarray(scores, dtype)
    keep, counts = rng.random(scores.shape) < 0.7, rng.integers(-1, 19, 40)
    got = jax.jit(jax.vmap(ranking.best))(keep, scores, counts)
    for row, (kept, score, count) in enumerate(zip(keep, scores, counts, strict=True)):
        score = np.asarray(score.astype(jnp.float32))
        score = np.where(np.isnan(score), -np.inf, score)
        order = [i for i in np.argsort(-score, kind="stable") if kept[i]]
        want = np.zeros(17, bool)
        want[order[: max(count, 0)]] = True
        np.testing.assert_array_equal(got[row], want)
