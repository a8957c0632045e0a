"""A criterion of a user's own decides what the levels of a run prune."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from groundwork import architectures, trees
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from lottery import tickets
from pruning import masks, select
from pruning.criteria import CRITERIA, Criterion
from tests.lottery import small
from tests.lottery.test_streams import STREAM
from tests.pruning.test_pruner import by_gradients

EXAMPLES = 64
SHORT = [
    "--config.prune.criterion=taylor",
    "--config.levels=1",
    "--config.train.steps=30",
    "--config.rewind.step=0",
    "--config.branches.random_mask=()",
    "--config.branches.random_reinit=()",
]


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(CRITERIA, "taylor", Criterion(score=by_gradients, examples=EXAMPLES))


def _scores(folder, params):
    """|weight × gradient| of the mean loss of the first training examples, one replicate."""
    config = json.loads((folder / "config.json").read_text())["config"]
    dataset = data_lib.load(config)
    model = architectures.build(config, 10)
    inputs = dataset.train.inputs[:EXAMPLES] / np.float32(255)
    inputs = (inputs - dataset.mean) / dataset.std

    def loss(params):
        logits = model.apply({"params": params}, inputs)
        labels = dataset.train.labels[:EXAMPLES]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    gradients = jax.jit(jax.grad(loss))(jax.tree.map(jnp.asarray, params))
    products = jax.tree.map(lambda weight, gradient: abs(weight * gradient), params, gradients)
    return masks.flatten(products)


def test_a_run_is_pruned_by_the_gradients_of_its_first_training_examples(tmp_path):
    folder = tmp_path / "run"
    small.train(folder, *SHORT)
    dense, ticket = (tickets.load(folder, level) for level in (0, 1))
    rates = {"*": 0.5, "output": 0.25}
    for replicate in range(2):
        params = trees.replicate(dense.trained["params"], replicate)
        whole = trees.replicate(dense.mask, replicate)
        expected = select.prune(whole, _scores(folder, params), rates)
        by_size = {path: np.abs(leaf) for path, leaf in masks.flatten(params).items()}
        other = select.prune(whole, by_size, rates)
        for path, keep in trees.replicate(ticket.mask, replicate).items():
            assert keep.sum() == np.sum(expected[path])
            # a weight at the threshold may change sides with the rounding of its gradient
            assert np.sum(keep != expected[path]) <= 2
            assert np.sum(keep != other[path]) > 0.1 * np.sum(keep)


def test_examples_that_are_not_in_memory_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"images in memory are needed: set data\.stream=false"):
        small.train(tmp_path / "run", *STREAM, *SHORT)
