"""`lowrank.factorize`: networks with factors compute, train, save and are pruned as any other."""

import functools
import json

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lowrank
from groundwork import keys
from groundwork.architectures import VGG11, LeNet5, LeNet300100, ResNet20
from groundwork.architectures.cpu import convolution
from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh
from groundwork.errors import UserError
from groundwork.runs import checkpoint
from groundwork.traced import override
from groundwork.train import outputs, programs, replicates
from groundwork.train.step import TrainState
from lowrank import factorization
from lowrank.factorization import layers
from lowrank.factorization.layers import METHODS
from msdnet import MSDNet
from pruning import masks
from tests.groundwork.architectures.small import quickly
from tests.msdnet.small import SCALES, TINY

KEY = jax.random.key(0)
NETWORKS = {
    "lenet_300_100": (LeNet300100(10, width=0.2), (2, 14, 14, 1)),
    "lenet_5": (LeNet5(10, width=0.1), (2, 24, 24, 1)),
    "resnet_20": (ResNet20(10, width=0.25), (2, 9, 9, 3)),
    "vgg_11": (VGG11(10, width=0.02), (2, 32, 32, 3)),
    "msdnet": (MSDNet(10, **TINY, **SCALES), (2, 16, 16, 3)),
}
CASES = [  # every method on the smallest, one or two on each other: shapes are what compiles
    *(("lenet_5", method) for method in METHODS["Conv"]),
    ("lenet_300_100", "svd_outputs"),
    ("resnet_20", "svd"),
    ("vgg_11", "spatial"),
    ("msdnet", "svd"),
]


def _x(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


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
    met, missed = override.layers(model, variables, _x(*shape))
    assert missed == {}
    return model, variables, _x(*shape), met


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
    want, found = quickly(model.apply)(variables, x), quickly(apply)(changed, x)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
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
    moved = {**_small(), "batch_stats": jax.tree.map(lambda s: s + 1, _small()["batch_stats"])}
    met, _ = override.layers(SMALL, moved, _x(*IMAGES))
    apply, changed = lowrank.factorize(SMALL, moved, _full(met, "spatial"))

    def updated(apply):
        train = functools.partial(apply, train=True, mutable=["batch_stats"])
        return jax.vmap(train, (None, 0), axis_name="data")

    halves = _x(*IMAGES).reshape(2, 2, *IMAGES[1:])
    found, want = updated(apply)(changed, halves), updated(SMALL.apply)(moved, halves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, want)


def test_an_exit_by_itself():
    model, variables, x, met = _network("msdnet")
    apply, changed = lowrank.factorize(model, variables, _full(met, "svd"))
    features, logits = apply(changed, 0, x, method="block")
    want = quickly(model.apply)(variables, x)
    for k in range(model.exits):
        np.testing.assert_allclose(logits, want[k], atol=1e-4)
        if k + 1 < model.exits:
            features, logits = apply(changed, k + 1, features, method="block")


def test_short_floats_compute_as_in_the_network():
    model, variables, x, _ = _network("lenet_5")
    short = LeNet5(10, width=0.1, dtype=jnp.bfloat16)
    plan = {"conv1": {"method": "svd", "rank": 2}, "fc1": {"method": "svd", "rank": 9}}
    apply, changed = lowrank.factorize(short, variables, plan)
    found = apply(changed, x)
    assert found.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(changed)} == {jnp.dtype("float32")}
    long, _ = lowrank.factorize(model, variables, plan)
    np.testing.assert_allclose(found.astype("f4"), long(changed, x), atol=0.1)


