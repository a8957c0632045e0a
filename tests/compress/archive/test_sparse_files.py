"""What `compress.load(compute=…)` gives, beside the function as it is."""

import jax
import numpy as np
import pytest

import compress
from compress import quantize
from groundwork.errors import UserError
from tests.compress import archives


@pytest.fixture
def path(tmp_path):
    model, variables = archives.network("lenet_300_100")
    random = np.random.default_rng(0)
    pruned = jax.tree.map(
        lambda leaf: leaf * (random.random(leaf.shape) < 0.1) if leaf.ndim == 2 else leaf, variables
    )
    stored = archives.stored(pruned, [archives.SCHEMES["shared"]])
    compress.save(tmp_path / "a", model, stored)
    assert isinstance(quantize.materialize(stored), dict)
    return tmp_path / "a"


@pytest.mark.parametrize("batch", [1, 20])
def test_a_sparse_network_is_the_dense_one(path, batch):
    apply, variables = compress.load(path)
    sparse, same = compress.load(path, compute="sparse")
    archives.same(same, variables)
    x = np.random.default_rng(1).normal(size=(batch, 28, 28, 1)).astype("f4")
    expected = apply(variables, x, train=False)
    for found in (sparse(same, x, train=False), jax.jit(lambda x: sparse(same, x))(x)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected) > 0


def test_a_sparse_network_takes_its_own_variables_alone(path):
    apply, variables = compress.load(path, compute="sparse")
    x = np.zeros((1, 28, 28, 1), "f4")
    with pytest.raises(UserError, match="zeros of its own variables"):
        apply(jax.tree.map(lambda leaf: leaf + 1, variables), x)
    with pytest.raises(UserError, match="zeros of its own variables"):
        jax.jit(apply)(variables, x)
    assert apply(jax.tree.map(lambda leaf: leaf, variables), x).shape == (1, 10)  # the same arrays
    first = next(iter(variables["params"].values()))
    first["bias"] = first["bias"] + 1
    with pytest.raises(UserError, match="zeros of its own variables"):
        apply(variables, x)


def test_another_way_to_compute_is_refused_before_the_file_is_read(tmp_path):
    with pytest.raises(UserError, match="compute"):
        compress.load(tmp_path / "none", compute="spars")
