"""Digests of what functions compute: equal for equal programs, whatever their names are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.traced.digest import digest

X = jax.ShapeDtypeStruct((3,), "float32")


def _jitted(name, weights):
    def inner(x):
        return jnp.sum(x * np.asarray(weights, np.float32))

    inner.__name__ = name
    compiled = jax.jit(inner)
    return lambda x: compiled(x)


def _with_rule(factor):
    @jax.custom_vjp
    def same(x):
        return x

    same.defvjp(lambda x: (x, None), lambda _, g: (factor * g,))
    return lambda x: jax.grad(lambda x: jnp.sum(same(x)))(x)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (_jitted("a", [1, 1, 1]), _jitted("a", [1, 1, 1]), True),
        (_jitted("a", [1, 1, 1]), _jitted("b", [1, 1, 1]), True),
        (_jitted("a", [1, 1, 1]), _jitted("a", [1, 1, 9]), False),
        (_with_rule(1.0), _with_rule(1.0), True),
        (_with_rule(1.0), _with_rule(2.0), False),
        (jnp.sin, jnp.cos, False),
    ],
    ids=["same", "renamed", "constant", "rule", "another rule", "another function"],
)
def test_they_are_of_what_is_computed(one, other, equal):
    assert (digest(one, X) == digest(other, X)) == equal
