"""Meshes of eight devices compute what one computes: `spread.py` measures, here is the bar."""

import json

import pytest

from tests.conftest import QUICK
from tests.groundwork import spread

DEVICES = {
    "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count=16",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
}
models = pytest.mark.parametrize("model", spread.MODELS)
meshes = pytest.mark.parametrize("shape", [f"{r}×{d}" for r, d in spread.MESHES])


@pytest.fixture(scope="module")
def measured(command):
    """Differences are shares of the largest magnitude in their leaf."""
    done = command("tests.groundwork.spread", env=DEVICES)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@models
@meshes
def test_a_step_of_sgd_in_float32_is_that_of_one_device(measured, model, shape):
    assert measured[f"{model} {shape}"] < 1e-6


@models
@meshes
def test_fifty_steps_in_float64_are_those_of_one_device(measured, model, shape):
    assert measured[f"{model} {shape} float64"] < 1e-9


@models
def test_eight_replicates_on_eight_devices_have_the_bits_of_each_alone(measured, model):
    assert measured[f"{model} 1 a device"] == [True] * 8


@models
def test_pairs_of_replicates_on_4x2_devices_have_the_bits_of_a_pair_on_1x2(measured, model):
    assert measured[f"{model} 2 on two devices"] == [True] * 8


def test_three_replicates_have_the_losses_of_one_device_on_any_number(measured):
    found = measured["three"]
    assert {int(count): each["shape"] for count, each in found.items()} == {
        1: [1, 1],
        2: [1, 2],
        4: [1, 4],
        8: [3, 2],
        16: [3, 4],
    }
    for each in found.values():
        assert each["losses"] == pytest.approx(found["1"]["losses"], rel=1e-5)


def test_three_replicates_move_each_byte_once(measured):
    own = spread.step_bytes("dense", spread.initial(spread.Dense()).variables["params"])
    for each in measured["three"].values():
        rows, columns = each["shape"]
        expected = {"all-reduce": 3 // rows * own} if columns > 1 else {}
        assert each["bytes"] == expected


@models
def test_between_two_slices_go_the_gradients_of_one_mean_or_nothing(measured, model):
    own = spread.step_bytes(model, spread.initial(spread.MODELS[model]()).variables["params"])
    assert measured["slices"][f"{model} 1"] == {"all-reduce": own}
    assert measured["slices"][f"{model} 2"] == {}
