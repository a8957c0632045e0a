"""Functions that have derivatives of their own, which hold on what is left of their operands."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.traced import network
from groundwork.traced import walk as traced
from pruning.structured.axes import Axes
from pruning.structured.rules.control import call, called
from pruning.structured.walk import Rule, Step, Walk


def _own_jvp(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    """Builds the function anew, with its own derivative on what is left of its operands."""
    floats = [n for n, v in enumerate(step.equation.invars) if _is_float(v.aval)]
    results = [n for n, v in enumerate(step.equation.outvars) if _is_float(v.aval)]

    def pushed(given: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        function, some = _of_floats(step.equation, given, floats)
        along = jax.jvp(function, some, tangents)[1]
        return [along[n] for n in results]

    known = _shapes(step.equation.invars)
    closed = jax.make_jaxpr(pushed)(known, [known[n] for n in floats])
    axes = [*step.axes, *(step.axes[n] for n in floats)]

    @jax.custom_jvp
    def function(*given: Any) -> list[Any]:
        return called(walk, step, outputs, given)

    @function.defjvp
    def _(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        out = called(walk, step, outputs, primals)
        some = [tangents[n] for n in floats]
        along = dict(
            zip(results, _settled(walk, step, closed, axes, [*primals, *some]), strict=True)
        )
        none = [np.zeros(np.shape(value), jax.dtypes.float0) for value in out]
        return out, [along.get(n, zero) for n, zero in enumerate(none)]

    return list(function(*operands))


def _own_vjp(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    """Builds the function anew; its gradient computes it again, and keeps its operands alone."""
    floats = [n for n, v in enumerate(step.equation.invars) if _is_float(v.aval)]

    def pulled(given: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        function, some = _of_floats(step.equation, given, floats)
        return list(jax.vjp(function, *some)[1](list(cotangents)))

    shapes = _shapes(step.equation.invars), _shapes(step.equation.outvars)
    closed = jax.make_jaxpr(pulled)(*shapes)

    @jax.custom_vjp
    def function(*given: Any) -> list[Any]:
        return called(walk, step, outputs, given)

    def forward(*given: Any) -> tuple[list[Any], Any]:
        return function(*given), given

    def backward(given: Sequence[Any], cotangents: Sequence[Any]) -> tuple[Any, ...]:
        axes = [*step.axes, *outputs]
        some = _settled(walk, step, closed, axes, [*given, *cotangents])
        gradients = dict(zip(floats, some, strict=True))
        return tuple(gradients.get(n) for n in range(len(given)))

    function.defvjp(forward, backward)
    return list(function(*operands))


def _is_float(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _shapes(variables: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    return [network.shape_of(v.aval) for v in variables]


def _of_floats(
    equation: Any, given: Sequence[Any], floats: Sequence[int]
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """Returns an equation as a function of those operands that it can be differentiated by."""

    def function(*some: Any) -> list[Any]:
        whole = list(given)
        for n, value in zip(floats, some, strict=True):
            whole[n] = value
        return traced.bind(equation, whole)

    return function, [given[n] for n in floats]


def _settled(
    walk: Walk, step: Step, closed: Any, axes: Sequence[Axes], values: Sequence[Any]
) -> list[Any]:
    """Returns what a derivative computes; its own entries are joined first."""
    place = (*step.place, "derivative")
    before = -1
    while walk.forest.changes != before:
        before = walk.forest.changes
        walk.run(closed, axes, place=place)
    walk.check()
    return walk.run(closed, axes, values, place)[1]


RULES = {
    "custom_jvp_call": Rule(call, _own_jvp),
    "custom_vjp_call": Rule(call, _own_vjp),
    "custom_vjp_call_jaxpr": Rule(call, _own_vjp),
}
