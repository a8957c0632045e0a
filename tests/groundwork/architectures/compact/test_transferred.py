"""Transferred filters: equivariance, and equivalence with ordinary convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import build, shapes
from groundwork.architectures.compact import transferred
from groundwork.errors import UserError
from groundwork.traced import reach
from tests.groundwork.architectures.references import convolve
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly

RNG = np.random.default_rng(0)
ELEMENTS = range(8)


def act(element, images, axes=(1, 2)):
    """By numpy: columns are flipped for the last four, then come turns by 90°."""
    flipped = np.flip(images, axes[1]) if element >= 4 else images
    return np.rot90(flipped, element % 4, axes)


def product(one, other):
    """gh, found by what it does to an image without symmetry."""
    image = np.arange(9).reshape(3, 3)
    both = act(one, act(other, image, (0, 1)), (0, 1))
    return next(g for g in ELEMENTS if np.array_equal(act(g, image, (0, 1)), both))


def section(name, **settings):
    return {"name": name, **settings}


def applied(config, images, tree=None):
    """Logits of a network with drawn variables, or the given ones, and these variables."""
    module = build(config, 5)
    tree = tree or drawn_by_numpy(module, images.shape[1:])
    found = quickly(module.apply)(*as_float32((tree, images)))
    return np.asarray(found), tree


# rotations and flips


@pytest.mark.parametrize("size", [4, 8])
def test_what_an_element_sees_is_what_its_inverse_moves(size):
    for g in range(size):
        seen = transferred.seen_from(g, size)
        assert [product(g, other) for other in seen] == list(range(size))


class Two(nn.Module):
    """A layer that lifts images, and one of fields."""

    flips: bool

    @nn.compact
    def __call__(self, x):
        for number, fields in enumerate((2, 3)):
            x = transferred.Cyclic(fields, number == 0, self.flips, jnp.float32)(x)
            x = nn.relu(x)
        return x


@pytest.mark.parametrize("flips", [False, True])
def test_maps_of_moved_images_are_moved_and_permuted(flips):
    size, module = (8, Two(True)) if flips else (4, Two(False))
    image = RNG.normal(size=(7, 7, 2))
    moved = np.stack([act(h, image, (0, 1)) for h in range(size)])
    params = drawn_by_numpy(module, image.shape)
    assert params["params"]["Cyclic_1"]["kernel"].shape == (3, 3, 2 * size, 3)
    maps = np.asarray(quickly(module.apply)(*as_float32((params, moved))))
    maps = maps.reshape(size, 7, 7, size, 3)
    assert abs(maps[0, :, :, 0] - maps[0, :, :, 1]).max() > 0.1
    for h in range(size):
        for g in range(size):
            expected = act(h, maps[0, :, :, g], (0, 1))
            np.testing.assert_allclose(maps[h, :, :, product(h, g)], expected, atol=1e-4)


@pytest.mark.parametrize("flips", [False, True])
def test_logits_are_the_same_for_moved_images(flips):
    image = RNG.normal(size=(16, 16, 3))
    moved = np.stack([act(h, image, (0, 1)) for h in ELEMENTS])
    found, _ = applied(section("cyclic_small", flips=flips), moved)
    scale = abs(found).max()
    np.testing.assert_allclose(found[:4], np.tile(found[0], (4, 1)), atol=1e-5 * scale)
    apart = abs(found[4:] - found[0]).max()
    assert apart < 1e-5 * scale if flips else apart > 0.01 * scale


# CReLU


def test_crelu_is_relu_after_filters_that_come_with_their_negatives():
    images = RNG.normal(size=(2, 16, 16, 3))
    found, tree = applied(section("crelu_small", width=0.25), images)
    pairs = {"params": {"output": tree["params"]["output"]}, "batch_stats": {}}
    for number in range(1, 5):
        kernel, norm = (tree["params"][f"{kind}{number}"] for kind in ("conv", "bn"))
        stats = tree["batch_stats"][f"bn{number}"]
        kernel = np.concatenate([kernel["kernel"], -kernel["kernel"]], -1)
        pairs["params"][f"conv{number}"] = {"kernel": kernel}
        pairs["params"][f"bn{number}"] = {
            "scale": np.tile(norm["scale"], 2),
            "bias": np.concatenate([norm["bias"], -norm["bias"]]),
        }
        pairs["batch_stats"][f"bn{number}"] = {
            "mean": np.concatenate([stats["mean"], -stats["mean"]]),
            "var": np.tile(stats["var"], 2),
        }
    expected, _ = applied(section("plain_small", width=0.25), images, pairs)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# doubly convolutional


def crops(meta, size=3):
    """[m, m, C, N] → [D, D, size, size, C, N], each place of the window."""
    places = range(meta.shape[0] - size + 1)
    return np.array([[meta[r : r + size, c : c + size] for c in places] for r in places])


def test_doubly_convolutional_layers_are_convolutions_with_translated_crops():
    images = RNG.normal(size=(2, 16, 16, 3))
    found, tree = applied(section("doubly_small", width=0.25), images)
    params = dict(tree["params"])
    for number in range(1, 5):
        each = crops(params[f"conv{number}"]["kernel"])  # [2, 2, 3, 3, C, N]
        wide = each.transpose(2, 3, 4, 0, 1, 5)
        params[f"conv{number}"] = {"kernel": wide.reshape(*wide.shape[:3], -1)}
    expected, _ = applied(section("plain_small", width=0.25), images, {**tree, "params": params})
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_maps_of_neighbouring_crops_are_pooled():
    layer = transferred.Doubly(3, jnp.float32, meta=6, pool=2)
    x = RNG.normal(size=(2, 5, 4, 2))
    tree = drawn_by_numpy(layer, x.shape[1:])
    found = quickly(layer.apply)(*as_float32((tree, x)))
    each = crops(tree["params"]["kernel"])
    maps = [[convolve({"kernel": kernel}, x, 1) for kernel in row] for row in each]
    pooled = [
        np.max([maps[r][c], maps[r][c + 1], maps[r + 1][c], maps[r + 1][c + 1]], 0)
        for r in (0, 2)
        for c in (0, 2)
    ]
    np.testing.assert_allclose(found, np.concatenate(pooled, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{"meta": 2}, {"meta": 6, "pool": 3}])
def test_meta_filters_that_do_not_fit_are_refused(settings):
    with pytest.raises(UserError, match=r"model: meta=.* must be a number from 3 on"):
        build(section("doubly_small", **settings), 10)


# what other methods do with them


@pytest.mark.parametrize("name", ["cyclic_small", "doubly_small"])
def test_low_rank_and_its_like_list_what_they_cannot_reach(name):
    module = build(section(name), 10)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    reached, refused = reach.layers(module, shapes(module, (32, 32, 3)), images)
    assert list(reached) == ["output"]
    assert refused.keys() == {f"conv{number}/kernel" for number in range(1, 5)}
    assert all("goes through" in reason for reason in refused.values())
