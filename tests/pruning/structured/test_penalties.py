"""Penalties against numpy's sums and against finite differences; growing λ by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pruning import structured
from pruning.structured import penalties
from tests.pruning.structured.zoo import drawn, quickly


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), name="one")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, axis_name=None, name="norm")(x))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


@pytest.fixture(scope="module")
def made():
    x = jnp.ones((2, 6, 6, 2))
    variables = drawn(jax.eval_shape(Net().init, jax.random.key(0), x))
    return structured.groups(Net(), variables, x), variables


def test_slimming_is_the_sum_of_the_scales(made):
    graph, variables = made
    scale = np.array(variables["params"]["norm"]["scale"])
    assert penalties.slimming(graph, variables) == pytest.approx(np.abs(scale).sum(), rel=1e-6)
    gradient = jax.grad(penalties.slimming, 1, allow_int=True)(graph, variables)["params"]
    np.testing.assert_array_equal(gradient["norm"]["scale"], np.sign(scale))
    assert not np.any(gradient["one"]["kernel"])


def test_group_lasso_is_the_sum_of_the_norms_of_its_parts(made):
    graph, variables = made
    one, head = (np.array(variables["params"][name]["kernel"], float) for name in ("one", "head"))
    expected = {
        "filters": [one.reshape(-1, 4), head],
        "channels": [one.transpose(0, 1, 3, 2).reshape(-1, 2), head.T],
        "shapes": [one.reshape(-1, 4).T, head.T],
        "depth": [one.reshape(-1, 1), head.reshape(-1, 1)],
    }
    found = quickly(lambda v: {k: penalties.group_lasso(graph, v, k) for k in penalties.OVER})(
        variables
    )
    for over, parts in expected.items():
        norms = sum(np.linalg.norm(part, axis=0).sum() for part in parts)
        assert found[over] == pytest.approx(norms, rel=1e-6)
    norm = variables["params"]["norm"]
    units = [
        np.concatenate([one[..., n].ravel(), head[n], [variables["params"]["one"]["bias"][n]]])
        for n in range(4)
    ]
    norms = sum(
        np.sqrt(np.square(unit).sum() + norm["scale"][n] ** 2 + norm["bias"][n] ** 2)
        for n, unit in enumerate(units)
    )
    assert found["units"] == pytest.approx(float(norms), rel=1e-6)


@pytest.mark.parametrize("kind", structured.PENALTIES)
def test_gradients_are_finite_differences_and_finite_at_zero(made, kind):
    graph, variables = made
    params = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    term = quickly(jax.value_and_grad(lambda v: structured.penalty(graph, v, kind)))
    direction = drawn(jax.eval_shape(lambda: params), seed=5)
    flat = [jax.tree.leaves(tree) for tree in (term(params)[1], direction)]
    slope = sum(np.vdot(*pair) for pair in zip(*flat, strict=True))
    ahead, behind = (
        term(jax.tree.map(lambda p, d, s=sign: p + s * 1e-2 * d, params, direction))[0]
        for sign in (1, -1)
    )
    assert slope == pytest.approx(float(ahead - behind) / 2e-2, rel=1e-2)
    zero = term(jax.tree.map(jnp.zeros_like, params))[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(zero))


def test_growing_adds_more_and_more_to_what_shall_vanish():
    params = {"w": jnp.array([2.0, 3.0])}
    fading = {"w": jnp.array([True, False])}
    grow = structured.growing(fading, step=0.1, every=2, ceiling=0.25)
    state, added = grow.init(params), []
    for _ in range(6):
        updates, state = grow.update({"w": jnp.ones(2)}, state, params)
        added.append(updates["w"].tolist())
    expected = [0.1, 0.1, 0.2, 0.2, 0.25, 0.25]
    np.testing.assert_allclose(added, [[1 + 2 * weight, 1.0] for weight in expected], rtol=1e-6)
    trained = optax.chain(grow, optax.sgd(0.5))
    updates, _ = trained.update({"w": jnp.zeros(2)}, trained.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.1, 0.0], rtol=1e-6)


def test_what_cannot_be_is_refused(made):
    graph, variables = made
    with pytest.raises(ValueError, match="unknown penalty 'slim'"):
        structured.penalty(graph, variables, "slim")
    with pytest.raises(ValueError, match="unknown over 'rows'"):
        penalties.group_lasso(graph, variables, "rows")
    with pytest.raises(ValueError, match="must be above 0"):
        structured.growing({}, step=0.1, every=0, ceiling=1.0)
