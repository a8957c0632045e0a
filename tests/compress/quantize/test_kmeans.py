"""k-means against scikit-learn's Lloyd from the same start, and a plain loop."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress import quantize

kmeans = quantize.kmeans
KEY = jax.random.key(0)
SIZE = 600  # this length and [3, 4], nearly always with 3 bits: each other one compiles
TWELVE = np.float32([[0, 1, 4, 9], [16, 25, 36, 49], [64, 81, 100, 121]])


def _weights(seed=0, size=SIZE):
    """Heavy tails: even starting centroids leave clusters empty."""
    return np.random.default_rng(seed).standard_t(3, size=size).astype("f4")


def _start(values, count, init):
    """The starting centroids as the docstring has them, in numpy."""
    values = np.sort(values)
    if init == "linear":
        return np.linspace(values[0], values[-1], count)
    return values[[int(len(values) * (2 * i + 1)) // (2 * count) for i in range(count)]]


def _reference(values, start):
    """scikit-learn's centroids, rising, and labels, in float64 until nothing changes."""
    from sklearn.cluster import KMeans  # seconds, which other workers need not spend

    fit = KMeans(
        len(start),
        init=np.float64(start)[:, None],
        n_init=1,
        max_iter=10_000,
        tol=0,
        algorithm="lloyd",
    ).fit(np.float64(values)[:, None])
    order = np.argsort(fit.cluster_centers_[:, 0])
    return fit.cluster_centers_[order, 0], np.argsort(order)[fit.labels_]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("bits", "init"), [(3, "linear"), (3, "density"), (5, "linear")])
def test_clusters_are_those_of_scikit_learn(bits, init, seed):
    weights = _weights(seed)
    start = _start(weights, 2**bits, init)
    codebook, labels = _reference(weights, start)
    clusters = kmeans(weights, bits, init=init)
    assert bool(clusters.converged)
    np.testing.assert_array_equal(clusters.indices, labels)
    np.testing.assert_allclose(clusters.codebook, codebook, rtol=1e-5, atol=1e-7)
    if bits == 3:
        given_start = kmeans(weights, bits, init=start[::-1])  # in any order
        np.testing.assert_array_equal(given_start.indices, labels)


def test_the_linear_start_of_these_leaves_clusters_empty():
    """So that the test above covers what scikit-learn does about them."""
    start = _start(_weights(), 32, "linear")
    nearest = np.argmin(np.abs(_weights()[:, None] - start), axis=1)
    assert len(np.unique(nearest)) < 32


