"""The table of docs/own.md: what works on which network, cell by cell."""

import functools
from collections import Counter
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import compress
import lowrank
from compress import distill, quantize
from groundwork import trees
from groundwork.architectures import own
from groundwork.traced import network, reach
from groundwork.traced.macs import multiply_adds
from groundwork.train.step import Batch
from lottery import criteria, masks
from lowrank.factorization.methods import METHODS
from pruning import structured
from tests.own.networks import KEY, NETWORKS

PAGE = Path(__file__).parents[2] / "docs" / "own.md"
COLUMNS = ["network", "masks", "factorize", "save, load", "distil", "multiply-adds", "structured"]
every = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def brought(name):
    return NETWORKS[name]()


@functools.cache
def layers(name):
    """The layers that are reached; and path → why not, of the other weights."""
    one = brought(name)
    reached, refused = reach.layers(one.model, one.variables, one.inputs, **one.flags["eval"])
    weights = ("kernel", "embedding", "weight")
    last = {path: path.rpartition("/")[2] for path in refused}
    return reached, {path: why for path, why in refused.items() if last[path] in weights}


def outputs(one, variables, mode="eval", apply=None):
    """What the network gives when its author's code calls it; the changed collections left out."""
    apply, options = apply or network.apply_of(one.model), dict(one.flags[mode])
    if isinstance(one.model, nn.Module) and mode == "train":
        options |= {"rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
        return apply(variables, one.inputs, **options)[0]
    return apply(variables, one.inputs, **options)


def factorize_cell(name):
    reasons = Counter((path.rpartition("/")[2], why) for path, why in layers(name)[1].items())
    refused = [f"{n} {kind}{'s' * (n > 1)}: {why}" for (kind, why), n in reasons.items()]
    return "; ".join(["yes", *(f"not {each}" for each in refused)])


@functools.cache
def groups(name):
    """The network as a function in evaluation, or the module itself; and its groups of units."""
    one = brought(name)
    is_module = isinstance(one.model, nn.Module)
    model = one.model if is_module else functools.partial(one.model, **one.flags["eval"])
    return model, structured.groups(model, one.variables, one.inputs)


def structured_cell(name):
    found = groups(name)[1].groups
    reasons = Counter(group.doubt for group in found if not group.exact)
    doubts = [f"{n} not exact: {why}" for why, n in reasons.items()]
    return "; ".join([f"{len(found)} group{'s' * (len(found) > 1)}", *doubts])


def table():
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    rows += [
        [name, "yes", factorize_cell(name), "yes", "yes", "yes", structured_cell(name)]
        for name in NETWORKS
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_page_has_the_table():
    assert table() in PAGE.read_text(encoding="utf-8"), f"docs/own.md lacks:\n{table()}"


@every
def test_masks_hold_in_a_loop_of_ones_own(name):
    one = brought(name)
    params = network.params_of(one.variables)
    mask = masks.ones(params, one.prunable) if one.prunable else masks.ones(params)
    mask = jax.jit(lambda mask, own: masks.prune(mask, criteria.magnitude(own, mask), 0.5))(
        mask, params
    )
    optimizer = masks.enforce(optax.adam(0.01), mask)

    def loss(params):
        logits = outputs(one, network.with_params(one.variables, params), "train")
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, one.labels))

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    trained, state = masks.apply(mask, params), optimizer.init(params)
    values = []
    for _ in range(3):
        trained, state, value = step(trained, state)
        values.append(float(value))
    assert np.isfinite(values).all()
    before, after = trees.flatten(params), trees.flatten(trained)
    assert sum(int(keep.sum()) for keep in mask.values()) == sum(
        keep.size - round(0.5 * keep.size) for keep in mask.values()
    )
    for path, keep in mask.items():
        kept, pruned = np.asarray(after[path])[keep], np.asarray(after[path])[~np.asarray(keep)]
        assert not pruned.any()
        assert (kept != np.asarray(before[path])[keep]).mean() > 0.2, path


@every
def test_factorize_gives_the_same_at_full_rank(name):
    one, (reached, _) = brought(name), layers(name)
    plan = {}
    for path, layer in reached.items():
        rank = METHODS[layer.layer.kind]["svd"].full(layer.kernel)
        plan[path] = {"method": "svd", "rank": rank}
    apply, changed = lowrank.factorize(
        one.model, one.variables, plan, one.inputs, **one.flags["eval"]
    )
    mode = "train" if isinstance(one.model, nn.Module) else "eval"
    both = jax.jit(lambda v, w: (outputs(one, v, mode), outputs(one, w, mode, apply)))
    want, got = both(one.variables, changed)
    np.testing.assert_allclose(got, want, atol=2e-5 * float(jnp.abs(want).max()))
    kernels = trees.flatten(network.params_of(changed))
    assert not {layer.parameter for layer in reached.values()} & set(kernels)


