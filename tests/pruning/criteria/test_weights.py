"""`pruning.criteria`: one contract over every member, then what each promises."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees
from pruning import criteria, masks, select

R = 3  # replicates


def _params(replicates=()):
    rng = np.random.default_rng(0)
    shapes = {"conv": (2, 2, 1, 3), "fc": (4, 3)}
    return {
        "layers": [
            {
                "kernel": rng.normal(size=(*replicates, *s)).astype("f4"),
                "bias": np.zeros(replicates),
            }
            for s in shapes.values()
        ],
        "scale": rng.normal(size=replicates).astype("f4"),
    }


def _prunable(path):
    return path.endswith("kernel") or path == "scale"


KEY = jax.random.key(5)


FUNCTIONS = {"magnitude": criteria.magnitude, "random": criteria.random}
OF_WEIGHTS = ("magnitude", "l1", "l2", "lamp", "random")


def _score(name, params, mask, key):
    return criteria.CRITERIA[name](criteria.Evidence(params=params, mask=mask, key=key))


def test_the_criteria_of_weights_are_those_that_need_nothing_else():
    needs = {name: criterion.needs for name, criterion in criteria.CRITERIA.items()}
    assert tuple(name for name in needs if not set(needs[name]) - {"key"}) == OF_WEIGHTS


@pytest.mark.parametrize("name", OF_WEIGHTS)
class TestContract:
    def test_scores_have_the_masks_paths_and_shapes(self, name):
        mask = masks.ones(_params(), _prunable)
        scores = _score(name, _params(), mask, KEY)
        assert {p: s.shape for p, s in scores.items()} == {p: m.shape for p, m in mask.items()}
        assert all(jnp.issubdtype(s.dtype, jnp.floating) for s in scores.values())
        assert (
            int(sum(np.sum(m) for m in select.prune(mask, scores, 0.5, "global").values()))
            == 25 - 12
        )

    def test_the_function_of_a_users_own_loop_takes_params_mask_and_a_keyword_key(self, name):
        if name not in FUNCTIONS:
            return
        parameters = inspect.signature(FUNCTIONS[name]).parameters
        assert list(parameters) == ["params", "mask", "key"]
        assert parameters["key"].kind is inspect.Parameter.KEYWORD_ONLY
        mask = masks.ones(_params(), _prunable)
        scores = FUNCTIONS[name](_params(), mask, key=KEY)
        jax.tree.map(np.testing.assert_array_equal, scores, _score(name, _params(), mask, KEY))

    def test_jit_and_vmap_equal_eager(self, name):
        score = functools.partial(_score, name)
        params, keys = _params((R,)), jax.random.split(KEY, R)
        mask = jax.vmap(lambda p: masks.ones(p, _prunable))(params)
        mapped = jax.jit(jax.vmap(score))(params, mask, keys)
        for r in range(R):
            alone = score(*trees.replicate((params, mask, keys), r))
            for path, leaf in alone.items():
                np.testing.assert_array_equal(mapped[path][r], leaf)

    def test_the_same_key_gives_the_same_bits(self, name):
        mask = masks.ones(_params(), _prunable)
        first, again = (_score(name, _params(), mask, KEY) for _ in range(2))
        jax.tree.map(np.testing.assert_array_equal, first, again)

    def test_it_asks_for_no_examples(self, name):
        assert criteria.CRITERIA[name].examples == 0


def test_magnitude_is_the_absolute_weight_of_the_masked_leaves():
    params = _params()
    scores = criteria.magnitude(params, masks.ones(params, _prunable))
    want = {f"layers/{i}/kernel": np.abs(p["kernel"]) for i, p in enumerate(params["layers"])}
    want["scale"] = np.abs(params["scale"])
    assert scores.keys() == want.keys()
    jax.tree.map(np.testing.assert_array_equal, scores, want)


def test_magnitude_keeps_the_large_whatever_their_sign():
    params = {"fc": {"kernel": np.array([-3.0, 1.0, -0.5, 2.0], np.float32)}}
    mask = masks.ones(params)
    new = select.prune(mask, criteria.magnitude(params, mask), 0.5)
    assert new["fc/kernel"].tolist() == [True, False, False, True]


def test_random_is_uniform_and_blind_to_the_weights():
    mask = {"a/kernel": np.ones((100, 100), bool), "b/kernel": np.ones((100, 100), bool)}
    params = {"a": {"kernel": np.zeros((100, 100))}, "b": {"kernel": np.full((100, 100), np.nan)}}
    scores = criteria.random(params, mask, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, scores, criteria.random({}, mask, key=KEY))
    for leaf in scores.values():
        leaf = np.sort(np.asarray(leaf, np.float64).ravel())
        assert leaf[0] >= 0
        assert leaf[-1] < 1
        grid = np.arange(1, leaf.size + 1) / leaf.size
        assert np.max(np.abs(leaf - grid)) < 1.95 / np.sqrt(leaf.size)  # Kolmogorov, p = 0.001


def test_random_draws_apart_for_every_leaf_and_key():
    mask = {"a/kernel": np.ones(50, bool), "b/kernel": np.ones(50, bool)}
    scores = criteria.random({}, mask, key=KEY)
    other = criteria.random({}, mask, key=jax.random.key(6))
    draws = np.stack([*scores.values(), *other.values()])
    assert np.unique(draws).size > 190  # float32 draws collide rarely


def test_random_needs_a_key():
    with pytest.raises(TypeError, match="key"):
        criteria.random({}, {"a/kernel": np.ones(2, bool)})
