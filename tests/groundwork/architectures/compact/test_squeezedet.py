"""SqueezeDet's outputs, and what every other part of the codebase does with the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress
from compress import quantize
from groundwork import detection, trees
from groundwork.architectures import build, shapes
from groundwork.errors import UserError
from pruning import masks, structured
from tests.groundwork.architectures.compact.test_squeezenet import fire, pooled
from tests.groundwork.architectures.references import convolve, relu
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

CLASSES, SIDE = 2, 16
SECTION = {"name": "squeezedet_small", "width": 0.1}


@pytest.fixture(scope="module")
def tiny():
    """A narrow network, variables that numpy drew, images; compiled once."""
    model = build(SECTION, CLASSES)
    variables = as_float32(drawn_by_numpy(model, (SIDE, SIDE, 1)))
    images = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 1)).astype("f4")
    return model, variables, images


@pytest.fixture(scope="module")
def apply(tiny):
    return quickly(tiny[0].apply)


@pytest.fixture(scope="module")
def outputs(tiny, apply):
    _, variables, images = tiny
    return np.asarray(apply(variables, images))


def test_outputs_are_those_of_numpy_anchor_by_anchor(tiny, outputs):
    _, variables, images = tiny
    p = jax.tree.map(np.asarray, variables["params"])
    x = pooled(relu(convolve(p["conv1"], images, 1)))
    for number in range(2, 12):
        x = fire(p[f"fire{number}"], x)
        x = pooled(x) if number in (3, 5) else x
    expected = convolve(p["output"], x, 1)  # [2, 2, 2, 3 · 7]
    assert expected.shape == (2, 2, 2, 21)
    np.testing.assert_allclose(outputs.reshape(expected.shape), expected, rtol=1e-3, atol=1e-5)
    grid = detection.Grid(height=SIDE, width=SIDE, stride=8, shapes=((3, 4), (5, 6), (7, 8)))
    assert outputs.shape == (2, len(grid.anchors), 5 + CLASSES)
    # the second shape in the second column of the first row, in both orders
    np.testing.assert_allclose(grid.anchors[4], [2 * SIDE / 3, SIDE / 3, 5, 6], rtol=1e-6)
    np.testing.assert_allclose(outputs[0, 4], expected[0, 0, 1, 7:14], rtol=1e-3, atol=1e-5)


def test_the_grids_are_those_of_the_networks():
    for name, grid in (("squeezedet", detection.KITTI), ("squeezedet_small", detection.SMALL)):
        model = build({"name": name}, 3)
        assert (grid.height, grid.width) == model.image[:2]
        assert (grid.stride, len(grid.shapes)) == (model.stride, model.anchors)


def test_images_and_settings_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="multiples of 8 pixels high and wide, not 16×20"):
        shapes(build(SECTION, 2), (16, 20, 1))
    with pytest.raises(UserError, match="anchors=0 must be at least 1"):
        build({**SECTION, "anchors": 0}, 2)


def test_masks_hold_its_kernels(tiny):
    _, variables, _ = tiny
    mask = masks.ones(variables["params"])
    assert len(mask) == 2 + 3 * 10
    assert all(path.endswith("/kernel") for path in mask)


def test_narrowed_it_computes_what_zeros_do(tiny, apply):
    model, variables, images = tiny
    graph = structured.groups(model, variables, images)
    assert all(group.exact for group in graph.groups)
    # the first convolution, and of ten fire modules the squeezed and both expanded channels
    assert len(graph.groups) == 1 + 3 * 10
    draw = np.random.default_rng(4)
    keep = {g.name: draw.permutation(g.units) < max(1, g.units // 2) for g in graph.groups}
    network, small = structured.narrow(graph, variables, keep)
    want = np.asarray(apply(structured.mask(graph, variables, keep), images))
    got = quickly(network.apply)(small, images)
    np.testing.assert_allclose(got, want, atol=1e-5 * abs(want).max())
    assert trees.count(small) < 0.5 * trees.count(variables)
    assert want.std() > 0.001


def test_its_file_gives_back_the_quantised_network(tiny, tmp_path):
    model, variables, images = tiny

    def stored(path, leaf):
        return quantize.uniform(leaf, 4) if jnp.ndim(leaf) >= 2 else leaf

    coded = {"params": trees.map_with_path(stored, variables["params"])}
    whole = quantize.materialize(coded)
    compress.save(tmp_path / "a.cna", model, coded, example=(SIDE, SIDE, 1))
    apply, again = compress.load(tmp_path / "a.cna")
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    assert jax.eval_shape(apply, again, images).shape == (2, 12, 5 + CLASSES)
