"""Devices that several sections of a config share."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.data.dataset import Dataset, Split
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError
from groundwork.traced.network import Network
from groundwork.train import losses, networks

DATASET = SimpleNamespace(examples={"train": 1000, "validation": 0, "test": 100})


@pytest.mark.parametrize("sizes", [(100, 50), (50, 100)])
def test_devices_share_the_batches_of_all_sections(sizes):
    batches = dict(zip(("train", "fine_tune"), sizes, strict=True))
    found = networks.mesh_for(MeshSpec(0, 0), 1, batches, DATASET)
    assert dict(found.shape) == {"replicate": 1, "data": 2}  # of four; 100 would do with all


def test_a_batch_that_cannot_be_is_said_with_its_section():
    with pytest.raises(UserError, match=r"fine_tune\.batch_size=1001 is more than the 1000"):
        networks.mesh_for(MeshSpec(0, 0), 1, {"train": 10, "fine_tune": 1001}, DATASET)
    with pytest.raises(UserError, match=r"mesh\.data=4 does not divide fine_tune\.batch_size=10"):
        networks.mesh_for(MeshSpec(0, 4), 1, {"train": 8, "fine_tune": 10}, DATASET)


def test_what_criteria_see_of_tokens_is_a_mean_over_all_tokens_however_it_is_cut():
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, size=(7, 4)).astype(np.int32)
    labels = np.where(rng.random((7, 4)) < 0.6, tokens, -1).astype(np.int32)
    split = Split(tokens, labels)
    dataset = Dataset("tokens", split, split, split, 5, 0.0, 1.0)
    table = rng.normal(size=(5, 5)).astype(np.float32)
    model = Network(
        init=lambda key, inputs: {"params": {"table": jnp.asarray(table)}},
        apply=lambda variables, inputs, train: variables["params"]["table"][inputs],
    )
    seen = networks.seen(dataset, model, 7, losses.cross_entropy(tokens=True))
    variables, cuts = {"params": {"table": table}}, [(0, 3), (3, 7)]
    parts = [jax.tree.map(lambda leaf, c=c: leaf[slice(*c)], seen["examples"]) for c in cuts]
    shares = [(end - start) / 7 for start, end in cuts]
    means = [float(seen["loss"](variables, part)) for part in parts]
    total = np.dot(shares, means)
    logits = table.astype(np.float64)[tokens]
    each = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(
        logits, np.maximum(labels, 0)[..., None], -1
    ).squeeze(-1)
    np.testing.assert_allclose(total, each[labels >= 0].mean(), rtol=1e-5)
