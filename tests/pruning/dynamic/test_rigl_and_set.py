"""RigL and SET against a plain sort, in foreign loops, under vmap, on a mesh, and continued."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from groundwork.train import optim
from pruning import dynamic, masks
from pruning.dynamic import regrowth
from tests.pruning.dynamic.problem import (
    END,
    EVERY,
    FRACTION,
    as_numpy,
    close,
    drawn,
    equal,
    gradients,
)

SETTINGS = {"end": END, "every": EVERY, "fraction": FRACTION}
CHANGES = (0, 3, 6, 9)
STEPS = 14
TRACES = []


def rigl(mask, key=None, optimizer=None):
    del key
    return dynamic.rigl(optimizer or optax.adam(0.1), mask, **SETTINGS)


def set_(mask, key=None, optimizer=None):
    return dynamic.set(optimizer or optax.adam(0.1), mask, key=key, **SETTINGS)


METHODS = {"rigl": rigl, "set": set_}


@functools.cache
def stepping(name, counted=False):
    """One compiled step of a method, which sees its mask and key in the state alone."""
    optimizer = METHODS[name](None)

    def step(params, state, step):
        TRACES.append((name, counted))
        given = {} if counted else {"step": step}
        updates, state = optimizer.update(gradients(params, step), state, params, **given)
        return optax.apply_updates(params, updates), state

    return step


@functools.cache
def jitted(name, counted=False):
    return jax.jit(stepping(name, counted))


def start(name, seed=0):
    params, mask = drawn(seed)
    return params, METHODS[name](mask, jax.random.key(seed)).init(params)


def trained(name, steps=range(STEPS), begin=None, step=None):
    """(parameters, state) before each step, and at the end."""
    places = [begin or start(name)]
    for i in steps:
        places.append((step or jitted(name))(*places[-1], jnp.int32(i)))
    return places


@functools.cache
def whole(name):
    return trained(name)


def reference(mask, params, growth, fraction):
    """One change of a leaf, by plain sorting."""
    kept = [i for i in np.ndindex(mask.shape) if mask[i]]
    pruned = [i for i in np.ndindex(mask.shape) if not mask[i]]
    number = min(round(float(np.float32(fraction) * np.float32(len(kept)))), len(pruned))
    # stable sorts: among equals the lower index is kept, and grows first
    stays = sorted(kept, key=lambda i: -abs(params[i]))[: len(kept) - number]
    grows = sorted(pruned, key=lambda i: -growth[i])[:number]
    new = np.zeros_like(mask)
    for i in stays + grows:
        new[i] = True
    return new


def test_rigl_changes_as_a_plain_sort_does():
    for step in CHANGES:
        (params, state), (_, after) = whole("rigl")[step : step + 2]
        fraction = FRACTION / 2 * (1 + math.cos(math.pi * step / END))
        grads = masks.flatten(gradients(params, step))
        old, new = as_numpy(masks.mask_of(state)), as_numpy(masks.mask_of(after))
        for path, leaf in masks.flatten(as_numpy(params)).items():
            want = reference(old[path], leaf, np.abs(grads[path]), fraction)
            np.testing.assert_array_equal(new[path], want)
        assert any(np.any(old[path] != new[path]) for path in old)
    assert TRACES.count(("rigl", False)) == 1


@pytest.mark.parametrize("name", METHODS)
def test_between_changes_and_after_the_end_the_mask_stays_and_is_held(name):
    for step, (_, state) in enumerate(whole(name)[:-1]):
        params, after = whole(name)[step + 1]
        old, new = masks.mask_of(state), masks.mask_of(after)
        differs = any(np.any(old[path] != new[path]) for path in old)
        assert differs == (step in CHANGES), step
        for path, leaf in masks.flatten(params).items():
            assert not np.any(np.asarray(leaf)[~np.asarray(new[path])])


@pytest.mark.parametrize("name", METHODS)
def test_a_change_takes_the_place_of_the_update(name):
    for step in CHANGES:
        (params, state), (after, changed) = whole(name)[step : step + 2]
        old, new = masks.mask_of(state), masks.mask_of(changed)
        want = {
            path: leaf * (old[path] & new[path]) for path, leaf in masks.flatten(params).items()
        }
        equal(masks.flatten(after), want)
        np.testing.assert_array_equal(after["a"]["bias"], params["a"]["bias"])
    (before, _), (after, _) = whole(name)[1:3]
    assert np.all(before["a"]["bias"] != after["a"]["bias"])


@pytest.mark.parametrize("name", METHODS)
def test_what_grows_has_fresh_moments(name):
    (params, state), (_, after) = whole(name)[6:8]
    old, new = masks.mask_of(state), masks.mask_of(after)
    moments = {path: (1 - 0.9) * g for path, g in masks.flatten(gradients(params, 6)).items()}
    for path in new:
        grown = np.asarray(new[path] & ~old[path])
        assert np.any(grown)
        mean = np.asarray(masks.flatten(after.enforced.inner[0].mu)[path])
        np.testing.assert_allclose(mean[grown], moments[path][grown], rtol=1e-6)
        assert not np.any(mean[~np.asarray(new[path])])


@functools.partial(jax.jit, static_argnums=4)
def _regrown(mask, params, growth, fraction, shape):
    one = {"kernel": mask.reshape(shape)}
    leaf = {"kernel": params.reshape(shape)}
    return regrowth.regrown(one, leaf, {"kernel": growth.reshape(shape)}, fraction)["kernel"]


SCORE = st.sampled_from([0.0, -1.0, 1.0, 2.0, math.inf, math.nan]) | st.floats(-9, 9, width=32)


@given(
    st.lists(st.tuples(st.booleans(), SCORE, SCORE), min_size=12, max_size=12),
    st.floats(0, 1, width=32),
)
def test_no_count_changes_and_nothing_comes_back_in_the_change_in_which_it_goes(rows, fraction):
    keep, params, growth = (np.array(column) for column in zip(*rows, strict=True))
    params, growth = np.where(keep, params, 0).astype(np.float32), growth.astype(np.float32)
    new = np.asarray(_regrown(keep, params, growth, np.float32(fraction), (3, 4))).ravel()
    moved = min(round(float(np.float32(fraction) * np.float32(keep.sum()))), (~keep).sum())
    assert new.sum() == keep.sum()
    assert (keep & ~new).sum() == moved == (~keep & new).sum()


def test_set_draws_by_key_and_step():
    params, mask = drawn(0)
    optimizer = dynamic.set(optax.sgd(0.1), mask, key=None, every=EVERY, end=10**6)  # one fraction
    update = jax.jit(lambda state, step: optimizer.update(params, state, params, step=step)[1])

    def grown(seed, step):
        state = optimizer.init(params)._replace(key=jax.random.key(seed))
        return as_numpy(masks.mask_of(update(state, jnp.int32(step))))

    first, again, other, later = grown(0, 0), grown(0, 0), grown(1, 0), grown(0, 3)
    equal(first, again)
    for one in (other, later):
        assert any(np.any(first[path] != one[path]) for path in one)


@pytest.mark.parametrize("name", METHODS)
def test_replicates_are_as_alone_and_stay_one_branch(name):
    starts = [start(name, seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    step = jax.jit(jax.vmap(stepping(name)))
    assert step.lower(*stacked, jnp.zeros(2, jnp.int32)).as_text().count("stablehlo.case") == 1
    for i in range(5):
        stacked = step(*stacked, jnp.full(2, i))
    for seed, begin in enumerate(starts):
        params, state = trained(name, range(5), begin)[-1]
        mine = jax.tree.map(lambda leaf, seed=seed: leaf[seed], stacked)
        equal(masks.mask_of(mine[1]), masks.mask_of(state))
        close(mine[0], params)


def test_a_loop_that_passes_no_step_is_counted():
    params, state = trained("rigl", step=jitted("rigl", counted=True))[-1]
    equal(masks.mask_of(state), masks.mask_of(whole("rigl")[-1][1]))
    close(params, whole("rigl")[-1][0])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("at", [3, 4])  # before and after a change
def test_a_saved_state_continues_bit_for_bit(name, at):
    leaves, tree = jax.tree.flatten(whole(name)[at])
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    saved = [
        np.array(jax.random.key_data(x) if k else x) for x, k in zip(leaves, is_key, strict=True)
    ]
    restored = [
        jax.random.wrap_key_data(x) if k else jnp.asarray(x)
        for x, k in zip(saved, is_key, strict=True)
    ]
    again = trained(name, range(at, STEPS), jax.tree.unflatten(tree, restored))[-1]
    equal(again, whole(name)[-1])


def test_a_state_that_is_rewound_begins_again():
    params, state = whole("rigl")[-1]
    begun = start("rigl")
    state = masks.replace(state, masks.mask_of(begun[1]))
    after = trained("rigl", range(2), (begun[0], state))[-1]
    equal(masks.mask_of(after[1]), masks.mask_of(whole("rigl")[2][1]))
    assert np.any(params["a"]["bias"] != after[0]["a"]["bias"])


def test_devices_that_share_a_batch_have_the_same_masks():
    """On a 2×2 mesh of two replicates and half batches, against whole batches on one device."""
    mesh = jax.make_mesh((2, 2), ("replicate", "data"), axis_types=(AxisType.Auto,) * 2)
    optimizer = rigl(None, optimizer=optax.sgd(0.1))
    rng = np.random.default_rng(0)
    batches = rng.normal(size=(8, 4, 5)).astype(np.float32)

    def run(params, state, batches, axis=None):
        def loss(params, batch):
            hidden = jnp.tanh(batch @ params["a"]["kernel"] + params["a"]["bias"][None])
            value = jnp.mean((hidden @ params["b"]["kernel"] - 1) ** 2)
            return jax.lax.pmean(value, axis) if axis else value

        def step(carry, given):
            params, state = carry
            i, batch = given
            updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params, step=i)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), (jnp.arange(8), batches))[0]

    starts = [drawn(seed) for seed in range(2)]
    begun = [(p, rigl(m, optimizer=optax.sgd(0.1)).init(p)) for p, m in starts]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
    by_replicate, by_data = PartitionSpec("replicate"), PartitionSpec(None, "data")
    mapped = jax.vmap(functools.partial(run, axis="data"), in_axes=(0, 0, None))
    sharded = jax.shard_map(
        mapped, mesh=mesh, in_specs=(by_replicate, by_replicate, by_data), out_specs=by_replicate
    )
    params, state = jax.jit(sharded)(*stacked, batches)
    whole_params, whole_state = jax.jit(jax.vmap(run, in_axes=(0, 0, None)))(*stacked, batches)
    equal(masks.mask_of(state), masks.mask_of(whole_state))
    close(params, whole_params)
    for leaf in masks.mask_of(state).values():
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, leaf[shard.index])


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1, momentum=0.9),
        optax.adamw(0.1),
        optim.make(optim.OptimizerSpec("momentum", 0.1, 0.9, 0.1, "cosine", (), 0.1, 3), STEPS),
    ],
    ids=["sgd", "adamw", "ours"],
)
def test_any_optimiser_holds_counts_and_zeros(optimizer):
    params, mask = drawn(3)
    wrapped = optax.chain(optax.clip(1.0), rigl(mask, optimizer=optimizer))
    state = wrapped.init(params)
    update = jax.jit(lambda g, s, p, i: wrapped.update(g, s, p, step=i))
    for i in range(5):
        updates, state = update(gradients(params, i), state, params, jnp.int32(i))
        params = optax.apply_updates(params, updates)
    held = masks.mask_of(state)
    equal(masks.kept(held), masks.kept(mask))
    assert any(np.any(held[path] != mask[path]) for path in mask)
    equal(masks.apply(held, params), params)


def test_no_change_is_missed_behind_a_wrapper_that_accumulates():
    params, mask = drawn(0)
    wrapped = optax.MultiSteps(rigl(mask), 2)  # passes on the steps 1, 3, 5, …
    state = wrapped.init(params)
    update = jax.jit(lambda g, s, p, i: wrapped.update(g, s, p, step=i))
    changed = []
    for i in range(8):
        before = as_numpy(masks.mask_of(state))
        updates, state = update(gradients(params, i), state, params, jnp.int32(i))
        params = optax.apply_updates(params, updates)
        after = as_numpy(masks.mask_of(state))
        changed += [i] * any(np.any(before[path] != after[path]) for path in mask)
    assert changed == [3, 7]  # that of 0 is before what it has seen


def test_bad_settings_are_refused():
    _, mask = drawn(0)
    sgd = optax.sgd(0.1)
    with pytest.raises(ValueError, match="every=0 must be at least 1"):
        dynamic.rigl(sgd, mask, end=3, every=0)
    with pytest.raises(ValueError, match="end=0 must be at least 1"):
        dynamic.set(sgd, mask, end=0, key=None)
    with pytest.raises(ValueError, match=r"fraction 1.5 is outside \[0, 1\]"):
        dynamic.rigl(sgd, mask, end=3, fraction=1.5)
    params, _ = drawn(0)
    without = dynamic.set(sgd, mask, end=3)
    with pytest.raises(ValueError, match="needs the parameters"):
        without.update(params, without.init(params))
    with pytest.raises(ValueError, match="no mask"):
        masks.mask_of(sgd.init(params))


def test_a_network_of_nnx_behind_its_own_optimiser():
    model = nnx.Linear(6, 8, rngs=nnx.Rngs(0))
    mask = {"kernel": jnp.asarray(np.random.default_rng(0).random((6, 8)) < 0.4)}
    nnx.update(model, masks.apply(mask, nnx.state(model, nnx.Param)))
    optimizer = nnx.Optimizer(model, rigl(mask), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        inputs = jnp.arange(24.0).reshape(4, 6) % 7
        optimizer.update(model, nnx.grad(lambda model: jnp.mean((model(inputs) - 1) ** 2))(model))

    for _ in range(5):
        step(model, optimizer)
    held = masks.mask_of(optimizer.opt_state)["kernel"][...]  # NNX boxes the state, too
    assert int(jnp.sum(held)) == int(jnp.sum(mask["kernel"]))
    assert np.any(held != mask["kernel"])
    assert not np.any(model.kernel[...][~held])


@pytest.mark.parametrize("name", METHODS)
def test_without_an_end_the_share_never_falls(name):
    params, mask = drawn(0)
    optimizer = getattr(dynamic, name)(optax.sgd(0.1), mask, every=1, fraction=FRACTION)
    state = optimizer.init(params)
    for i in range(2):
        _, state = optimizer.update(gradients(params, jnp.int32(10**6 + i)), state, params)
        new = masks.mask_of(state)
        for path, before in mask.items():
            count = int(np.sum(before))
            moved = min(int(np.rint(np.float32(FRACTION * count))), before.size - count)
            assert np.sum(np.asarray(before) & ~np.asarray(new[path])) == moved
            assert np.sum(new[path]) == count
        mask = new
