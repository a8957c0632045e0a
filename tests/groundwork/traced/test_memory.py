"""The most that a function holds at once, counted by hand."""

import jax
import jax.numpy as jnp
from jax import lax

from groundwork.traced.memory import peak_bytes


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_value_is_held_until_the_last_operation_that_takes_it():
    def chain(x):
        first = jnp.sin(x)  # 10
        second = jnp.cos(first)  # 10 beside it
        return jnp.sum(jnp.tan(second))

    def both(x):
        first = jnp.sin(x)
        return jnp.tan(jnp.cos(first)) + first  # first, cos, tan: three at once

    assert peak_bytes(chain, array(10)) == 4 * 20
    assert peak_bytes(both, array(10)) == 4 * 30
    assert peak_bytes(lambda x: x.astype(jnp.int8), array(10)) == 10


def test_arguments_and_views_take_nothing():
    def viewed(x, bias):
        made = jnp.sin(x).reshape(2, 5)
        return (made + bias[None]).reshape(-1)  # the bias is broadcast

    assert peak_bytes(viewed, array(10), array(5)) == 4 * 20
    assert peak_bytes(lambda x: x.reshape(2, 5), array(10)) == 0


def test_programs_inside_hold_what_they_need():
    inner = jax.jit(lambda x: jnp.sum(jnp.sin(x)[:, None] * jnp.ones((1, 7)), 1))
    # the ones are broadcast of a literal, 7; the sines 10, the products 70, the sums 10
    assert peak_bytes(lambda x: inner(jnp.cos(x)), array(10)) == 4 * (10 + 7 + 70 + 10)

    def turns(x):  # what is carried is an argument as it is
        return lax.scan(lambda carry, _: (carry, jnp.sin(carry)), x, length=6)[1]

    assert peak_bytes(turns, array(10)) == 4 * (60 + 10)
