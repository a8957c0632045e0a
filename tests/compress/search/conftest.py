"""A tiny convolutional network, its space, and what is known of it; made once."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import numpy as np
import pytest

from compress.search import costs, sensitivity, space
from compress.search.original import Original
from groundwork import trees
from groundwork.data.dataset import Dataset, Split

SPEC = space.SpaceSpec(
    units=(0.5,),
    methods=("svd_outputs",),
    ranks=(0.25,),
    densities=(0.5, 0.2),
    bits=(2,),
    activation_bits=(2,),
    leave=("output",),
)


class Net(nn.Module):
    """Three layers: conv 3×3 to 4 channels, 8 units, 3 classes."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3, 3), padding="VALID", name="conv")(x))
        x = nn.relu(nn.Dense(8, name="fc")(x.reshape(len(x), -1)))
        return nn.Dense(3, name="output")(x)


def dataset() -> Dataset:
    rng = np.random.default_rng(0)

    def split(count):
        images = rng.integers(0, 256, (count, 6, 6, 1)).astype(np.uint8)
        return Split(images, rng.integers(0, 3, count).astype(np.int32))

    moments = np.full((1, 1, 1, 1), 0.5, np.float32)
    return Dataset("made", split(40), split(8), split(8), 3, moments, moments)


@pytest.fixture(scope="session")
def searched() -> SimpleNamespace:
    data, model = dataset(), Net()
    example = trees.zeros(data.example)
    keys = jax.random.split(jax.random.key(1), 2)
    variables = jax.tree.map(np.asarray, trees.stack([model.init(key, example) for key in keys]))
    original = Original(model=model, variables=variables, mask={}, dataset=data)
    proposed = space.make(SPEC, model, original.shapes, data.example)
    return SimpleNamespace(
        original=original,
        space=proposed,
        sensitivities=sensitivity.measure(original, proposed, 40),
        costs=costs.table(original, proposed),
    )
