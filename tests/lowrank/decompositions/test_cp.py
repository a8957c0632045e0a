"""`lowrank.cp` and `lowrank.stability` against TensorLy and `jax.lax`'s convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorly.cp_tensor import cp_to_tensor
from tensorly.decomposition import parafac

from lowrank.decompositions import cp, stability
from tests.lowrank import convolutions, tensors

KEY = jax.random.key(0)
TWENTY = tensors.twenty()


def _made(factors):
    letters = "abcd"[: len(factors)]
    subscripts = ",".join(x + "k" for x in letters) + "->" + letters
    return np.einsum(subscripts, *(np.asarray(f, np.float64) for f in factors))


def _relative(tensor, factors):
    return np.linalg.norm(tensor - _made(factors)) / np.linalg.norm(tensor)


def _start(shape, rank, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(size, rank)).astype("f4") for size in shape]


def _border(noise=0.0):
    """Of rank 3, but approached by rank 2 without end (de Silva & Lim 2008, Section 4.7)."""
    rng = np.random.default_rng(0)
    a, b, c, x, y, z = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    pairs = ((a, b, z), (a, y, c), (x, b, c))
    tensor = sum(np.einsum("i,j,k", *vectors) for vectors in pairs)
    return (tensor + noise * rng.normal(size=(6, 6, 6))).astype("f4")


@pytest.mark.parametrize(("name", "tensor", "rank"), TWENTY)
def test_no_worse_than_tensorly_from_the_same_factors_in_as_many_sweeps(name, tensor, rank):
    start = _start(tensor.shape, rank)
    ours = cp.decompose(None, tensor, rank, init=start)
    theirs = parafac(
        tensor.astype("f8"), rank, n_iter_max=100, init=(np.ones(rank), [*start]), tol=1e-8
    )
    theirs = np.linalg.norm(tensor - cp_to_tensor(theirs)) / np.linalg.norm(tensor)
    assert float(ours.error) <= theirs + 2e-3
    np.testing.assert_allclose(ours.error, _relative(tensor, ours.factors), atol=2e-6)


def test_one_sweep_is_tensorlys_whatever_the_order_of_sizes():
    for shape in ((6, 7, 8), (8, 2, 2, 8)):  # the second is cut in its middle
        tensor = np.random.default_rng(1).normal(size=shape)
        start = _start(shape, 3)
        _, theirs = parafac(
            tensor, 3, n_iter_max=2, init=(np.ones(3), [f.astype("f8") for f in start]), tol=0
        )
        with jax.enable_x64(True):
            ours = cp.decompose(None, tensor, 3, sweeps=2, init=start, tolerance=0, ridge=0)
            assert ours.factors[0].dtype == np.dtype("f8")
        np.testing.assert_allclose(_made(ours.factors), _made(theirs), atol=1e-10)
        assert int(ours.sweeps) == 2


@pytest.mark.parametrize(("shape", "rank"), tensors.SHAPES)
def test_exact_tensors_are_recovered(shape, rank):
    for seed in range(5):
        tensor = tensors.low_rank(np.random.default_rng(seed), shape, rank).astype("f4")
        result = cp.decompose(jax.random.key(seed), tensor, rank, sweeps=1000)
        assert float(result.error) < 1e-5
        assert _relative(tensor, result.factors) < 1e-5
        assert bool(result.converged)
        assert int(result.sweeps) < 1000


def test_the_error_is_of_the_residual_not_of_its_gram_form():
    tensor, start = tensors.low_rank(np.random.default_rng(0), (6, 7, 8), 3), _start((6, 7, 8), 3)
    with jax.enable_x64(True):
        result = cp.decompose(None, tensor, 3, sweeps=1000, init=start, tolerance=0, ridge=0)
        assert float(result.error) < 1e-11  # the Gram form ends at 1e-8


def test_more_components_than_the_tensor_has_do_no_harm():
    tensor = tensors.low_rank(np.random.default_rng(0), (6, 7, 8), 2).astype("f4")
    result = cp.decompose(None, tensor, 12, sweeps=300, init=_start(tensor.shape, 12))
    assert float(result.error) < 1e-4
    assert np.isfinite(cp.norms(result.factors)).all()
    start = [np.ones((n, 12), "f4") for n in tensor.shape]  # a singular Gram matrix, no ridge
    result = cp.decompose(None, tensor, 12, sweeps=300, init=start, ridge=0)
    assert np.isfinite([leaf.sum() for leaf in jax.tree.leaves(result)]).all()
    assert float(result.error) < 0.999  # all components stay equal


def test_the_best_start_wins_and_the_best_check_is_kept():
    tensor = TWENTY[0][1]
    alone = [
        float(cp.decompose(None, tensor, 3, init=[f[r] for f in _starts(tensor, 3)]).error)
        for r in range(4)
    ]
    result = cp.decompose(KEY, tensor, 3)
    np.testing.assert_allclose(result.error, min(alone), atol=1e-5)
    assert max(alone) > min(alone) + 1e-3  # starts do differ
    optimum = cp.decompose(KEY, tensor, 3, sweeps=2000)
    for sweeps in (10, 40):  # more sweeps from the best are never worse
        more = cp.decompose(None, tensor, 3, init=optimum.factors, sweeps=sweeps, ridge=0.1)
        assert float(more.error) <= float(optimum.error) + 1e-6


def _starts(tensor, rank, restarts=4):
    keys = jax.random.split(KEY, tensor.ndim)
    return [
        jax.random.normal(k, (restarts, n, rank)) for k, n in zip(keys, tensor.shape, strict=True)
    ]


def test_the_same_key_gives_the_same_bits_and_other_sweeps_compile_nothing():
    tensor = TWENTY[0][1]
    first, again, other = (cp.decompose(k, tensor, 3) for k in (KEY, KEY, jax.random.key(1)))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.allclose(first.factors[0], other.factors[0])
    before = cp._best._cache_size()
    assert int(cp.decompose(KEY, tensor, 3, sweeps=17, tolerance=0).sweeps) == 17
    assert cp._best._cache_size() == before


def test_norms_are_spread_over_the_modes_evenly():
    factors = cp.decompose(KEY, TWENTY[0][1], 3).factors
    sizes = np.stack([np.linalg.norm(f, axis=0) for f in factors])
    np.testing.assert_allclose(sizes, np.broadcast_to(sizes[:1], sizes.shape), rtol=1e-4)
    np.testing.assert_allclose(cp.norms(factors), sizes.prod(0), rtol=1e-4)
    factors = [np.asarray(f) for f in factors]
    uneven = [factors[0] * 100, factors[1] / 100, factors[2] * np.float32([1, 0, -1])]
    balanced = cp.balance(uneven)
    np.testing.assert_allclose(_made(balanced), _made(uneven), atol=1e-5)
    np.testing.assert_allclose(cp.reconstruct(balanced), _made(balanced), atol=1e-5)


def test_the_ridge_bounds_components_that_cancel():
    tensor = _border()
    free, held = (
        cp.decompose(KEY, tensor, 2, sweeps=2000, tolerance=0, ridge=r) for r in (0, 1e-3)
    )
    size = np.linalg.norm(tensor)
    assert np.max(cp.norms(free.factors)) > 3 * size
    assert np.max(cp.norms(held.factors)) < 2 * size
    assert float(held.error) < float(free.error) + 0.1


def test_stabilize_lowers_the_norm_and_keeps_the_error():
    tensor = _border(0.01)
    result = cp.decompose(KEY, tensor, 2, sweeps=1000, ridge=0, tolerance=0)
    before = np.linalg.norm(cp.norms(result.factors)) / np.linalg.norm(tensor)
    norms = []
    for slack in (0.0, 0.01, 0.1):
        factors, norm, error = stability.stabilize(tensor, result.factors, slack)
        after = np.linalg.norm(cp.norms(factors)) / np.linalg.norm(tensor)
        np.testing.assert_allclose(norm, after, rtol=1e-4)
        np.testing.assert_allclose(error, _relative(tensor, factors), atol=1e-6)
        assert float(error) <= (1 + slack) * float(result.error) + 1e-6
        norms.append(after)
    assert norms[0] <= before * 1.0001
    assert norms[1] < 0.95 * norms[0]
    assert norms[2] < 0.9 * norms[1]


def test_stabilize_comes_to_the_least_norm_that_a_descent_finds():
    """Penalised ALS in numpy, whose ridge is chosen so that it ends at the same error."""
    tensor = _border(0.01)
    result = cp.decompose(KEY, tensor, 2, sweeps=1000, ridge=0, tolerance=0)
    tensor = tensor.astype("f8")
    with jax.enable_x64(True):
        factors, norm, error = stability.stabilize(tensor, result.factors, 0.1, 500)
    low, high = 1e-8, 1.0
    for _ in range(25):
        ridge = np.sqrt(low * high)
        reached, least = _penalised(tensor, [np.asarray(f) for f in factors], ridge)
        low, high = (ridge, high) if reached < float(error) else (low, ridge)
    np.testing.assert_allclose(reached, error, rtol=1e-4)
    np.testing.assert_allclose(norm, least, rtol=2e-3)


def _penalised(tensor, factors, ridge, sweeps=300):
    size = np.linalg.norm(tensor)
    for _ in range(sweeps):
        for mode in range(3):
            units = [f / np.linalg.norm(f, axis=0) for f in factors]
            one, two = (units[m] for m in range(3) if m != mode)
            thin = np.einsum("jk,lk->jlk", one, two).reshape(-1, one.shape[1])
            gram = thin.T @ thin + ridge * np.eye(thin.shape[1])
            unfolded = np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)
            units[mode] = np.linalg.solve(gram, thin.T @ unfolded.T).T
            factors = units
    norms = np.prod([np.linalg.norm(f, axis=0) for f in factors], 0)
    return np.linalg.norm(tensor - _made(factors)) / size, np.linalg.norm(norms) / size


def test_order_two_is_the_svd():
    matrix = np.random.default_rng(0).normal(size=(6, 5)).astype("f4")
    sigma = np.linalg.svd(matrix, compute_uv=False)
    error = cp.decompose(KEY, matrix, 2, sweeps=500).error
    np.testing.assert_allclose(error, np.linalg.norm(sigma[2:]) / np.linalg.norm(sigma), rtol=1e-4)


def test_zero_has_error_zero_and_scales_do_not_matter():
    result = cp.decompose(KEY, np.zeros((3, 4, 5)), 2)
    assert float(result.error) == 0
    assert not np.any(_made(result.factors))
    tensor = TWENTY[0][1]
    error = cp.decompose(KEY, tensor, 3).error
    for scale in (1e-20, 1e20):
        scaled = cp.decompose(KEY, tensor * np.float32(scale), 3).error
        np.testing.assert_allclose(scaled, error, atol=1e-5)


def test_under_vmap_as_alone():
    stack, start = np.stack([TWENTY[i][1] for i in (0, 4)]), _start((6, 7, 8), 3)
    mapped = jax.vmap(lambda t: cp.decompose(None, t, 3, init=start))(stack)
    for r in range(2):
        alone = cp.decompose(None, stack[r], 3, init=start)
        np.testing.assert_allclose(mapped.error[r], alone.error, atol=1e-5)
        np.testing.assert_array_equal(mapped.sweeps[r], alone.sweeps)


def test_short_floats_are_upcast():
    result = cp.decompose(KEY, jnp.asarray(TWENTY[0][1], jnp.bfloat16), 3)
    assert {leaf.dtype for leaf in result.factors} == {np.dtype("f4")}


@pytest.mark.parametrize(("strides", "padding"), convolutions.CASES)
def test_the_four_convolve_as_the_kernel_they_make_up(strides, padding):
    shape, inputs = (3, 3, 2, 4), convolutions.images(2)
    down, across = convolutions.split(strides, padding)
    for factors in (_start(shape, 5), _full(_start(shape, 1, 1), shape)):
        first, vertical, horizontal, last = cp.kernels(factors)
        rank = factors[0].shape[1]
        outputs = convolutions.conv(inputs, first, (1, 1), "VALID")
        outputs = convolutions.conv(outputs, vertical, *down, groups=rank)
        outputs = convolutions.conv(outputs, horizontal, *across, groups=rank)
        outputs = convolutions.conv(outputs, last, (1, 1), "VALID")
        made = _made(factors).astype("f4")
        want = convolutions.conv(inputs, made, strides, padding)
        np.testing.assert_allclose(outputs, want, atol=2e-4)


def _full(_, shape):
    """A kernel's exact factors at rank kh·kw·in: every fibre of outputs is a component."""
    kernel = np.random.default_rng(3).normal(size=shape).astype("f4")
    grid = np.indices(shape[:3]).reshape(3, -1)
    units = [np.eye(n, dtype="f4")[:, at] for n, at in zip(shape[:3], grid, strict=True)]
    factors = [*units, kernel.reshape(-1, shape[3]).T]
    np.testing.assert_array_equal(_made(factors), kernel)
    return factors