@every
def test_a_file_gives_back_the_quantised_network(name, tmp_path):
    one = brought(name)

    def stored(path, leaf):
        return quantize.uniform(leaf, 4) if jnp.ndim(leaf) >= 2 else leaf

    @jax.jit
    def rounded(params):
        params = trees.map_with_path(stored, params)
        return params, quantize.materialize(params)

    variables, whole = (
        network.with_params(one.variables, params)
        for params in rounded(network.params_of(one.variables))
    )
    if isinstance(one.model, nn.Module):
        example, flags = one.inputs, one.flags["eval"]
        compress.save(tmp_path / "a.cna", one.model, variables, example=example, **flags)
    else:
        compress.save(tmp_path / "a.cna", one.model, variables)
    _, again = compress.load(tmp_path / "a.cna", one.model, like=whole)
    assert jax.tree.structure(again) == jax.tree.structure(whole)
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    shapes = [jax.eval_shape(functools.partial(outputs, one), v) for v in (again, one.variables)]
    assert shapes[0].shape == shapes[1].shape
    original = sum(leaf.nbytes for leaf in jax.tree.leaves(one.variables))
    assert (tmp_path / "a.cna").stat().st_size < 0.9 * original


@every
def test_multiply_adds_are_those_of_a_hand(name):
    one = brought(name)
    apply = functools.partial(network.apply_of(one.model), **one.flags["eval"])
    assert multiply_adds(apply, one.variables, one.inputs) == one.macs


@every
def test_distillation_weighs_what_teachers_say_of_each_example(name):
    one = brought(name)
    is_module = isinstance(one.model, nn.Module)
    variables = one.variables if is_module else {"params": one.variables}
    student = own.of(one.model, one.flags if one.flags["train"] else None)
    teachers = jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * leaf]), variables)
    loss = distill.make_loss(
        student, distill.fixed((student, teachers)), temperature=2.0, weight=0.3
    )
    batch = Batch(one.inputs, one.labels, jnp.asarray([True, True, True, False]))

    def both(params):
        value, (_, counts) = loss(KEY, {**variables, "params": params}, batch)
        return value, counts

    (value, counts), gradients = jax.jit(jax.value_and_grad(both, has_aux=True))(
        variables["params"]
    )
    want, examples = jax.jit(functools.partial(_by_hand, one))(teachers, variables)
    np.testing.assert_allclose(value, want, rtol=1e-4)
    assert int(counts.examples) == int(examples)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
    assert any(bool(leaf.any()) for leaf in jax.tree.leaves(gradients))


def _by_hand(one, teachers, variables):
    """0.3 × T² × KL + 0.7 × cross-entropy at T = 2, over the first three examples of four."""
    alone = (lambda tree: tree) if isinstance(one.model, nn.Module) else lambda tree: tree["params"]
    student = outputs(one, alone(variables), "train")[:3]
    runs = [outputs(one, alone(jax.tree.map(lambda x, k=k: x[k], teachers))) for k in (0, 1)]
    target = sum(jax.nn.softmax(run[:3] / 2) for run in runs) / 2
    soft = 4 * jnp.sum(target * (jnp.log(target) - jax.nn.log_softmax(student / 2)), -1)
    hard = optax.softmax_cross_entropy_with_integer_labels(student, one.labels[:3])
    return 0.3 * soft.mean() + 0.7 * hard.mean(), hard.size


@every
def test_units_that_are_taken_away_are_zeros_in_the_whole_network(name):
    one, (model, graph) = brought(name), groups(name)
    draw = np.random.default_rng(4)
    keep = {g.name: draw.permutation(g.units) < max(1, g.units // 2) for g in graph.groups}
    exact = {g.name: keep[g.name] for g in graph.groups if g.exact}
    narrow = structured.Narrowed(graph=graph, keep=exact)
    flags = one.flags["eval"] if isinstance(one.model, nn.Module) else {}
    both = jax.jit(
        lambda v: (
            network.apply_of(model)(structured.mask(graph, v, exact), one.inputs, **flags),
            narrow.apply(structured.cut(graph, v, exact), one.inputs, **flags),
        ),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    want, got = both(one.variables)
    np.testing.assert_allclose(got, want, atol=2e-5 * float(jnp.abs(want).max()))
    narrow = structured.Narrowed(graph=graph, keep=keep)
    small = jax.eval_shape(lambda v: structured.cut(graph, v, keep), one.variables)
    inputs = jax.tree.map(lambda leaf: leaf[:2], one.inputs)  # another batch than the example's
    outputs = jax.eval_shape(lambda v: narrow.apply(v, inputs, **flags), small)
    assert outputs.shape == (2, *np.shape(want)[1:])
    left, before = (sum(x.size for x in arrays_of(tree)) for tree in (small, one.variables))
    assert left < 0.8 * before


def arrays_of(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "size")]
