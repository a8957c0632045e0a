"""`pruning.pruner`: a criterion that looks at gradients, against a loop over replicates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import keys, trees
from groundwork.devices import mesh
from pruning import masks, select
from pruning.criteria import CRITERIA, Criterion, Evidence
from pruning.pruner import make_corrector, make_pruner

R, COUNTS = 2, {"one": 9, "two": 4}
PATHS = {"one": ("one/kernel",), "two": ("two/kernel",)}


def mean_loss(variables, examples):
    """A network of two layers; `scale` is no parameter."""
    params, (inputs, targets) = variables["params"], examples
    hidden = jnp.tanh(inputs @ params["one"]["kernel"] + params["one"]["bias"][None])
    outputs = variables["others"]["scale"] * hidden @ params["two"]["kernel"]
    return jnp.mean((outputs - targets) ** 2)


def by_gradients(seen):
    """|weight × gradient|: what the loss loses, to first order, without the weight."""
    gradients = masks.flatten(seen.gradients())
    weights = masks.flatten(seen.params)
    return {path: jnp.abs(weights[path] * gradients[path]) for path in seen.mask}


TAYLOR = Criterion(score=by_gradients, examples=5)


@pytest.fixture(scope="module")
def problem():
    """Variables and masks [R, …] of a half-pruned network, examples."""
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.normal(size=(R, *shape)).astype(np.float32)

    params = {"one": {"kernel": drawn(6, 4), "bias": drawn(4)}, "two": {"kernel": drawn(4, 3)}}
    variables = {"params": params, "others": {"scale": drawn()}}
    mask = {path: rng.random(leaf.shape) < 0.8 for path, leaf in masks.flatten(params).items()}
    examples = rng.normal(size=(5, 6)).astype("f4"), rng.normal(size=(5, 3)).astype("f4")
    return variables, mask, examples


def test_gradients_are_those_of_the_loss_at_all_parameters(problem):
    variables, mask, examples = problem
    one = trees.replicate(variables, 0)

    def loss(params, examples):
        return mean_loss({**one, "params": params}, examples)

    seen = Evidence(
        params=one["params"],
        mask=trees.replicate(mask, 0),
        key=jax.random.key(0),
        loss=loss,
        examples=examples,
    )
    gradients = seen.gradients()
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, one["params"])
    for path, at in (("one/kernel", (2, 1)), ("two/kernel", (3, 0)), ("one/bias", (1,))):
        by = 1e-2

        def moved(sign, path=path, at=at, by=by):
            params = jax.tree.map(np.array, one["params"])
            trees.flatten(params)[path][at] += sign * by
            return float(loss(params, examples))

        expected = (moved(1) - moved(-1)) / (2 * by)
        np.testing.assert_allclose(trees.flatten(gradients)[path][at], expected, rtol=2e-2)


def test_a_criterion_without_a_loss_is_told_what_it_lacks():
    seen = Evidence(params={}, mask={}, key=jax.random.key(0))
    with pytest.raises(ValueError, match="looks at gradients: give it a loss and examples"):
        seen.gradients()


def _pruned(problem, rows, columns, criterion=TAYLOR, level=1, **given):
    variables, mask, _ = problem
    devices = mesh.make(R, 4, replicate=rows, data=columns)
    prune = make_pruner(devices, criterion, PATHS, **given)
    counts = {name: np.full(R, count, np.int32) for name, count in COUNTS.items()}
    arguments = keys.roots(0, R), mask, variables, counts
    placed = mesh.put(devices, arguments, mesh.BY_REPLICATE)
    return mesh.fetch(prune(*placed, level))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 1), (2, 2), (1, 4)])
def test_pruning_by_gradients_is_that_of_a_loop_on_any_mesh(problem, rows, columns):
    variables, mask, examples = problem
    pruned = _pruned(problem, rows, columns, loss=mean_loss, examples=examples)
    for r in range(R):
        one, before = trees.replicate(variables, r), trees.replicate(mask, r)

        def loss(params, one=one):
            return mean_loss({**one, "params": params}, examples)

        gradients = masks.flatten(jax.grad(loss)(one["params"]))
        weights = masks.flatten(one["params"])
        scores = {path: np.abs(weights[path] * gradients[path]) for path in before}
        expected = select.prune_to(before, scores, COUNTS, PATHS)
        jax.tree.map(np.testing.assert_array_equal, trees.replicate(pruned, r), expected)
        by_size = {path: np.abs(weights[path]) for path in before}
        other = select.prune_to(before, by_size, COUNTS, PATHS)
        assert not np.array_equal(other["one/kernel"], expected["one/kernel"])


def test_each_replicate_and_level_draws_a_key_of_its_own(problem):
    drawn = Criterion(
        score=lambda seen: {
            path: jax.random.uniform(seen.key, leaf.shape) for path, leaf in seen.mask.items()
        }
    )
    first, again, later = (_pruned(problem, 1, 1, drawn, level) for level in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["one/kernel"], later["one/kernel"])
    everything = {path: np.ones_like(leaf) for path, leaf in problem[1].items()}
    one, two = _pruned((problem[0], everything, None), 1, 1, drawn)["one/kernel"]
    assert not np.array_equal(one, two)


def test_another_level_compiles_nothing(problem):
    variables, mask, examples = problem
    devices = mesh.make(R, 4, replicate=2, data=1)
    traced = []
    counted = Criterion(score=lambda seen: traced.append(1) or by_gradients(seen), examples=5)
    prune = make_pruner(devices, counted, PATHS, loss=mean_loss, examples=examples)
    put = functools.partial(mesh.put, devices, spec=mesh.BY_REPLICATE)
    roots, mask, variables = put(keys.roots(0, R)), put(mask), put(variables)
    for level, left in ((1, 9), (2, 6)):
        counts = put({name: np.full(R, left, np.int32) for name in PATHS})
        mask = prune(roots, mask, variables, counts, level)
    assert np.sum(mask["one/kernel"]) == 2 * 6
    assert len(traced) == 1


@pytest.mark.parametrize(("name", "number"), [("synflow", 3), ("obs", 1)])
def test_rounds_grams_and_corrections_are_the_same_on_any_mesh(name, number):
    rng = np.random.default_rng(0)
    params = {
        "one": {"kernel": rng.normal(size=(R, 6, 4)).astype("f4")},
        "two": {"kernel": rng.normal(size=(R, 4, 3)).astype("f4")},
    }
    mask = {path: np.ones(leaf.shape, bool) for path, leaf in masks.flatten(params).items()}
    inputs = rng.normal(size=(10, 6)).astype("f4")

    def apply(variables, inputs):
        params = variables["params"]
        return jax.nn.relu(inputs @ params["one"]["kernel"]) @ params["two"]["kernel"]

    seen = {"apply": apply, "examples": inputs, "batch_size": 4}
    criterion, made = dataclasses.replace(CRITERIA[name], rounds=number), []
    for rows, columns in ((1, 1), (2, 2)):
        devices = mesh.make(R, 4, replicate=rows, data=columns)
        put = functools.partial(mesh.put, devices, spec=mesh.BY_REPLICATE)
        roots, before, variables = put(keys.roots(0, R)), put(mask), put({"params": params})
        counts = put({group: np.full(R, count, np.int32) for group, count in COUNTS.items()})
        prune = make_pruner(devices, criterion, PATHS, **seen)
        new = prune(roots, before, variables, counts, 1)
        if criterion.correct:
            correct = make_corrector(devices, criterion, **seen)
            variables = correct(roots, before, new, variables)
        made.append(mesh.fetch((new, variables)))
    (one, left), (other, right) = made
    jax.tree.map(np.testing.assert_array_equal, one, other)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), left, right)
    assert {path: keep.sum() for path, keep in one.items()} == {
        paths[0]: R * COUNTS[group] for group, paths in PATHS.items()
    }


def test_a_criterion_that_corrects_nothing_has_no_corrector():
    with pytest.raises(ValueError, match="this criterion corrects no weights"):
        make_corrector(mesh.make(1, 1), CRITERIA["magnitude"])
