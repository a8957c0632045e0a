"""What training needs at least: counted by hand for each optimiser."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from groundwork.devices import memory, processes
from groundwork.errors import UserError
from groundwork.train import footprint
from tests.groundwork.train.test_optim import SPEC

SHAPES = {
    "params": {"kernel": jax.ShapeDtypeStruct((100, 8), jnp.float32)},
    "batch_stats": {"mean": jax.ShapeDtypeStruct((8,), jnp.float32)},
}
WEIGHTS, STATISTICS = 4 * 800, 4 * 8
MOMENTS = {"sgd": 0, "momentum": WEIGHTS, "adam": 2 * WEIGHTS + 4}  # Adam counts its steps, too


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("replicates", [1, 3])
def test_weights_statistics_and_moments_of_all_replicates_are_counted(
    monkeypatch, name, replicates
):
    optimizer = dataclasses.replace(SPEC, name=name)
    needed = replicates * (WEIGHTS + STATISTICS + MOMENTS[name])
    monkeypatch.setattr(memory, "of_machine", lambda: needed)
    footprint.check("this model", SHAPES, optimizer, replicates)
    monkeypatch.setattr(memory, "of_machine", lambda: needed - 1)
    with pytest.raises(UserError, match=f"replicates={replicates} of this model needs"):
        footprint.check("this model", SHAPES, optimizer, replicates)


def test_memory_of_devices_counts_where_they_have_their_own(monkeypatch):
    monkeypatch.setattr(footprint, "of_devices", lambda: 100)
    with pytest.raises(UserError, match="but the devices have"):
        footprint.check("this model", SHAPES, SPEC, 1)


def test_keys_of_random_numbers_have_a_size():
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 5))
    assert footprint.in_bytes({"rng": keys}) == 5


def test_each_process_may_have_a_machine_of_its_own(monkeypatch):
    needed = WEIGHTS + STATISTICS + MOMENTS["sgd"]
    optimizer = dataclasses.replace(SPEC, name="sgd")
    monkeypatch.setattr(memory, "of_machine", lambda: needed // 2)
    with pytest.raises(UserError, match="this machine has"):
        footprint.check("this model", SHAPES, optimizer, 1)
    monkeypatch.setattr(processes, "count", lambda: 2)
    footprint.check("this model", SHAPES, optimizer, 1)
