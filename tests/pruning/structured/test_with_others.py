"""Masks, distillation, quantisation, low rank, files and costs of a network without some units."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import compress
import lowrank
from compress import distill, quantize
from compress.archive import kept as archive_kept
from groundwork import architectures, trees
from groundwork.errors import UserError
from groundwork.traced import reach
from groundwork.traced.macs import multiply_adds
from groundwork.train.step import Batch
from lottery import criteria, masks
from pruning import structured
from tests.pruning.structured.zoo import drawn, quickly


class Small(nn.Module):
    width: int = 8

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(self.width, (3, 3), name="conv")(x))
        x = nn.relu(nn.Dense(self.width, name="fc")(x.reshape(len(x), -1)))
        return nn.Dense(3, name="head")(x)


X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 4, 1)), jnp.float32)


@pytest.fixture(scope="module")
def made():
    """The whole network and its variables, and a narrow one and its own."""
    shapes = jax.eval_shape(Small().init, jax.random.key(0), X)
    variables = drawn(shapes)
    graph = structured.groups(Small(), shapes, X)
    keep = {name: np.arange(8) % 2 == part for part, name in enumerate(["conv", "fc"])}
    return Small(), variables, *structured.narrow(graph, variables, keep)


def test_multiply_adds_are_those_of_a_network_that_is_built_as_narrow(made):
    _, _, narrow, small = made
    assert jax.tree.map(jnp.shape, small) == jax.tree.map(
        jnp.shape, jax.eval_shape(Small(4).init, jax.random.key(0), X)
    )
    built = multiply_adds(Small(4).apply, small, X)
    assert multiply_adds(narrow.apply, small, X) == built
    assert built == 4 * (16 * 9 * 4 + 64 * 4 + 4 * 3)
    ours, theirs = quickly(lambda v: (narrow.apply(v, X), Small(4).apply(v, X)))(small)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_masks_hold_on_a_narrow_network(made):
    _, _, narrow, small = made
    params = small["params"]
    mask = masks.prune(masks.ones(params), criteria.magnitude(params, masks.ones(params)), 0.5)
    optimizer = masks.enforce(optax.sgd(0.1), mask)

    @quickly
    def step(params, state):
        def loss(params):
            return jnp.mean(jnp.square(narrow.apply({"params": params}, X)))

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates)

    start = masks.apply(mask, params)
    after = trees.flatten(step(start, optimizer.init(start)))
    for path, keep in mask.items():
        assert not np.asarray(after[path])[~np.asarray(keep)].any()
        assert (np.asarray(after[path]) != np.asarray(trees.flatten(params)[path])).any()


def test_a_narrow_network_is_a_student_and_a_teacher(made):
    model, variables, narrow, small = made
    stacked = jax.tree.map(lambda leaf: leaf[None], variables)
    teacher = distill.fixed((model, stacked))
    batch = Batch(X, jnp.asarray([0, 1, 2, 0]), jnp.ones(4, bool))
    itself = distill.fixed((narrow, jax.tree.map(lambda leaf: leaf[None], small)))

    @quickly
    def values(small):
        losses = [
            distill.make_loss(narrow, t, temperature=2.0, weight=1.0) for t in (teacher, itself)
        ]
        target = jax.nn.log_softmax(model.apply(variables, X) / 2)
        logits = jax.nn.log_softmax(narrow.apply(small, X) / 2)
        by_hand = 4 * jnp.mean(jnp.sum(jnp.exp(target) * (target - logits), -1))
        return [*(loss(jax.random.key(0), small, batch)[0] for loss in losses), by_hand]

    value, alone, expected = values(small)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert abs(float(alone)) < 1e-5


def test_pruning_then_factorising_and_factorising_then_pruning(made):
    model, variables, narrow, small = made
    reached, _ = reach.layers(narrow, small, X)
    assert set(reached) == {"conv", "fc", "head"}
    plan = {"fc": {"method": "svd", "rank": 4}}
    apply, changed = lowrank.factorize(narrow, small, plan, X)
    got, expected = quickly(lambda v, w: (apply(v, X), narrow.apply(w, X)))(changed, small)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)

    apply, factors = lowrank.factorize(model, variables, {"fc": {"method": "svd", "rank": 6}}, X)
    graph = structured.groups(apply, factors, X)
    inner = [group for group in graph.groups if group.units == 6]
    assert len(inner) == 1  # the rank is a group, too
    keep = {g.name: np.arange(g.units) < g.units // 2 for g in graph.groups}
    narrow, small = structured.narrow(graph, factors, keep)
    both = quickly(lambda v, w: (narrow.apply(v, X), apply(w, X)))
    got, masked = both(small, structured.mask(graph, factors, keep))
    np.testing.assert_allclose(got, masked, rtol=1e-4, atol=1e-4)


def test_a_file_gives_back_a_quantised_narrow_network(made, tmp_path):
    _, _, narrow, small = made

    def stored(path, leaf):
        return quantize.uniform(leaf, 4) if jnp.ndim(leaf) >= 2 else leaf

    coded = trees.map_with_path(stored, small)
    whole = quantize.materialize(coded)
    path = tmp_path / "a.cna"
    compress.save(path, narrow, coded, example=(4, 4, 1))
    loaded = [compress.load(path, model) for model in (narrow, Small())]
    for _, again in loaded:
        jax.tree.map(np.testing.assert_array_equal, again, whole)
    outputs = quickly(lambda v: [apply(v, X) for apply in (narrow.apply, *dict(loaded))])(whole)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])
    keep = {**narrow.keep, "fc": ~narrow.keep["fc"]}
    with pytest.raises(UserError, match="it keeps other units than the given network"):
        compress.load(path, structured.Narrowed(graph=narrow.graph, keep=keep))
    with pytest.raises(UserError, match="it does not describe its network"):
        compress.load(path)
    with pytest.raises(UserError, match="a narrow network needs example="):
        compress.save(path, narrow, coded)
    with pytest.raises(
        UserError, match=r"the shape of one, such as \(28, 28, 1\), or one array of int32"
    ):
        compress.save(path, narrow, coded, example=jnp.ones((2, 4, 4, 1)))


@pytest.mark.parametrize(
    ("section", "x", "example"),
    [
        ({"name": "lenet_300_100", "width": 0.05}, np.ones((3, 28, 28, 1), np.float32), None),
        (
            {"name": "transformer", "layers": 1, "heads": 2, "features": 4},
            np.arange(18, dtype=np.int32).reshape(3, 6) % 10,
            jax.ShapeDtypeStruct((1, 6), jnp.int32),
        ),
    ],
    ids=["LeNet-300-100", "Transformer"],
)
def test_a_file_of_a_networks_name_needs_no_module(section, x, example, tmp_path):
    model = architectures.build({"model": section}, 10)
    shapes = architectures.shapes(model, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
    graph = structured.groups(model, shapes, x)
    keep = {group.name: np.arange(group.units) % 2 == 0 for group in graph.groups}
    narrow, small = structured.narrow(graph, drawn(shapes), keep)
    path = tmp_path / "a.cna"
    compress.save(path, narrow, small, example=example)
    apply, again = compress.load(path)
    ours, theirs = quickly(lambda v, w: (apply(v, x), narrow.apply(w, x)))(again, small)
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match="cannot load"):
        compress.load(_changed(path, lambda data: data[:-9] + b"x" * 9))


def _changed(path, change):
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"groups": {"conv": [8, [0, 9]]}}, "are not places in rising order"),
        ({"groups": {"conv": [8, [2, 1]]}}, "are not places in rising order"),
        ({"groups": {"conv": [8, []]}}, "are none, or too many"),
        ({"groups": {"conv": [8, ["0"]]}}, "are no number and places"),
        ({"groups": {"conv": [6, [0, 1]]}}, "needs 8 truths"),
        ({"groups": {"none": [8, [0]]}}, "unknown group 'none'"),
        ({"groups": []}, "have no groups"),
        ({"split": "middle", "groups": {}}, "must be one of outer, inner"),
        ({"ignored": [3]}, "no list of patterns"),
        ({"more": 1}, "its kept units are invalid"),
    ],
)
def test_kept_units_that_a_file_cannot_have_are_refused(made, kept, said):
    header = {"split": "outer", "ignored": [], "groups": {"conv": [8, [0, 1]]}} | kept
    with pytest.raises(ValueError, match=said):
        archive_kept.network(header, Small(), (4, 4, 1))
