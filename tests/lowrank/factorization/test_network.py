"""`lowrank.factorize`: networks whose layers are factors compute what their kernels would."""

import functools
import json

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lowrank
from groundwork.architectures import LeNet5, LeNet300100
from groundwork.traced import reach
from lowrank import factorization
from lowrank.factorization import layers, network
from lowrank.factorization.methods import METHODS, STALLED
from msdnet import MSDNet
from pruning import masks
from tests.groundwork.architectures.small import quickly
from tests.lowrank.factorization.networks import (
    IMAGES,
    KEY,
    PLAN,
    SMALL,
    Small,
    normal,
    small,
    unchecked,
)
from tests.msdnet.small import SCALES, TINY

NETWORKS = {
    "lenet_300_100": (LeNet300100(10, width=0.2), (2, 14, 14, 1)),
    "lenet_5": (LeNet5(10, width=0.1), (2, 24, 24, 1)),
    "msdnet": (MSDNet(10, **TINY, **SCALES), (2, 16, 16, 3)),
}
CASES = [  # every method on the smallest; the contract of all networks has the others
    *(("lenet_5", method) for method in METHODS["Conv"]),
    ("lenet_300_100", "svd_outputs"),
    ("msdnet", "svd"),
]


@functools.cache
def _network(name):
    """Variables drawn in numpy, nothing zero: a lost bias or statistic would be seen."""
    model, shape = NETWORKS[name]
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if len(leaf.shape) < 2:
            return jnp.asarray(rng.uniform(0.5, 1, leaf.shape), "f4")
        return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(leaf.size / leaf.shape[-1]), "f4")

    shapes = jax.eval_shape(model.init, KEY, jnp.zeros(shape))
    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    met, missed = reach.layers(model, variables, normal(*shape))
    assert missed == {}
    return model, variables, normal(*shape), met


@functools.cache
def _outputs(name):
    model, variables, x, _ = _network(name)
    return quickly(model.apply)(variables, x)


def _full(met, method):
    """A plan of full ranks by that method, `svd` where it does not apply."""
    plan = {}
    for path, reached in met.items():
        methods = METHODS[reached.layer.kind]
        chosen = method if method in methods else "svd"
        plan[path] = {"method": chosen, "rank": methods[chosen].full(reached.kernel)}
    return plan


def _flat(tree):
    return masks.flatten(tree, lambda path: True)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_at_full_rank_outputs_are_the_networks_own(name, method):
    model, variables, x, met = _network(name)
    apply, changed = lowrank.factorize(model, variables, _full(met, method), x)
    want, outputs = _outputs(name), quickly(apply)(changed, x)
    for one, other in zip(jax.tree.leaves(outputs), jax.tree.leaves(want), strict=True):
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert changed.keys() == variables.keys()
    if "batch_stats" in variables:
        assert changed["batch_stats"] is variables["batch_stats"]
    kept = _flat(changed["params"])
    for path, leaf in _flat(variables["params"]).items():
        assert (path in kept) == (path.rpartition("/")[0] not in met or "kernel" not in path)
        assert kept.get(path, leaf) is leaf


def test_batch_statistics_in_training_are_the_networks_own():
    moved = {**small(), "batch_stats": jax.tree.map(lambda s: s + 1, small()["batch_stats"])}
    met, _ = reach.layers(SMALL, moved, normal(*IMAGES))
    apply, changed = unchecked(SMALL, moved, _full(met, "spatial"))

    def updated(apply):
        train = functools.partial(apply, train=True, mutable=["batch_stats"])
        return quickly(jax.vmap(train, (None, 0), axis_name="data"))

    halves = normal(*IMAGES).reshape(2, 2, *IMAGES[1:])
    changes, want = updated(apply)(changed, halves), updated(SMALL.apply)(moved, halves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), changes, want)


def test_an_exit_by_itself():
    model, variables, x, met = _network("msdnet")
    apply, changed = unchecked(model, variables, _full(met, "svd"))
    blocks = [quickly(lambda v, x, k=k: apply(v, k, x, method="block")) for k in range(model.exits)]
    features, logits = blocks[0](changed, x)
    want = _outputs("msdnet")
    for k in range(model.exits):
        np.testing.assert_allclose(logits, want[k], atol=1e-4)
        if k + 1 < model.exits:
            features, logits = blocks[k + 1](changed, features)


def test_short_floats_compute_as_in_the_network():
    model, variables, x, _ = _network("lenet_5")
    short = LeNet5(10, width=0.1, dtype=jnp.bfloat16)
    plan = {"conv1": {"method": "svd", "rank": 2}, "fc1": {"method": "svd", "rank": 9}}
    apply, changed = unchecked(short, variables, plan)
    outputs = quickly(apply)(changed, x)
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(changed)} == {jnp.dtype("float32")}
    long, _ = unchecked(model, variables, plan)
    np.testing.assert_allclose(outputs.astype("f4"), quickly(long)(changed, x), atol=0.1)


def test_a_plan_from_json_is_the_plan():
    read = json.loads(json.dumps(PLAN))
    as_tuple = {**PLAN, "c": {"method": "tucker", "rank": (2, 3)}}
    x, results = normal(*IMAGES), []
    for plan in (read, as_tuple, flax.core.freeze(PLAN)):
        apply, changed = unchecked(SMALL, small(), plan)
        results.append((apply(changed, x), changed))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, results[0])
    apply, changed = unchecked(SMALL, small(), {})
    np.testing.assert_array_equal(apply(changed, x), SMALL.apply(small(), x))


