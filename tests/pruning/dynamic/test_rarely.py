"""`rarely` is `jnp.where` in value, and one branch in what is compiled, under any `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np

from pruning.dynamic.rarely import rarely


def _doubled(due, value, by):
    return rarely(due, lambda value, by: jnp.sort(value) * by, value, by)


def _primitives(function, *args):
    """The primitives outside of branches."""
    return [e.primitive.name for e in jax.make_jaxpr(function)(*args).eqns]


def test_each_element_gets_what_is_due_to_it():
    values = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    due = np.array([[True, False, True], [False, False, False]])
    by = np.float32(2)
    want = np.where(due[..., None], np.sort(values) * by, values)
    nested = jax.vmap(jax.vmap(_doubled, in_axes=(0, 0, None)), in_axes=(0, 0, None))
    np.testing.assert_array_equal(jax.jit(nested)(due, values, by), want)
    np.testing.assert_array_equal(
        jax.vmap(_doubled, (None, 0, None))(True, want[1], by)[2], 2 * np.sort(want[1, 2])
    )


def test_it_stays_a_branch_under_vmap():
    values = jnp.ones((2, 3, 4))
    nested = jax.vmap(jax.vmap(_doubled, in_axes=(0, 0, None)), in_axes=(0, 0, None))
    text = jax.jit(nested).lower(jnp.ones((2, 3), bool), values, 2.0).as_text()
    main = text[: text.index("stablehlo.case")]
    assert text.count("stablehlo.case") == 1
    assert "sort" not in main.split("func.func public")[1]
    plain = jax.vmap(lambda due, v: jax.lax.cond(due, jnp.sort, lambda v: v, v))
    assert "stablehlo.case" not in jax.jit(plain).lower(jnp.ones(2, bool), values[0, :2]).as_text()