def test_full_rank_is_exact_on_a_kernel():
    kernel = np.random.default_rng(3).normal(size=(3, 3, 2, 4)).astype("f4")
    start = _start(kernel.shape, 18)
    assert float(cp.decompose(None, kernel, 18, sweeps=500, init=start).error) < 1e-3


def test_bad_input_is_refused_in_one_line():
    tensor = TWENTY[0][1]
    start = _start(tensor.shape, 3)
    for arguments, message in (
        ((KEY, tensor[0, 0], 1), "order 2 or more"),
        ((KEY, tensor, 0), "rank 0 is outside 1…42"),
        ((KEY, tensor, 43), "rank 43 is outside 1…42"),
        ((KEY, np.full((3, 4, 5), np.nan), 2), "not finite"),
        ((KEY, tensor, 3, 0), "restarts=0"),
        ((KEY, tensor, 3, 4, 0), "sweeps=0"),
        ((None, tensor, 3), "a key is needed"),
        ((None, tensor, 3, 4, 10, start[:2]), "factors have the shapes"),
        ((None, tensor, 2, 4, 10, start), r"\(6, 2\)"),
        ((None, tensor, 3, 4, 10, [f * np.nan for f in start]), "factor 0 are not finite"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            cp.decompose(*arguments)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="four factors"):
        cp.kernels(start)
    with pytest.raises(ValueError, match="slack=-1"):
        stability.stabilize(tensor, start, -1)
    with pytest.raises(ValueError, match="factors have the shapes"):
        stability.stabilize(tensor, start[:2])