@pytest.mark.parametrize("init", ["linear", "density"])
def test_with_a_mask_kept_weights_cluster_alone_and_zero_is_its_own(init):
    weights = _weights(1)
    mask = np.abs(weights) > 0.7
    codebook, labels = _reference(weights[mask], _start(weights[mask], 7, init))
    clusters = kmeans(weights, 3, mask, init)
    assert float(clusters.codebook[0]) == 0
    np.testing.assert_allclose(clusters.codebook[1:], codebook, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(clusters.indices[mask], labels + 1)
    assert not clusters.indices[~mask].any()
    dequantized = np.asarray(quantize.dequantize(clusters))
    assert (dequantized[~mask] == 0).all()
    assert (dequantized[mask] != 0).all()


def test_a_random_start_is_as_many_kept_weights_none_twice():
    mask = TWELVE > 20  # seven weights, seven centroids: only a start of all settles at once
    clusters = kmeans(TWELVE, 3, mask, "random", key=KEY, iterations=1)
    np.testing.assert_array_equal(clusters.codebook, [0, *TWELVE[mask]])


def test_a_random_start_depends_on_the_key_alone():
    first, again, other = (
        kmeans(TWELVE, 3, None, "random", jax.random.key(k), 1).codebook for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("init", ["linear", "density", "random"])
def test_fewer_distinct_weights_than_clusters_are_kept_as_they_are(init):
    weights = np.float32([[0.1, 0.1, 0.1, 7], [-7, 0.3, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]])
    clusters = kmeans(weights, 3, init=init, key=KEY)
    np.testing.assert_array_equal(quantize.dequantize(clusters), weights)
    assert bool(clusters.converged)


def test_neighbouring_floats_are_told_apart():
    weights = np.float32([1, np.nextafter(np.float32(1), np.float32(2))])
    for pair in (weights, weights + (weights[1] - 1)):  # either parity of the last bit
        clusters = kmeans(pair, 1)
        np.testing.assert_array_equal(clusters.codebook, pair)
        np.testing.assert_array_equal(clusters.indices, [0, 1])
        assert bool(clusters.converged)


def test_halfway_belongs_to_the_lower_centroid():
    clusters = kmeans(np.float32([0, 3, 0, 5]), 1, init=np.float32([1, 5]))
    np.testing.assert_array_equal(clusters.codebook, [1, 5])
    np.testing.assert_array_equal(clusters.indices, [0, 0, 0, 1])


def test_a_weight_that_an_empty_cluster_takes_leaves_the_mean_of_its_old_one():
    weights, start = np.float32([0, 2, 10, 1]), np.float32([0, 100])  # all are nearer to 0
    clusters = kmeans(weights, 1, init=start, iterations=1)
    np.testing.assert_array_equal(clusters.codebook, [1, 10])


def test_nothing_kept_is_all_zero():
    for init in ("linear", "density", "random"):
        clusters = kmeans(TWELVE, 3, np.zeros((3, 4), bool), init, KEY)
        np.testing.assert_array_equal(quantize.dequantize(clusters), np.zeros((3, 4)))
        np.testing.assert_array_equal(clusters.codebook, np.zeros(8))
        assert bool(clusters.converged)


def test_one_bit_with_a_mask_is_zero_and_the_mean():
    clusters = kmeans(np.float32([1, 2, 6, 50]), 1, np.array([True, True, True, False]))
    np.testing.assert_array_equal(clusters.codebook, [0, 3])
    np.testing.assert_array_equal(clusters.indices, [1, 1, 1, 0])


def test_too_few_iterations_say_so():
    early = kmeans(_weights(), 3, iterations=2)
    assert not bool(early.converged)


@given(
    values=st.lists(st.integers(-9, 9), min_size=12, max_size=12),
    masked=st.booleans(),
    init=st.sampled_from(["linear", "density", "random"]),
)
def test_each_weight_has_its_nearest_centroid_and_each_centroid_is_its_mean(values, masked, init):
    weights = np.float32(values).reshape(3, 4)
    mask = np.abs(weights) > 2 if masked else None
    kept = np.ones((3, 4), bool) if mask is None else mask
    clusters = kmeans(weights, 3, mask, init, KEY)
    assert bool(clusters.converged)
    assert clusters.codebook.shape == (8,)
    assert clusters.indices.shape == (3, 4)
    assert clusters.indices.dtype == np.uint8
    centroids = np.asarray(clusters.codebook)[masked:]
    assert (np.diff(centroids) >= 0).all() or not kept.any()
    indices = np.asarray(clusters.indices, int)[kept] - masked
    distance = np.abs(weights[kept][:, None] - centroids)
    np.testing.assert_allclose(
        distance[np.arange(indices.size), indices], distance.min(1, initial=np.inf), atol=2e-6
    )
    for k in np.unique(indices):
        np.testing.assert_allclose(centroids[k], weights[kept][indices == k].mean(), atol=2e-6)
    distinct = len(np.unique(weights[kept]))
    assert len(np.unique(indices)) == min(distinct, centroids.size)  # none left empty


def test_a_small_cluster_keeps_its_mean_beside_a_large_one():
    """The difference of two float32 prefix sums would move it by 1e-4."""
    weights = np.random.default_rng(0).normal(5.1, 0.1, SIZE).astype("f4")
    weights[:2] = 9.1, 9.3
    clusters = kmeans(weights, 3, init=np.float32([4.8, 4.9, 5, 5.1, 5.2, 5.3, 5.4, 9]))
    assert float(clusters.codebook[-1]) == np.float32(np.mean(weights[:2], dtype="f8"))


def test_jit_and_vmap_give_the_same():
    weights = np.stack([_weights(seed) for seed in (0, 1)])
    mask = np.abs(weights) > 0.5
    alone = [kmeans(weights[r], 3, mask[r]) for r in (0, 1)]
    mapped = jax.jit(jax.vmap(lambda w, m: kmeans(w, 3, m)))(weights, mask)
    for r in (0, 1):
        assert bool(mapped.converged[r])
        np.testing.assert_array_equal(mapped.indices[r], alone[r].indices)
        np.testing.assert_allclose(mapped.codebook[r], alone[r].codebook, rtol=1e-6)


def test_shapes_and_dtypes():
    for bits, dtype in ((1, np.uint8), (8, np.uint8), (9, np.uint16), (16, np.uint16)):
        clusters = jax.eval_shape(lambda w, bits=bits: kmeans(w, bits), jnp.ones((2, 3)))
        assert (clusters.codebook.shape, clusters.codebook.dtype) == ((2**bits,), np.float32)
        assert (clusters.indices.shape, clusters.indices.dtype) == ((2, 3), dtype)
        assert clusters.mask is None
    short = jax.eval_shape(lambda w: kmeans(w, 2), jnp.ones(4, jnp.bfloat16))
    assert short.codebook.dtype == np.float32


def test_float64_stays_float64():
    with jax.enable_x64(True):
        weights = _weights().astype("f8") / 3
        clusters = kmeans(weights, 3)
        codebook, _ = _reference(weights, _start(weights, 8, "linear"))
        np.testing.assert_allclose(clusters.codebook, codebook, rtol=1e-13)


def test_more_than_eight_bits_tell_more_than_256_weights_apart():
    weights = np.arange(SIZE, dtype="f4")
    clusters = kmeans(weights, 9, init="density")
    assert len(np.unique(clusters.indices)) == 512
    error = np.abs(np.asarray(quantize.dequantize(clusters)) - weights)
    assert np.sum(error == 0) >= 512 - 88  # 600 weights, 512 values
    assert error.max() <= 0.5


class TestFakeClusters:
    codebook = np.float32([1.5, -1, 0, 2])

    def test_values_are_the_nearest_entries(self):
        weights = np.float32([[-5, -0.4], [1.5, 1.0]])
        shared = quantize.fake_clusters(weights, self.codebook[1:])
        np.testing.assert_array_equal(shared, [[-1, 0], [2, 0]])
        mask = np.array([[True, False], [True, True]])
        shared = quantize.fake_clusters(weights, self.codebook, mask)
        np.testing.assert_array_equal(shared, [[-1, 0], [2, 0]])

    def test_gradients_pass_inside_the_range_and_add_up_over_clusters(self):
        weights = np.float32([-5, -0.4, 1.5, 1.75, 1.0])
        mask = np.array([True, True, True, True, False])
        toward = np.float32([1, 2, 3, 4, 5])
        of_weights, of_codebook = jax.grad(
            lambda w, c: jnp.sum(toward * quantize.fake_clusters(w, c, mask)), (0, 1)
        )(weights, self.codebook)
        np.testing.assert_array_equal(of_weights, [0, 2, 3, 4, 0])
        np.testing.assert_array_equal(of_codebook, [0, 1, 2, 7])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3), 0), "bits 0 is outside 1…16"),
        ((np.ones(3), 17), "bits 17 is outside 1…16"),
        ((np.ones(3), 2.5), "bits must be an integer, not 2.5"),
        ((np.float32([1, np.nan]), 2), "1 of 2 entries of the weights are not finite"),
        ((np.float32([np.inf, 1]), 2), "1 of 2 entries of the weights are not finite"),
        ((np.ones((0, 3)), 2), "the weights is empty: shape (0, 3)"),
        ((np.array(["a"]), 2), "the weights must be numbers, not <U1"),
        ((np.float32([-3e38, 1]), 2), "the weights reach 3e+38, beyond 8.51e+37 of float32"),
        ((np.ones(3), 2, None, "random", 0), "a key is made by jax.random.key, not 0"),
        ((np.ones(3), 2, np.ones(2, bool)), "the mask has shape (2,), the weights (3,)"),
        ((np.ones(3), 2, np.ones(3)), "the mask must be bool, not float32"),
        ((np.ones(3), 2, None, "even"), "unknown init 'even' (known: linear, density, random)"),
        ((np.ones(3), 2, None, "random"), "init='random' needs a key"),
        ((np.ones(3), 2, None, np.ones(3)), "4 starting centroids are needed, not shape (3,)"),
        ((np.ones(3), 2, None, "linear", None, 0), "iterations=0: 1 at least"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kmeans(*arguments)


def test_integers_of_64_bits_keep_their_values():
    weights = np.resize([2**40, 1, -(2**33)], (3, 4))
    dequantized = quantize.dequantize(kmeans(weights, 3))
    np.testing.assert_array_equal(dequantized, weights.astype(np.float32))


@pytest.mark.parametrize("of", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pruned_weights_may_be_anything(bad, of):
    mask = np.arange(SIZE) % 3 > 0
    weights = _weights()
    broken = np.where(mask, weights, np.float32(bad))
    for one, other in zip(kmeans(of(broken), 3, mask), kmeans(weights, 3, mask), strict=True):
        np.testing.assert_array_equal(one, other)
    broken[1] = bad  # a kept one
    with pytest.raises(ValueError, match="1 of 600 entries of the weights are not finite"):
        kmeans(of(broken), 3, mask)


def test_kernels_of_several_sizes_share_a_program_and_have_the_same_clusters():
    from compress.quantize import k_means

    weights, mask = _weights(), np.arange(SIZE) % 3 > 0
    for kernel, kept in ((weights, None), (weights, mask), (TWELVE, None), (TWELVE, TWELVE > 3)):
        before = k_means._on_line._cache_size()
        found = k_means.kmeans_of_any_size(kernel, 3, kept, most=700)
        wanted = kmeans(kernel, 3, kept)
        np.testing.assert_array_equal(found.indices, wanted.indices)
        assert found.indices.dtype == wanted.indices.dtype
        np.testing.assert_allclose(found.codebook, wanted.codebook, rtol=1e-6, atol=1e-7)
        assert found.converged
        compiled = k_means._on_line._cache_size() - before
    assert not compiled  # 7 and 8 centroids were there
    with pytest.raises(ValueError, match="600 weights are more than most=599"):
        k_means.kmeans_of_any_size(weights, 3, most=599)
    with pytest.raises(ValueError, match="the weights are none, or not finite"):
        k_means.kmeans_of_any_size(weights * np.inf, 3)
