"""Networks with factors train, map over replicates, save and are pruned as any other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from groundwork import keys
from groundwork.architectures.cpu import convolution
from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh
from groundwork.runs import checkpoint
from groundwork.train import outputs, programs, replicates
from groundwork.train.step import TrainState
from lowrank import factorization
from pruning import enforce, masks
from tests.groundwork.architectures.small import quickly
from tests.lowrank.factorization.networks import (
    IMAGES,
    KEY,
    NETWORK,
    PLAN,
    SMALL,
    TRAINED,
    factorised,
    normal,
    small,
    unchecked,
)

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


class TestTransforms:
    def test_the_gradient_is_that_of_finite_differences(self):
        with jax.enable_x64(True):
            x = jnp.asarray(normal(*IMAGES), "f8")
            apply, changed = unchecked(SMALL, small(), PLAN)
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
        x = normal(*IMAGES)
        stacked = jax.vmap(lambda key: SMALL.init(key, x))(jax.random.split(KEY, 2))
        changed = quickly(jax.vmap(lambda v: factorization.decompose(v, TRAINED)[0]))(stacked)
        outputs = jax.vmap(NETWORK.apply, (0, None))(changed, x)
        for r in range(2):
            one = jax.tree.map(lambda leaf, r=r: leaf[r], stacked)
            apply, alone = unchecked(SMALL, one, TRAINED)
            np.testing.assert_allclose(outputs[r], apply(alone, x), atol=1e-4)


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
    optimizer = enforce.enforce(optax.sgd(0.2), mask) if mask else optax.sgd(0.2)
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
        np.testing.assert_array_equal(hits, last.measures["accuracy"])

    def test_it_trains_on_a_mesh_as_on_one_device(self, dataset):
        *_, alone, counted = _trained(dataset, 1, 1, 2)
        *_, spread, tally = _trained(dataset, 2, 2, 2)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
            spread.variables,
            jax.device_get(alone.variables),
        )
        np.testing.assert_array_equal(
            tally.counts.measures["accuracy"], counted.counts.measures["accuracy"]
        )

    def test_pruned_factors_stay_zero(self, dataset):
        params = jax.eval_shape(factorised, KEY, EXAMPLE)["params"]
        mask = masks.ones(params)
        assert mask.keys() == FACTORS
        rng = np.random.default_rng(0)
        mask = {path: jnp.asarray(rng.random(keep.shape) < 0.5) for path, keep in mask.items()}
        *_, state, _ = _trained(dataset, 1, 1, 3, mask=mask)
        flat = masks.flatten(state.variables["params"])
        for path, keep in mask.items():
            for factor in np.asarray(flat[path]):
                np.testing.assert_array_equal(factor == 0, ~keep)

    def test_what_computes_it_is_told_as_of_a_module(self):
        assert convolution.computed_by(NETWORK, IMAGES[1:]) == convolution.computed_by(
            SMALL, IMAGES[1:]
        )
        assert convolution.computed_by(NETWORK, IMAGES[1:]) is not None
        assert replicates.default_form(NETWORK, EXAMPLE) == replicates.default_form(SMALL, EXAMPLE)


EXAMPLE = jnp.zeros((1, *IMAGES[1:]))
