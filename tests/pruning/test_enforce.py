"""`pruning.enforce`: pruned weights are exactly zero, kept ones as if alone."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

from groundwork.train import optim
from pruning import masks
from pruning.enforce import enforce

STEPS = 20
R = 4  # replicates, one a fake device


def _ours(name):
    return optim.make(optim.OptimizerSpec(name, 0.05, 0.9, 0.1, "cosine", (), 0.1, 3), STEPS)


ELEMENTWISE = {name: functools.partial(_ours, name) for name in optim.OPTIMIZERS} | {
    "optax.sgd": lambda: optax.sgd(0.05, momentum=0.9, nesterov=True),
    "optax.adam": lambda: optax.adam(0.05),
    "optax.adamw": lambda: optax.adamw(0.05, weight_decay=0.1),
    "optax.rmsprop": lambda: optax.rmsprop(0.05, momentum=0.9, centered=True),
    "optax.lion": lambda: optax.lion(0.05, weight_decay=0.1),
    "optax.adagrad": lambda: optax.adagrad(0.05),
    "clip, decay, momentum": lambda: optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.add_decayed_weights(0.1),
        optax.sgd(0.05, momentum=0.9),
    ),
    "optax.MultiSteps": lambda: optax.MultiSteps(optax.adam(0.05), 3).gradient_transformation(),
}
BY_LEAF = {
    "optax.lamb": lambda: optax.lamb(0.05, weight_decay=0.1),
    "clip after decay": lambda: optax.chain(
        optax.add_decayed_weights(0.1), optax.clip_by_global_norm(1.0), optax.adam(0.05)
    ),
}
ALL = ELEMENTWISE | BY_LEAF

SHAPES = {"fc": {"kernel": (3, 5), "bias": (5,)}, "blocks": [{"kernel": (2, 2, 3, 2)}]}
BAD = [math.nan, math.inf, -math.inf, 3e38, -1e30, 0.0]


def _normal(rng, leading=()):
    return jax.tree.map(
        lambda shape: rng.normal(size=(*leading, *shape)).astype(np.float32),
        SHAPES,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )


def _problem(seed=0):
    """Parameters, a mask that prunes about half, gradients of STEPS steps, bad where pruned."""
    rng = np.random.default_rng(seed)
    params, gradients = _normal(rng), _normal(rng, (STEPS,))
    mask = {path: rng.random(leaf.shape) < 0.5 for path, leaf in masks.flatten(params).items()}
    for path, leaf in masks.flatten(gradients).items():
        leaf[:, ~mask[path]] = rng.choice(BAD, size=leaf[:, ~mask[path]].shape)
        assert np.any(np.isnan(leaf))
    return params, mask, gradients


def _train(optimizer, params, state, gradients):
    """Parameters after each of the steps."""

    def step(carry, now):
        params, state = carry
        i, gradient = now
        updates, state = optimizer.update(gradient, state, params, step=i)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, state), (jnp.arange(STEPS), gradients))[1]


def _pick(tree, mask, leading=()):
    """Path → the kept entries as a vector: the network from which the pruned are taken out."""
    at = (slice(None),) * len(leading)
    every = masks.flatten(tree, lambda path: True)
    return {
        path: np.asarray(leaf)[(*at, mask[path])] if path in mask else np.asarray(leaf)
        for path, leaf in every.items()
    }


def _pruned(tree, mask):
    """The pruned entries of all steps or replicates, one vector."""
    leaves = masks.flatten(tree)
    return np.concatenate([np.asarray(leaves[p], np.float32)[..., ~mask[p]].ravel() for p in mask])


def _assert_zero(values):
    assert values.size
    np.testing.assert_array_equal(values, 0)


def test_the_table_holds_every_optimiser_of_a_config():
    assert set(optim.OPTIMIZERS) <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_pruned_are_zero_after_every_step_and_kept_are_as_if_alone(name):
    params, mask, gradients = _problem()
    wrapped, alone = enforce(ALL[name](), mask), optax.with_extra_args_support(ALL[name]())
    train = jax.jit(lambda p: _train(wrapped, p, wrapped.init(p), gradients))
    masked = masks.apply(mask, params)
    starts = [masked, params] if name in ELEMENTWISE else [masked]
    small = _pick(masked, mask)
    want = jax.jit(functools.partial(_train, alone))(
        small, alone.init(small), _pick(gradients, mask, (STEPS,))
    )
    for start in starts:
        got = train(start)
        _assert_zero(_pruned(got, mask))
        got = _pick(got, mask, (STEPS,))
        for path, leaf in want.items():
            assert np.all(np.isfinite(leaf)), path
            assert np.any(leaf[-1] != leaf[0]), path
            np.testing.assert_allclose(got[path], leaf, rtol=2e-5, atol=2e-6, err_msg=path)


def test_a_bad_gradient_of_a_pruned_weight_reaches_no_other_weight_outside_jit():
    params, mask, gradients = _problem()
    optimizer = enforce(optax.clip_by_global_norm(1.0), mask)
    now = jax.tree.map(lambda g: g[0], gradients)
    updates, _ = optimizer.update(now, optimizer.init(params), params)
    good = _pick(now, mask)
    norm = math.sqrt(sum(np.sum(np.square(leaf, dtype=float)) for leaf in good.values()))
    for path, leaf in _pick(updates, mask).items():
        np.testing.assert_allclose(leaf, good[path] / norm, rtol=1e-5)


def test_pruned_are_zero_without_a_gradient_of_their_own_from_the_first_update_on():
    params, mask, _ = _problem(1)
    optimizer = enforce(optax.adam(0.1), mask)
    state = optimizer.init(params)
    zeros = jax.tree.map(np.zeros_like, params)
    assert np.all(_pruned(params, mask) != 0)
    updates, _ = jax.jit(optimizer.update)(zeros, state, params)
    _assert_zero(_pruned(optax.apply_updates(params, updates), mask))


@pytest.mark.parametrize("of_params", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("of_gradients", [jnp.bfloat16, jnp.float32])
def test_pruned_are_zero_in_mixed_precision(of_params, of_gradients):
    params, mask, _ = _problem(2)
    params = jax.tree.map(lambda p: jnp.asarray(p, of_params), params)
    optimizer = enforce(optax.sgd(0.1), mask)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for _step in range(3):
        gradients = jax.tree.map(lambda p: p.astype(of_gradients), params)
        updates, state = update(gradients, state, params)
        new = optax.apply_updates(params, updates)
        _assert_zero(_pruned(new, mask))
        assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(of_params)}
        assert not np.array_equal(new["fc"]["bias"], params["fc"]["bias"])
        params = new


def test_bfloat16_parameters_stay_bfloat16_and_zero_over_a_run():
    params, mask, gradients = _problem(3)
    params, gradients = (
        jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), tree) for tree in (params, gradients)
    )
    optimizer = enforce(ALL["adamw"](), mask)
    got = jax.jit(functools.partial(_train, optimizer))(params, optimizer.init(params), gradients)
    _assert_zero(_pruned(got, mask))
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(jnp.bfloat16)}
    assert all(np.all(np.isfinite(leaf.astype(np.float32))) for leaf in jax.tree.leaves(got))


def _replicates():
    problems = [_problem(seed) for seed in range(R)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *problems)
    return problems, stacked


@functools.cache
def _alone():
    """Each replicate by itself."""
    optimizer = enforce(ALL["adamw"](), None)

    @jax.jit
    def train(params, mask, gradients):
        state = optimizer.init(params)._replace(mask=mask)
        return _train(optimizer, params, state, gradients)

    return train, [train(*problem) for problem in _replicates()[0]]


def _assert_replicates(got):
    problems, _ = _replicates()
    for r, want in enumerate(_alone()[1]):
        mine = jax.tree.map(lambda leaf, r=r: leaf[r], got)
        _assert_zero(_pruned(mine, problems[r][1]))
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), mine, want
        )


def test_replicates_with_masks_of_their_own_under_vmap():
    _assert_replicates(jax.vmap(_alone()[0])(*_replicates()[1]))


def test_replicates_with_masks_of_their_own_under_shard_map():
    mesh = jax.make_mesh((R,), ("replicate",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("replicate")
    train = jax.shard_map(jax.vmap(_alone()[0]), mesh=mesh, in_specs=spec, out_specs=spec)
    got = jax.jit(train)(*_replicates()[1])
    assert len(got["fc"]["kernel"].sharding.device_set) == R
    _assert_replicates(got)


@pytest.mark.parametrize("name", ["adam", "optax.lamb"])
def test_another_mask_in_the_state_compiles_nothing_and_zeroes_at_once(name):
    params, mask, gradients = _problem(4)
    optimizer = enforce(ALL[name](), mask)
    state, traces = optimizer.init(params), []

    @jax.jit
    def step(gradient, state, params, i):
        traces.append(1)
        updates, state = optimizer.update(gradient, state, params, step=i)
        return optax.apply_updates(params, updates), state

    rng = np.random.default_rng(5)
    for i in range(8):
        if i % 2 == 0:  # a new level: moments stay as they are, a tenth or so is pruned
            mask = {path: keep & (rng.random(keep.shape) < 0.8) for path, keep in mask.items()}
            state = state._replace(mask=jax.tree.map(jnp.asarray, mask))
        gradient = jax.tree.map(lambda g, i=i: np.array(g[i]), gradients)
        for path, leaf in masks.flatten(gradient).items():
            leaf[~mask[path]] = math.nan
        params, state = step(gradient, state, params, jnp.int32(i))
        _assert_zero(_pruned(params, mask))
    assert len(traces) == 1
    assert all(np.any(leaf != 0) for leaf in masks.flatten(params).values())
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


def test_the_state_holds_the_mask_and_the_inner_state():
    params, mask, _ = _problem()
    state = enforce(optax.adam(0.1), mask).init(params)
    jax.tree.map(np.testing.assert_array_equal, state.mask, mask)
    want = jax.tree.structure(optax.adam(0.1).init(params))
    assert jax.tree.structure(state.inner) == want
    assert enforce(optax.adam(0.1), None).init(params).mask == {}


def test_a_dense_mask_and_none_change_nothing():
    params, _, _ = _problem()
    plain = optax.adamw(0.1)
    want, _ = plain.update(params, plain.init(params), params)
    for mask in (None, masks.ones(params)):
        optimizer = enforce(optax.adamw(0.1), mask)
        got, _ = optimizer.update(params, optimizer.init(params), params)
        jax.tree.map(np.testing.assert_array_equal, got, want)


def test_a_mask_that_does_not_fit_the_parameters_is_refused():
    params, mask, _ = _problem()
    alien = {"fc2/kernel": np.ones(2, bool)}
    with pytest.raises(ValueError, match=r"'fc2/kernel' is not among the parameters .*fc/kernel"):
        enforce(optax.sgd(0.1), mask | alien).init(params)
    wrong = {"fc/kernel": np.ones((5, 3), bool)}
    with pytest.raises(ValueError, match=r"'fc/kernel' has shape \(5, 3\), the parameter \(3, 5\)"):
        enforce(optax.sgd(0.1), wrong).init(params)
    optimizer = enforce(optax.sgd(0.1), mask)
    state = optimizer.init(params)
    with pytest.raises(ValueError, match="'fc2/kernel' is not among"):
        optimizer.update(params, state._replace(mask=alien), params)


def test_update_without_the_parameters_is_refused():
    params, mask, _ = _problem()
    optimizer = enforce(optax.sgd(0.1), mask)
    with pytest.raises(ValueError, match="needs the parameters"):
        optimizer.update(params, optimizer.init(params))