class Small(nn.Module):
    """Convolutions with strides, BatchNorm, a Dense of two calls."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(6, (3, 3), strides=2, conv_general_dilated=CONV, name="c")(x)
        x = nn.BatchNorm(use_running_average=not train, axis_name="data" if train else None)(x)
        x = nn.Conv(5, (2, 3), padding=1, conv_general_dilated=CONV, name="d")(nn.relu(x))
        twice = nn.Dense(5, name="twice")
        return nn.Dense(4, name="out")(nn.relu(twice(nn.relu(twice(x.mean((1, 2)))))))

    def halved(self, x):
        return self(x / 2)


CONV = convolution.conv_general_dilated
SMALL, IMAGES = Small(), (4, 7, 6, 2)
PLAN = {
    "c": {"method": "tucker", "rank": [2, 3]},
    "d": {"method": "spatial", "rank": 4},
    "twice": {"method": "svd", "rank": 2},
    "out": {"method": "svd", "rank": 1},
}
TRAINED = {  # quicker to compile
    **PLAN,
    "c": {"method": "spatial", "rank": 4},
    "d": {"method": "svd", "rank": 3},
}
FACTORS = {  # its prunable leaves
    "c/vertical/kernel",
    "c/horizontal/kernel",
    "d/first/kernel",
    "d/last/kernel",
    "twice/left/kernel",
    "twice/right/kernel",
    "out/left/kernel",
    "out/right/kernel",
}


@functools.cache
def _small():
    return SMALL.init(KEY, _x(*IMAGES))


def _factorised(key, example):
    """Variables of a network that starts in factorised form."""
    return factorization.decompose(SMALL.init(key, example), TRAINED)[0]


NETWORK = override.Network(_factorised, factorization.override(SMALL, TRAINED))


def test_a_plan_from_json_is_the_plan():
    read = json.loads(json.dumps(PLAN))
    as_tuple = {**PLAN, "c": {"method": "tucker", "rank": (2, 3)}}
    x, found = _x(*IMAGES), []
    for plan in (read, as_tuple, flax.core.freeze(PLAN)):
        apply, changed = lowrank.factorize(SMALL, _small(), plan)
        found.append((apply(changed, x), changed))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, found[0])
    apply, changed = lowrank.factorize(SMALL, _small(), {})
    np.testing.assert_array_equal(apply(changed, x), SMALL.apply(_small(), x))


def test_outputs_are_those_of_the_kernels_that_the_factors_make_up():
    apply, changed = lowrank.factorize(SMALL, _small(), PLAN)
    params = dict(_small()["params"])
    for path, entry in PLAN.items():
        method = METHODS["Conv" if path in "cd" else "Dense"][entry["method"]]
        made = layers.reconstruct(method, changed["params"][path])
        assert not np.allclose(made, params[path]["kernel"], atol=1e-2)
        params[path] = {**params[path], "kernel": made}
    want = SMALL.apply({**_small(), "params": params}, _x(*IMAGES))
    np.testing.assert_allclose(apply(changed, _x(*IMAGES)), want, atol=1e-5)


def test_what_each_layer_is_worth():
    _, found = factorization.decompose(_small(), PLAN)
    assert list(found) == list(PLAN)
    for path, entry in PLAN.items():
        kernel = _small()["params"][path]["kernel"]
        method = METHODS["Conv" if path in "cd" else "Dense"][entry["method"]]
        made = method.reconstruct(*found[path].kernels)
        error = np.linalg.norm(made - kernel) / np.linalg.norm(kernel)
        np.testing.assert_allclose(found[path].error, error, rtol=1e-5)


def test_the_key_reaches_each_layer_by_its_path():
    plan = {"c": {"method": "cp", "rank": 2}}
    first, again, other = (
        lowrank.factorize(SMALL, _small(), plan, key=key)[1]["params"]["c"]["first"]["kernel"]
        for key in (None, jax.random.key(0), jax.random.key(1))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    more = lowrank.factorize(SMALL, _small(), {"d": {"method": "svd", "rank": 1}, **plan})[1]
    np.testing.assert_array_equal(more["params"]["c"]["first"]["kernel"], first)


def test_iterations_that_stopped_early_are_said_where_that_is_known(monkeypatch):
    plan = {"c": {"method": "svd", "rank": 2}, "d": {"method": "svd", "rank": 2}}
    plain, found = factorization.decompose(_small(), plan)
    worth = {**found, "c": found["c"]._replace(converged=jnp.asarray(False))}
    monkeypatch.setattr(factorization, "decompose", lambda *args: (plain, worth))
    with pytest.warns(UserWarning, match=f"^layer 'c': {layers.STALLED}$") as caught:
        lowrank.factorize(SMALL, _small(), plan)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    worth["c"] = found["c"]._replace(converged=jnp.asarray(True))
    lowrank.factorize(SMALL, _small(), plan)  # warnings are errors


class TestOutputs:
    def test_inputs_of_the_layer_decide(self):
        x = _x(*IMAGES) * jnp.array([5.0, 0.1])[None, None, None]
        errors = {}
        want = override.inputs_of(SMALL, _small(), x, ("d",))["d"][0]
        dense = nn.Conv(5, (2, 3), padding=1)
        target = dense.apply({"params": _small()["params"]["d"]}, want)
        for method in ("svd", "svd_outputs"):
            plan = {"d": {"method": method, "rank": 2}}
            apply, changed = lowrank.factorize(SMALL, _small(), plan, x)
            found = lowrank.factorize(dense, {"params": _small()["params"]["d"]}, {})[0]
            made = layers.reconstruct(METHODS["Conv"][method], changed["params"]["d"])
            own = {**_small()["params"]["d"], "kernel": made}
            errors[method] = np.linalg.norm(found({"params": own}, want) - target)
            assert apply(changed, x).shape == (4, 4)
        assert errors["svd_outputs"] < errors["svd"]
        given = factorization.collect(SMALL, _small(), plan, x)
        _, worth = factorization.decompose(_small(), plan, given)
        size = np.linalg.norm(target - _small()["params"]["d"]["bias"][None, None, None])
        np.testing.assert_allclose(worth["d"].error, errors["svd_outputs"] / size, rtol=1e-3)

    def test_keywords_are_passed_on(self):
        plan = {"d": {"method": "svd_outputs", "rank": 2}}
        moved = {**_small(), "batch_stats": jax.tree.map(lambda s: s + 1, _small()["batch_stats"])}
        x = _x(*IMAGES)
        given = [
            factorization.collect(SMALL, variables, plan, x, method=Small.halved)["d"]
            for variables in (_small(), moved)
        ]
        assert not np.allclose(*given)
        plain = factorization.collect(SMALL, moved, plan, x)["d"]
        assert not np.allclose(given[1], plain)


class TestErrors:
    def _refused(self, plan, variables=None, inputs=None, model=SMALL):
        with pytest.raises(UserError) as refused:
            lowrank.factorize(model, variables or _small(), plan, inputs)
        return str(refused.value)

    @pytest.mark.parametrize(
        ("path", "method", "rank", "message"),
        [
            ("c", "svd", 0, "layer 'c': rank 0 is outside 1…6, its full rank"),
            ("c", "svd", -1, "layer 'c': rank -1 is outside 1…6, its full rank"),
            ("c", "svd", 7, "layer 'c': rank 7 is outside 1…6, its full rank"),
            ("c", "cp", 19, "layer 'c': rank 19 is outside 1…18, its full rank"),
            ("c", "spatial", 7, "layer 'c': rank 7 is outside 1…6, its full rank"),
            ("c", "tucker", [3, 1], "layer 'c': rank 3 is outside 1…2, its full rank"),
            ("c", "tucker", [2, 0], "layer 'c': rank 0 is outside 1…6, its full rank"),
            ("out", "svd", 2.0, "layer 'out': the rank must be an integer, not 2.0"),
            ("out", "svd", True, "layer 'out': the rank must be an integer, not True"),
            ("out", "svd", "2", "layer 'out': the rank must be an integer, not '2'"),
            ("out", "svd", None, "layer 'out': the rank must be an integer, not None"),
            ("out", "svd", [2], "layer 'out': the rank must be an integer, not [2]"),
            (
                "c",
                "tucker",
                2,
                "layer 'c': the rank must be two integers, [inputs, outputs], not 2",
            ),
            (
                "c",
                "tucker",
                [2, 2, 2],
                "layer 'c': the rank must be two integers, [inputs, outputs], not [2, 2, 2]",
            ),
            (
                "c",
                "tucker",
                [2, True],
                "layer 'c': the rank must be two integers, [inputs, outputs], not [2, True]",
            ),
            (
                "out",
                "svdd",
                2,
                "unknown method of the Dense layer 'out' 'svdd'; did you mean 'svd'? "
                "(known: svd, svd_outputs)",
            ),
            (
                "out",
                "tucker",
                [1, 1],
                "unknown method of the Dense layer 'out' 'tucker' (known: svd, svd_outputs)",
            ),
            (
                "out",
                ["svd"],
                2,
                "unknown method of the Dense layer 'out' ['svd']; did you mean 'svd'? "
                "(known: svd, svd_outputs)",
            ),
            (
                "outt",
                "svd",
                2,
                "unknown layer 'outt'; did you mean 'out'? (known: c, d, out, twice)",
            ),
            ("out/kernel", "svd", 2, "unknown layer 'out/kernel' (known: c, d, out, twice)"),
            ("", "svd", 2, "unknown layer '' (known: c, d, out, twice)"),
            ("BatchNorm_0", "svd", 2, "unknown layer 'BatchNorm_0' (known: c, d, out, twice)"),
            ("out", "svd_outputs", 2, "layer 'out': svd_outputs needs inputs to look at"),
        ],
    )
    def test_of_an_entry(self, path, method, rank, message):
        assert self._refused({path: {"method": method, "rank": rank}}) == message

    def test_of_its_form(self):
        for entry, shown in (
            ({"method": "svd"}, "{'method': 'svd'}"),
            ({"rank": 2}, "{'rank': 2}"),
            ({}, "{}"),
            ({"method": "svd", "rank": 1, "ranks": 2}, "{'method': 'svd', 'rank': 1, 'ranks': 2}"),
            ({"method": "svd", 1: 2}, "{'method': 'svd', 1: 2}"),
            ("svd", "'svd'"),
            (["svd", 2], "['svd', 2]"),
            (None, "None"),
        ):
            want = f"layer 'out': the plan must say method and rank, not {shown}"
            assert self._refused({"out": entry}) == want

    def test_weights_that_are_not_finite_name_the_layer(self):
        for bad in (np.nan, np.inf):
            params = jax.tree.map(lambda leaf: leaf, _small()["params"])
            params["d"]["kernel"] = params["d"]["kernel"].at[0, 1, 2, 3].set(bad)
            params["out"]["kernel"] = params["out"]["kernel"].at[1].set(bad)
            for path, message in (
                ("d", "layer 'd': 1 of 180 entries of the kernel are not finite"),
                ("out", "layer 'out': 4 of 20 entries of the matrix are not finite"),
            ):
                plan = {path: {"method": "svd", "rank": 2}}
                assert self._refused(plan, {"params": params}) == message

    def test_inputs_that_are_not_finite_or_none_name_the_layer(self):
        plan = {"d": {"method": "svd_outputs", "rank": 2}}
        message = self._refused(plan, inputs=_x(*IMAGES).at[0].set(jnp.nan))
        assert message.startswith("layer 'd': ")
        assert message.endswith(" entries of the inputs are not finite")
        assert self._refused(plan, inputs=jnp.zeros((0, *IMAGES[1:]))) == (
            "layer 'd': the inputs is empty: shape (0, 36)"
        )

    def test_kernels_of_other_orders(self):
        for shape in ((5,), (3, 2, 2), (1, 1, 1, 1, 1)):
            variables = {"params": {"v": {"kernel": jnp.ones(shape)}}}
            assert self._refused({"v": {"method": "svd", "rank": 1}}, variables) == (
                f"layer 'v' has a kernel of shape {shape}: no method takes it"
            )

    def test_a_shared_layer_is_decomposed_by_its_weights_alone(self):
        x = _x(*IMAGES)
        assert self._refused({"twice": {"method": "svd_outputs", "rank": 2}}, inputs=x) == (
            "layer 'twice' is shared, by 2 calls: decompose it by its weights alone, as svd does"
        )
        apply, changed = lowrank.factorize(
            SMALL, _small(), {"twice": {"method": "svd", "rank": 5}}, x
        )
        np.testing.assert_allclose(apply(changed, x), SMALL.apply(_small(), x), atol=1e-5)

    def test_what_a_layer_is_given_must_be_seen(self):
        model = Scanned()
        variables = model.init(KEY, _x(2, 6))
        by_outputs = {"method": "svd_outputs", "rank": 2}
        assert self._refused({"v": by_outputs}, variables, _x(2, 6), model) == (
            "layer 'v': what it is given stays within a scan or vmap: decompose it by its weights "
            "alone, as svd does"
        )
        assert self._refused({"g": by_outputs}, variables, _x(2, 6), model) == (
            "layer 'g' cannot be computed in another way: DenseGeneral is neither Dense nor Conv"
        )
        assert self._refused({"s": {"method": "svd", "rank": 2}}, variables, model=model) == (
            "layer 's' has a kernel of shape (2, 6, 6): no method takes it"
        )

    @pytest.mark.parametrize(
        ("layer", "shape", "message"),
        [
            (
                nn.DenseGeneral(4, name="a"),
                (2, 6),
                "layer 'a' cannot be computed in another way: DenseGeneral is neither Dense nor "
                "Conv",
            ),
            (
                nn.ConvTranspose(3, (2, 2), name="a"),
                (2, 5, 5, 4),
                "layer 'a' cannot be computed in another way: ConvTranspose is neither Dense nor "
                "Conv",
            ),
            (
                nn.Conv(4, (2, 2), feature_group_count=2, name="a"),
                (2, 5, 5, 4),
                "layer 'a' has 2 groups: it is left alone",
            ),
        ],
        ids=["dense_general", "transpose", "groups"],
    )
    def test_when_applied(self, layer, shape, message):
        model, x = Holds(layer), _x(*shape)
        variables = model.init(KEY, x)
        apply, changed = lowrank.factorize(model, variables, {"a": {"method": "svd", "rank": 2}})
        with pytest.raises(UserError) as refused:
            apply(changed, x)
        assert str(refused.value) == message


class Holds(nn.Module):
    layer: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.layer.clone(parent=self, name="a")(x)


class Scanned(nn.Module):
    """Layers whose inputs cannot be seen, or that cannot be reached."""

    @nn.compact
    def __call__(self, x):
        shared = {"variable_axes": {"params": None}, "split_rngs": {"params": False}}
        stacked = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x = nn.vmap(nn.Dense, **shared)(6, name="v")(x)
        return nn.DenseGeneral(6, name="g")(nn.vmap(nn.Dense, **stacked)(6, name="s")(x))


def test_a_network_that_is_one_layer():
    model, x = nn.Dense(4), _x(3, 6)
    variables = model.init(KEY, x)
    for method in ("svd", "svd_outputs"):
        apply, changed = lowrank.factorize(model, variables, {"": {"method": method, "rank": 4}}, x)
        assert changed["params"].keys() == {"left", "right", "bias"}
        np.testing.assert_allclose(apply(changed, x), model.apply(variables, x), atol=1e-5)


def test_frozen_variables():
    frozen = flax.core.freeze(_small())
    apply, changed = lowrank.factorize(SMALL, frozen, PLAN)
    want, other = lowrank.factorize(SMALL, _small(), PLAN)
    np.testing.assert_array_equal(apply(changed, _x(*IMAGES)), want(other, _x(*IMAGES)))


class TestTransforms:
    def test_the_gradient_is_that_of_finite_differences(self):
        with jax.enable_x64(True):
            x = jnp.asarray(_x(*IMAGES), "f8")
            apply, changed = lowrank.factorize(SMALL, _small(), PLAN)
            changed = jax.tree.map(lambda leaf: jnp.asarray(leaf, "f8"), changed)
            rng = np.random.default_rng(2)
            direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), changed["params"])

            def loss(at):
                params = jax.tree.map(lambda p, d: p + at * d, changed["params"], direction)
                return jnp.sum(jnp.sin(apply({**changed, "params": params}, x)))

            both = quickly(jax.value_and_grad(loss))
            slope = (both(1e-6)[0] - both(-1e-6)[0]) / 2e-6
            assert abs(slope) > 1e-2
            np.testing.assert_allclose(both(0.0)[1], slope, rtol=1e-5)

    def test_decompositions_map_over_replicates(self):
        x = _x(*IMAGES)
        stacked = jax.vmap(lambda key: SMALL.init(key, x))(jax.random.split(KEY, 2))
        changed = quickly(jax.vmap(lambda v: factorization.decompose(v, TRAINED)[0]))(stacked)
        found = jax.vmap(NETWORK.apply, (0, None))(changed, x)
        for r in range(2):
            own = jax.tree.map(lambda leaf, r=r: leaf[r], stacked)
            apply, alone = lowrank.factorize(SMALL, own, TRAINED)
            np.testing.assert_allclose(found[r], apply(alone, x), atol=1e-4)


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)

    def split(n):
        labels = rng.integers(0, 4, n).astype(np.int32)
        images = rng.integers(0, 100, (n, *IMAGES[1:])) + 100 * (labels % 2)[:, None, None, None]
        return Split(images.astype(np.uint8), labels)

    moments = np.full((1, 1, 1, 1), 0.5, np.float32), np.full((1, 1, 1, 1), 0.25, np.float32)
    return Dataset("made", split(48), split(13), split(13), 4, *moments)


def _trained(dataset, rows, columns, steps, mask=None, form=None):
    devices = mesh.make(2, 12, replicate=rows, data=columns)
    optimizer = masks.enforce(optax.sgd(0.2), mask) if mask else optax.sgd(0.2)
    compiled = programs.make(NETWORK, optimizer, dataset, devices, batch_size=12, form=form)
    roots = mesh.put(devices, keys.roots(3, 2), mesh.BY_REPLICATE)
    variables = compiled.init(roots)
    state = TrainState(
        mesh.put(devices, np.zeros(2, np.int32), mesh.BY_REPLICATE),
        roots,
        variables,
        jax.vmap(optimizer.init)(variables["params"]),
    )
    before = jax.device_get(variables)
    with compiled.feed(state.key, 0) as feed:
        state, tally = compiled.run_steps(state, feed, compiled.no_tally(2), 0, steps)
    return compiled, devices, before, state, tally


class TestTraining:
    def test_it_learns_and_is_saved(self, dataset, tmp_path):
        compiled, devices, before, state, tally = _trained(dataset, 1, 1, 40)
        first = compiled.evaluate(mesh.put(devices, before, mesh.BY_REPLICATE), "test")
        last = compiled.evaluate(state.variables, "test")
        assert (np.asarray(last.loss) < np.asarray(first.loss)).all()
        assert np.asarray(tally.counts.examples).tolist() == [480, 480]
        changed = jax.tree.map(
            lambda a, b: bool(np.any(a != np.asarray(b))), before, state.variables
        )
        assert all(jax.tree.leaves(changed))
        checkpoint.save(tmp_path / "saved", {"variables": state.variables}, {"plan": TRAINED})
        again, metadata = checkpoint.restore(tmp_path / "saved")
        jax.tree.map(np.testing.assert_array_equal, again["variables"], state.variables)
        assert metadata["plan"] == TRAINED
        collect = outputs.make(NETWORK, dataset, devices, replicates.default_form(NETWORK, EXAMPLE))
        logits, labels = collect(again["variables"], "test")
        assert logits.shape == (2, 13, 4)
        hits = (logits.argmax(-1) == labels[None]).sum(-1)
        np.testing.assert_array_equal(hits, last.correct)

    def test_it_trains_on_a_mesh_as_on_one_device(self, dataset):
        *_, alone, counted = _trained(dataset, 1, 1, 2)
        *_, spread, tally = _trained(dataset, 2, 2, 2)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
            spread.variables,
            jax.device_get(alone.variables),
        )
        np.testing.assert_array_equal(tally.counts.correct, counted.counts.correct)

    def test_pruned_factors_stay_zero(self, dataset):
        params = jax.eval_shape(_factorised, KEY, EXAMPLE)["params"]
        mask = masks.ones(params)
        assert mask.keys() == FACTORS
        rng = np.random.default_rng(0)
        mask = {path: jnp.asarray(rng.random(keep.shape) < 0.5) for path, keep in mask.items()}
        *_, state, _ = _trained(dataset, 1, 1, 3, mask=mask)
        found = masks.flatten(state.variables["params"])
        for path, keep in mask.items():
            for own in np.asarray(found[path]):
                np.testing.assert_array_equal(own == 0, ~keep)

    def test_what_computes_it_is_told_as_of_a_module(self):
        assert convolution.computed_by(NETWORK, IMAGES[1:]) == convolution.computed_by(
            SMALL, IMAGES[1:]
        )
        assert convolution.computed_by(NETWORK, IMAGES[1:]) is not None
        assert replicates.default_form(NETWORK, EXAMPLE) == replicates.default_form(SMALL, EXAMPLE)


EXAMPLE = jnp.zeros((1, *IMAGES[1:]))
