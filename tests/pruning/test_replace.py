"""`masks.replace`: another mask in the state of an optimiser, whatever the state copies."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from groundwork import trees
from pruning import masks
from pruning.enforce import enforce

PARAMS = {
    "fc": {"kernel": jnp.full((4, 3), 2.0), "bias": jnp.ones(3)},
    "out": {"kernel": jnp.ones((3, 2))},
}
LABELS = {"fc": "a", "out": "b"}


def _mask(seed):
    rng = np.random.default_rng(seed)
    return {p: jnp.asarray(rng.random(k.shape) < 0.5) for p, k in masks.ones(PARAMS).items()}


def _part(mask, layer):
    return {path: keep for path, keep in mask.items() if path.startswith(layer)}


OPTIMIZERS = {
    "alone": lambda mask: enforce(optax.adamw(0.1), mask),
    "clipping in a chain": lambda mask: optax.chain(
        optax.clip_by_global_norm(1.0), enforce(optax.sgd(0.1, momentum=0.9), mask)
    ),
    "averages in a chain": lambda mask: enforce(optax.chain(optax.adam(0.1), optax.ema(0.9)), mask),
    "MultiSteps": lambda mask: optax.MultiSteps(
        enforce(optax.adam(0.1), mask), 2
    ).gradient_transformation(),
    "MultiSteps within": lambda mask: enforce(
        optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(), mask
    ),
    "multi_transform": lambda mask: optax.multi_transform(
        {
            "a": enforce(optax.adam(0.1), _part(mask, "fc")),
            "b": enforce(optax.sgd(0.1, momentum=0.9), _part(mask, "out")),
        },
        LABELS,
    ),
    "multi_transform within": lambda mask: enforce(
        optax.multi_transform({"a": optax.adam(0.1), "b": optax.sgd(0.1)}, LABELS), mask
    ),
    "apply_if_finite": lambda mask: optax.apply_if_finite(enforce(optax.adam(0.1), mask), 3),
    "schedule_free": lambda mask: enforce(contrib.schedule_free_sgd(0.1), mask),
    "schedule_free_adamw": lambda mask: enforce(contrib.schedule_free_adamw(0.1), mask),
}
every = pytest.mark.parametrize("name", OPTIMIZERS)


def _pruned(params, mask):
    leaves = trees.flatten(params)
    return np.concatenate(
        [np.asarray(leaves[path])[~np.asarray(keep)] for path, keep in mask.items()]
    )


def _steps(optimizer, params, state, mask):
    @jax.jit
    def step(params, state):
        gradients = jax.tree.map(lambda leaf: jnp.sin(7 * leaf) + 0.1, params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(5):
        params, state = step(params, state)
        assert not _pruned(params, mask).any()
    return params, state


@every
def test_pruned_weights_are_zero_after_every_step(name):
    mask = _mask(0)
    optimizer, params = OPTIMIZERS[name](mask), masks.apply(mask, PARAMS)
    params, _ = _steps(optimizer, params, optimizer.init(params), mask)
    assert (params["fc"]["bias"] != 1).all()


@every
def test_another_mask_holds_from_then_on_in_all_copies(name):
    optimizer, params = OPTIMIZERS[name](_mask(0)), masks.apply(_mask(0), PARAMS)
    params, state = _steps(optimizer, params, optimizer.init(params), _mask(0))
    state = jax.jit(masks.replace)(state, _mask(1))
    params = masks.apply(_mask(1), params)
    copies = 0
    for path, leaf in trees.flatten(state).items():
        for of, keep in _mask(1).items():
            if path.endswith(of) and "/mask/" not in f"/{path}":
                copies += 1
                assert not np.asarray(leaf)[~np.asarray(keep)].any(), path
    assert copies >= 2
    _steps(optimizer, params, state, _mask(1))


@pytest.mark.parametrize("name", ["schedule_free", "schedule_free_adamw"])
def test_parameters_of_evaluation_are_zero_too(name):
    optimizer, params = OPTIMIZERS[name](_mask(0)), masks.apply(_mask(0), PARAMS)
    params, state = _steps(optimizer, params, optimizer.init(params), _mask(0))
    state, params = masks.replace(state, _mask(1)), masks.apply(_mask(1), params)
    assert not _pruned(contrib.schedule_free_eval_params(state.inner, params), _mask(1)).any()
    params, state = _steps(optimizer, params, state, _mask(1))
    assert not _pruned(contrib.schedule_free_eval_params(state.inner, params), _mask(1)).any()


def test_lookahead_goes_outside_and_both_sequences_stay_zero():
    mask = _mask(0)
    optimizer = optax.lookahead(enforce(optax.adam(0.1), mask), 2, 0.5)
    params = optax.LookaheadParams.init_synced(masks.apply(mask, PARAMS))
    state = optimizer.init(params)
    for new in (mask, _mask(1)):
        state = masks.replace(state, new)
        params = optax.LookaheadParams(*(masks.apply(new, each) for each in params))
        for _ in range(5):
            gradients = jax.tree.map(jnp.ones_like, params.fast)
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            assert not _pruned(params.fast, new).any()
            assert not _pruned(params.slow, new).any()


def test_a_parameter_of_the_root_is_not_taken_for_one_of_a_layer():
    params = {"kernel": jnp.ones(3), "fc": {"kernel": jnp.ones(3)}}
    mask = {"kernel": jnp.array([True, False, True])}
    optimizer = enforce(optax.sgd(0.1, momentum=0.9), mask)
    _, state = optimizer.update(params, optimizer.init(params), params)
    trace = masks.replace(state, {"kernel": jnp.array([False, True, True])}).inner[0].trace
    assert trace["kernel"].tolist() == [0, 0, 1]
    assert trace["fc"]["kernel"].tolist() == [1, 1, 1]


def test_a_state_without_a_mask_or_with_another_one_is_refused():
    mask = _mask(0)
    with pytest.raises(ValueError, match="has no mask: wrap the optimiser by enforce"):
        masks.replace(optax.adam(0.1).init(PARAMS), mask)
    state = enforce(optax.adam(0.1), mask).init(PARAMS)
    for wrong in (_part(mask, "fc"), {**mask, "fc/kernel": jnp.ones((2, 2), bool)}):
        with pytest.raises(ValueError, match="mask's"):
            masks.replace(state, wrong)
    with pytest.raises(ValueError, match="must be bool, not float32"):
        masks.replace(state, {path: keep.astype(jnp.float32) for path, keep in mask.items()})
