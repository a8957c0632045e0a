import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.data import dataset as data_lib
from groundwork.devices import mesh as mesh_lib
from groundwork.errors import UserError
from groundwork.train import outputs, replicates
from tests.conftest import ROOT

DIGITS = {"name": "digits", "source": "digits", "validation_examples": 101}
STREAM = {
    "name": "tiny_digits",
    "source": "tfds",
    "dir": str(ROOT / "tests/fixtures/tfds"),
    "stream": True,
    "validation_examples": 20,
}


class Two(nn.Module):
    """Two outputs of different shapes."""

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(10, name="fc")(x), x.sum(-1)


@pytest.fixture(params=[DIGITS, STREAM], ids=["resident", "streamed"])
def dataset(request):
    return data_lib.load(request.param)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (2, 2), (1, 4)])
def test_every_example_is_answered_once_in_order_on_every_mesh(rows, columns, dataset):
    model, mesh = Two(), mesh_lib.make(2, 4, replicate=rows, data=columns)
    example = jnp.zeros((1, *dataset.shape))
    own = [model.init(jax.random.key(seed), example) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *own)
    variables = mesh_lib.put(mesh, stacked, mesh_lib.BY_REPLICATE)
    collect = outputs.make(model, dataset, mesh, replicates.default_form(model, example))
    (logits, sums), labels = collect(variables, "validation")
    examples = dataset.examples["validation"]
    assert (logits.shape, sums.shape) == ((2, examples, 10), (2, examples))
    if isinstance(dataset, data_lib.Dataset):
        images, expected = dataset.validation
        np.testing.assert_array_equal(labels, expected)
        inputs = data_lib.normalize(dataset, jnp.asarray(images))
        for replicate in (0, 1):
            theirs = model.apply(own[replicate], inputs)
            np.testing.assert_allclose(logits[replicate], theirs[0], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(sums[replicate], theirs[1], rtol=1e-4, atol=1e-3)
    else:  # as on one device
        alone = mesh_lib.make(2, 4, replicate=1, data=1)
        moved = mesh_lib.put(alone, stacked, mesh_lib.BY_REPLICATE)
        theirs = outputs.make(model, dataset, alone, "looped")(moved, "validation")
        np.testing.assert_array_equal(labels, theirs[1])
        np.testing.assert_allclose(logits, theirs[0][0], rtol=1e-4, atol=1e-4)


def test_padding_puts_black_pixels_around_every_image():
    plain, padded = (data_lib.load({**DIGITS, "pad": pad}) for pad in (0, 3))
    assert padded.shape == (14, 14, 1)
    for split in ("train", "validation", "test"):
        before, after = (getattr(found, split) for found in (plain, padded))
        np.testing.assert_array_equal(after.inputs[:, 3:-3, 3:-3], before.inputs)
        np.testing.assert_array_equal(after.labels, before.labels)
        border = np.ones((14, 14, 1), bool)
        border[3:-3, 3:-3] = False
        assert not after.inputs[:, border[..., 0]].any()


def test_what_has_no_border_is_not_padded():
    mnist1d = {"name": "mnist1d", "source": "mnist1d", "pad": 1}
    with pytest.raises(UserError, match="mnist1d has no images"):
        data_lib.load(mnist1d)
    with pytest.raises(UserError, match=r"data\.pad is for data in memory"):
        data_lib.load({**STREAM, "pad": 1})
