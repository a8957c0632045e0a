"""`groundwork.train.optim`: optimisers against numpy in float64, schedules against closed forms."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from groundwork.errors import UserError
from groundwork.train import optim

SPEC = optim.OptimizerSpec(
    name="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=0.0,
    schedule="constant",
    drop_steps=(),
    drop_factor=0.1,
    warmup_steps=0,
)
STEPS = 10


def _spec(**changes):
    return dataclasses.replace(SPEC, **changes)


# --- the optimisers, from their papers: gradient(p, t), rate(t) -> p after each step


def sgd(p, gradient, rate, mu, decay):
    for t in range(STEPS):
        p = p - rate(t) * (gradient(p, t) + decay * p)
        yield p


def momentum(p, gradient, rate, mu, decay):
    """Polyak's heavy ball, as Sutskever et al. 2013 and PyTorch write it."""
    v = 0
    for t in range(STEPS):
        v = mu * v + gradient(p, t) + decay * p
        p = p - rate(t) * v
        yield p


def nesterov(p, gradient, rate, mu, decay):
    v = 0
    for t in range(STEPS):
        g = gradient(p, t) + decay * p
        v = mu * v + g
        p = p - rate(t) * (g + mu * v)
        yield p


def adam(p, gradient, rate, mu, decay, decoupled=0.0, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma & Ba, arXiv:1412.6980, Algorithm 1; decoupled: Loshchilov & Hutter, 1711.05101."""
    m = v = 0
    for t in range(STEPS):
        g = gradient(p, t) + decay * p
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1 ** (t + 1)), v / (1 - b2 ** (t + 1))
        p = p - rate(t) * (m_hat / (np.sqrt(v_hat) + eps) + decoupled * p)
        yield p


def adamw(p, gradient, rate, mu, decay):
    return adam(p, gradient, rate, mu, 0.0, decoupled=decay)


REFERENCES = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adam": adam,
    "adamw": adamw,
}


def test_the_references_are_the_dispatch_literal():
    assert set(REFERENCES) == set(optim.OPTIMIZERS)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", REFERENCES)
def test_each_optimiser_equals_numpy(name, decay):
    curve, noise = np.array([3.0, 0.5, 0.01]), np.random.default_rng(0).normal(size=(STEPS, 3))

    def gradient(p, t):  # of a noisy quadratic
        return curve * p + noise[t]

    spec = _spec(name=name, weight_decay=decay, momentum=0.8, schedule="cosine", warmup_steps=3)

    def rate(t):
        return 0.1 * min(1, (t + 1) / 3) * (1 + math.cos(math.pi * t / STEPS)) / 2

    optimizer, start = optim.make(spec, STEPS), np.array([1.0, -2.0, 30.0])
    params = jnp.asarray(start, jnp.float32)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for t, want in enumerate(REFERENCES[name](start, gradient, rate, 0.8, decay)):
        now = jnp.asarray(gradient(np.asarray(params, np.float64), t), jnp.float32)
        updates, state = update(now, state, params, step=jnp.int32(t))
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, want, rtol=2e-5, atol=1e-6, err_msg=f"step {t}")


@pytest.mark.parametrize(
    ("name", "gradient", "want"),
    [
        ("sgd", 0.0, -0.25),  # 0.25 · 0.5 · 2
        ("sgd", 1.0, -0.5),
        ("adam", 0.0, -0.25),  # the sign of the decay alone, times the rate
        ("adam", 1.0, -0.25),
        ("adamw", 0.0, -0.25),
        ("adamw", 1.0, -0.5),
    ],
)
def test_l2_goes_through_the_moments_and_decoupled_decay_past_them(name, gradient, want):
    optimizer = optim.make(_spec(name=name, weight_decay=0.5, learning_rate=0.25), STEPS)
    p = jnp.array([2.0])
    updates, _ = optimizer.update(jnp.array([gradient]), optimizer.init(p), p, step=0)
    np.testing.assert_allclose(updates, [want], rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("name", REFERENCES)
def test_updates_keep_dtype_and_structure(name, dtype):
    params = {"a": [jnp.ones((2, 3), dtype)], "b": jnp.ones((), dtype)}
    optimizer = optim.make(_spec(name=name, weight_decay=0.1, schedule="cosine"), STEPS)
    updates, _ = jax.eval_shape(
        lambda p: optimizer.update(p, optimizer.init(p), p, step=jnp.int32(1)), params
    )
    assert jax.tree.map(lambda u: (u.shape, u.dtype), updates) == jax.tree.map(
        lambda p: (p.shape, p.dtype), params
    )


# --- schedules


CLOSED_FORMS = {
    "constant": lambda s, total: 1.0,
    "step": lambda s, total: 0.5 ** sum(s >= drop for drop in (4, 9, 15)),
    "cosine": lambda s, total: (1 + math.cos(math.pi * s / total)) / 2,
}


def test_the_closed_forms_are_the_dispatch_literal():
    assert set(CLOSED_FORMS) == set(optim.SCHEDULES)


@pytest.mark.parametrize("warmup", [0, 1, 6])
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_each_schedule_equals_its_closed_form(name, warmup):
    spec = _spec(schedule=name, drop_steps=(9, 4, 15), drop_factor=0.5, warmup_steps=warmup)
    rate = jax.jit(optim.schedule(spec, 20))
    for s in range(21):
        got, warm = rate(jnp.int32(s)), min(1, (s + 1) / warmup) if warmup else 1
        assert got.shape == ()
        assert got.dtype == jnp.float32
        want = 0.1 * warm * CLOSED_FORMS[name](s, 20)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8, err_msg=f"step {s}")


def test_by_hand_rates_of_a_warmed_up_step_schedule():
    spec = _spec(
        schedule="step", learning_rate=1.0, drop_steps=(3, 5), drop_factor=0.1, warmup_steps=2
    )
    rate = optim.schedule(spec, 7)
    rates = [float(rate(s)) for s in range(7)]
    np.testing.assert_allclose(rates, [0.5, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


def test_cosine_is_zero_at_the_end_and_stays_there():
    rate = optim.schedule(_spec(schedule="cosine"), 20)
    assert float(rate(20)) == float(rate(25)) == 0


# --- one clock


@pytest.mark.parametrize("name", REFERENCES)
def test_fresh_moments_at_step_k_take_the_rate_of_step_k(name):
    """A rewind: the first update from a fresh state is the rate times what it is at rate 1."""
    spec = _spec(name=name, schedule="cosine", warmup_steps=4)
    optimizer = optim.make(spec, 20)
    p, g = jnp.array([1.0, -2.0]), jnp.array([0.5, -4.0])
    direction = {"sgd": g, "momentum": g, "nesterov": 1.9 * g}.get(name, jnp.sign(g))
    first = jax.jit(lambda step: optimizer.update(g, optimizer.init(p), p, step=step)[0])
    for k in (0, 2, 13, 20):
        rate = 0.1 * min(1, (k + 1) / 4) * (1 + math.cos(math.pi * k / 20)) / 2
        np.testing.assert_allclose(first(jnp.int32(k)), -rate * direction, rtol=1e-4, atol=1e-8)


def test_the_rate_does_not_count_updates():
    optimizer = optim.make(_spec(schedule="cosine"), 20)
    g = jnp.ones(1)
    state = optimizer.init(g)
    rates = []
    for k in (7, 7, 3, 7):
        updates, state = optimizer.update(g, state, g, step=k)
        rates.append(float(updates[0]))
    assert rates[0] == rates[1] == rates[3] != rates[2]


def test_all_steps_share_one_trace():
    optimizer, traces = optim.make(_spec(name="adam", schedule="step", drop_steps=(2,)), 20), []
    g = jnp.ones(1)
    state = optimizer.init(g)

    @jax.jit
    def update(g, state, step):
        traces.append(1)
        return optimizer.update(g, state, g, step=step)

    for k in range(4):
        _, state = update(g, state, jnp.int32(k))
    assert len(traces) == 1


def test_update_without_the_step_is_refused():
    optimizer = optim.make(SPEC, 20)
    with pytest.raises(TypeError, match="step"):
        optimizer.update(jnp.ones(1), optimizer.init(jnp.ones(1)), jnp.ones(1))


# --- the config's section


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "adm"}, r"unknown optimizer.name 'adm'; did you mean 'adam'\? \(known: adam, "),
        ({"name": ""}, "unknown optimizer.name ''"),
        ({"schedule": "cosin"}, "unknown optimizer.schedule 'cosin'; did you mean 'cosine'"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate=0.0 must be positive"),
        ({"learning_rate": -1.0}, "optimizer.learning_rate=-1.0"),
        ({"learning_rate": math.nan}, "optimizer.learning_rate=nan"),
        ({"momentum": 1.0}, r"optimizer.momentum=1.0 must be in \[0, 1\)"),
        ({"momentum": -0.1}, "optimizer.momentum=-0.1"),
        ({"weight_decay": -1e-4}, "optimizer.weight_decay=-0.0001"),
        ({"weight_decay": math.inf}, "optimizer.weight_decay=inf"),
        ({"learning_rate": math.inf}, "optimizer.learning_rate=inf"),
        ({"schedule": "step", "drop_factor": -0.1}, "optimizer.drop_factor=-0.1"),
        ({"schedule": "step", "drop_factor": math.nan}, "optimizer.drop_factor=nan"),
        ({"warmup_steps": -1}, "optimizer.warmup_steps=-1 must be at least 0"),
    ],
)
def test_bad_values_are_refused_by_key(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        _spec(**changes)
    assert "\n" not in str(caught.value)


def test_the_edges_of_the_ranges_are_allowed():
    spec = _spec(momentum=0.0, weight_decay=0.0, warmup_steps=0, learning_rate=1e-9)
    assert dataclasses.replace(spec, momentum=0.999, weight_decay=10.0).weight_decay == 10


def test_adams_correction_is_that_of_float32_where_pytorchs_is_that_of_float64():
    """The updates of one gradient, as if it were the t-th: the moments are the same for all t."""
    t, optimizer = np.arange(1, 10_001), optax.scale_by_adam()

    def update(count):
        state = optimizer.init(jnp.zeros(()))._replace(count=count)
        return optimizer.update(jnp.ones(()), state)[0]

    updates = np.asarray(jax.vmap(update)(jnp.asarray(t - 1, jnp.int32)), np.float64)
    pytorchs = (0.1 / (1 - 0.9**t)) / (np.sqrt(0.001 / (1 - 0.999**t)) + 1e-8)
    difference = np.abs(updates / pytorchs - 1)
    beta = np.float32(0.999)  # 1.3e-8 above 0.999
    rounded = np.abs(np.sqrt((1 - beta ** t.astype(np.float32)) / (1 - 0.999**t)) - 1)
    assert np.median(np.abs(difference - rounded)) < 3e-7  # powers may differ in their last bit
    assert 3e-6 < np.median(difference[:1000]) < difference.max() < 2e-5
    assert difference[5000:].max() < 1e-6
