"""`lowrank.decompositions.spatial` against numpy's SVD, a descent from elsewhere, and `jax.lax`."""

import jax
import numpy as np
import pytest

from lowrank.decompositions import spatial
from tests.lowrank import convolutions

SHAPE = (3, 5, 2, 4)


def _kernel(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE).astype("f4")


def _made(vertical, horizontal):
    return np.einsum("hik,wko->hwio", np.asarray(vertical)[:, 0], np.asarray(horizontal)[0])


@pytest.mark.parametrize("rank", [1, 4])
def test_the_error_is_of_the_kernel_made_up_and_below_that_of_alternating_least_squares(rank):
    kernel = _kernel()
    vertical, horizontal, error = spatial.decompose(kernel, rank)
    made = _made(vertical, horizontal)
    np.testing.assert_allclose(spatial.reconstruct(vertical, horizontal), made, atol=1e-6)
    np.testing.assert_allclose(
        error, np.linalg.norm(kernel - made) / np.linalg.norm(kernel), atol=1e-6
    )
    # the paper's way, alternating, from random filters: as good in the end, never better
    matrix = np.stack([kernel[h, :, i].ravel() for h in range(3) for i in range(2)]).astype("f8")
    right = np.random.default_rng(1).normal(size=(rank, matrix.shape[1]))
    for _ in range(500):
        left = matrix @ np.linalg.pinv(right)
        right = np.linalg.pinv(left) @ matrix
    alternated = np.linalg.norm(matrix - left @ right) / np.linalg.norm(matrix)
    np.testing.assert_allclose(error, alternated, atol=1e-5)


@pytest.mark.parametrize(("strides", "padding"), convolutions.CASES)
def test_the_two_convolve_as_the_kernel_they_make_up(strides, padding):
    kernel, inputs = _kernel(), convolutions.images(2)
    down, across = convolutions.split(strides, padding)
    for rank in (2, 6):
        vertical, horizontal, _ = spatial.decompose(kernel, rank)
        outputs = convolutions.conv(inputs, vertical, *down)
        outputs = convolutions.conv(outputs, horizontal, *across)
        want = convolutions.conv(inputs, _made(vertical, horizontal), strides, padding)
        np.testing.assert_allclose(outputs, want, atol=1e-4)
    np.testing.assert_allclose(
        outputs, convolutions.conv(inputs, kernel, strides, padding), atol=1e-4
    )  # at full rank


def test_under_vmap_as_alone():
    kernels = np.stack([_kernel(0), _kernel(1)])
    mapped = jax.vmap(lambda k: spatial.decompose(k, 2))(kernels)
    for r in range(2):
        alone = spatial.decompose(kernels[r], 2)
        np.testing.assert_allclose(
            _made(mapped.vertical[r], mapped.horizontal[r]),
            _made(alone.vertical, alone.horizontal),
            atol=1e-5,
        )


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="rank 7 is outside 1…6"):
        spatial.decompose(_kernel(), 7)
    with pytest.raises(ValueError, match="rank 0"):
        spatial.decompose(_kernel(), 0)
    with pytest.raises(ValueError, match="kernel must have 4 axes"):
        spatial.decompose(np.zeros((3, 3)), 1)
    with pytest.raises(ValueError, match="not finite"):
        spatial.decompose(np.full(SHAPE, np.inf), 1)