def test_outputs_are_those_of_the_kernels_that_the_factors_make_up():
    apply, changed = unchecked(SMALL, small(), PLAN)
    params = dict(small()["params"])
    for path, entry in PLAN.items():
        method = METHODS["Conv" if path in "cd" else "Dense"][entry["method"]]
        made = layers.reconstruct(method, changed["params"][path])
        assert not np.allclose(made, params[path]["kernel"], atol=1e-2)
        params[path] = {**params[path], "kernel": made}
    want = SMALL.apply({**small(), "params": params}, normal(*IMAGES))
    np.testing.assert_allclose(apply(changed, normal(*IMAGES)), want, atol=1e-5)


def test_what_each_layer_is_worth():
    _, worth = factorization.decompose(small(), PLAN)
    assert list(worth) == list(PLAN)
    for path, entry in PLAN.items():
        kernel = small()["params"][path]["kernel"]
        method = METHODS["Conv" if path in "cd" else "Dense"][entry["method"]]
        made = method.reconstruct(*worth[path].kernels)
        error = np.linalg.norm(made - kernel) / np.linalg.norm(kernel)
        np.testing.assert_allclose(worth[path].error, error, rtol=1e-5)


def test_the_key_reaches_each_layer_by_its_path():
    plan = {"c": {"method": "cp", "rank": 2}}
    first, again, other = (
        unchecked(SMALL, small(), plan, key=key)[1]["params"]["c"]["first"]["kernel"]
        for key in (None, jax.random.key(0), jax.random.key(1))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    more = unchecked(SMALL, small(), {"d": {"method": "svd", "rank": 1}, **plan})[1]
    np.testing.assert_array_equal(more["params"]["c"]["first"]["kernel"], first)


def test_iterations_that_stopped_early_are_said_where_that_is_known(monkeypatch):
    plan = {"c": {"method": "svd", "rank": 2}, "d": {"method": "svd", "rank": 2}}
    plain, results = factorization.decompose(small(), plan)
    worth = {**results, "c": results["c"]._replace(converged=jnp.asarray(False))}
    monkeypatch.setattr(network, "decompose", lambda *args: (plain, worth))
    with pytest.warns(UserWarning, match=f"^layer 'c': {STALLED}$|^no example: ") as caught:
        lowrank.factorize(SMALL, small(), plan)
    assert [str(one.message)[:9] for one in caught] == ["layer 'c'", "no exampl"]
    assert {one.filename for one in caught} == {__file__}
    worth["c"] = results["c"]._replace(converged=jnp.asarray(True))
    unchecked(SMALL, small(), plan)  # warnings are errors


class TestOutputs:
    def test_inputs_of_the_layer_decide(self):
        x = normal(*IMAGES) * jnp.array([5.0, 0.1])[None, None, None]
        errors = {}
        want = reach.inputs_of(SMALL, small(), ("d",), x)["d"][0]
        dense = nn.Conv(5, (2, 3), padding=1)
        target = dense.apply({"params": small()["params"]["d"]}, want)
        for method in ("svd", "svd_outputs"):
            plan = {"d": {"method": method, "rank": 2}}
            apply, changed = lowrank.factorize(SMALL, small(), plan, x)
            apply_dense = unchecked(dense, {"params": small()["params"]["d"]}, {})[0]
            made = layers.reconstruct(METHODS["Conv"][method], changed["params"]["d"])
            params = {**small()["params"]["d"], "kernel": made}
            errors[method] = np.linalg.norm(apply_dense({"params": params}, want) - target)
            assert apply(changed, x).shape == (4, 4)
        assert errors["svd_outputs"] < errors["svd"]
        reached, _ = reach.layers(SMALL, small(), x)
        given = factorization.collect(SMALL, small(), plan, reached, x)
        _, worth = factorization.decompose(small(), plan, given)
        size = np.linalg.norm(target - small()["params"]["d"]["bias"][None, None, None])
        np.testing.assert_allclose(worth["d"].error, errors["svd_outputs"] / size, rtol=1e-3)

    def test_keywords_are_passed_on(self):
        plan = {"d": {"method": "svd_outputs", "rank": 2}}
        moved = {**small(), "batch_stats": jax.tree.map(lambda s: s + 1, small()["batch_stats"])}
        x = normal(*IMAGES)
        reached, _ = reach.layers(SMALL, small(), x)
        given = [
            factorization.collect(SMALL, variables, plan, reached, x, method=Small.halved)["d"]
            for variables in (small(), moved)
        ]
        assert not np.allclose(*given)
        plain = factorization.collect(SMALL, moved, plan, reached, x)["d"]
        assert not np.allclose(given[1], plain)


def test_a_network_that_is_one_layer():
    model, x = nn.Dense(4), normal(3, 6)
    variables = model.init(KEY, x)
    for method in ("svd", "svd_outputs"):
        apply, changed = lowrank.factorize(model, variables, {"": {"method": method, "rank": 4}}, x)
        assert changed["params"].keys() == {"left", "right", "bias"}
        np.testing.assert_allclose(apply(changed, x), model.apply(variables, x), atol=1e-5)


def test_frozen_variables():
    frozen = flax.core.freeze(small())
    apply, changed = unchecked(SMALL, frozen, PLAN)
    want, other = unchecked(SMALL, small(), PLAN)
    np.testing.assert_array_equal(apply(changed, normal(*IMAGES)), want(other, normal(*IMAGES)))
