"""`pruning.masks`: what is prunable, what is kept, and parameters under a mask."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from pruning import masks
from tests.pruning.small import KEEPS, SIZE, same, unflatten


def test_ones_holds_the_kernels_of_nested_trees_and_lists():
    params = {
        "z": {"kernel": np.zeros((2, 2, 1, 3)), "bias": np.zeros(3)},
        "blocks": [{"kernel": np.zeros(4)}, {"scale": np.zeros(()), "inner": {"kernel": 0.0}}],
        "kernel": np.zeros(()),
        "not_kernel": np.zeros(2),
    }
    params["blocks"][1]["inner"]["kernel"] = np.zeros((1, 2))
    mask = masks.ones(params)
    want = {"blocks/0/kernel": (4,), "blocks/1/inner/kernel": (1, 2), "kernel": ()}
    assert list(mask) == [*want, "z/kernel"]
    same(mask, {p: np.ones(s, bool) for p, s in (want | {"z/kernel": (2, 2, 1, 3)}).items()})


def test_a_predicate_on_paths_chooses_what_is_prunable():
    params = {"a": {"kernel": np.zeros(2), "bias": np.zeros(3)}, "b": [np.zeros(())]}
    assert list(masks.ones(params, lambda path: True)) == ["a/bias", "a/kernel", "b/0"]
    assert list(masks.ones(params, lambda path: path.startswith("a/b"))) == ["a/bias"]


def test_ones_with_nothing_prunable_names_the_leaves():
    with pytest.raises(ValueError, match=r"no leaf is prunable.*'a/bias', 'b/0'"):
        masks.ones({"a": {"bias": np.zeros(2)}, "b": [np.zeros(2)]})


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_apply_zeroes_the_pruned_and_leaves_the_rest_bit_for_bit(transform):
    kernel = np.array([[math.nan, 1.5], [-math.inf, math.nan]], np.float32)
    params = {
        "a": [{"kernel": kernel, "bias": np.full(1, math.nan, np.float32)}],
        "b": np.float32(2),
    }
    mask = {"a/0/kernel": np.array([[False, True], [False, True]]), "b": np.array(False)}
    new = transform(masks.apply)(mask, params)
    np.testing.assert_array_equal(new["a"][0]["kernel"], [[0, 1.5], [0, math.nan]])
    assert not np.any(np.signbit(np.asarray(new["a"][0]["kernel"])[:, 0]))
    assert np.isnan(new["a"][0]["bias"]).all()
    assert new["b"] == 0
    assert jax.tree.structure(new) == jax.tree.structure(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(np.float32)}


def test_apply_refuses_a_mask_of_other_paths_or_shapes():
    with pytest.raises(ValueError, match=r"'b/kernel' is not among the parameters \['a/kernel'\]"):
        masks.apply({"b/kernel": np.ones(2, bool)}, {"a": {"kernel": np.zeros(2)}})
    with pytest.raises(ValueError, match=r"'a/kernel' has shape \(2,\), the parameter \(2, 2\)"):
        masks.apply({"a/kernel": np.ones(2, bool)}, {"a": {"kernel": np.zeros((2, 2))}})


@given(KEEPS)
def test_density_and_kept_are_exact(keep):
    mask = unflatten(keep, bool)
    assert masks.density(mask).dtype == np.float32
    assert float(masks.density(mask)) == np.float32(sum(keep) / SIZE)
    want = {"a": sum(keep[:12]), "net/conv": sum(keep[12:24]), "scale": keep[24]}
    assert {layer: int(n) for layer, n in masks.kept(mask).items()} == want


def test_density_and_kept_map_over_replicates():
    mask = {"a/kernel": np.arange(6).reshape(3, 2) < 3, "b/kernel": np.ones((3, 2), bool)}
    np.testing.assert_array_equal(jax.vmap(masks.density)(mask), np.float32([1, 0.75, 0.5]))
    np.testing.assert_array_equal(jax.vmap(masks.kept)(mask)["a"], [2, 1, 0])


def test_layer_of_drops_the_last_part():
    paths = {"fc1/kernel": "fc1", "net/fc1/bias": "net/fc1", "kernel": "kernel"}
    assert {path: masks.layer_of(path) for path in paths} == paths
