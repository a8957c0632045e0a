"""Calls, loops, branches, and functions that have derivatives of their own."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork.traced import network
from groundwork.traced import walk as traced
from pruning.structured.walk import Axes, Rule, Step, Walk, zeros

JAXPRS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def _inner(step: Step) -> Any:
    return next(step.equation.params[name] for name in JAXPRS if name in step.equation.params)


def _call(walk: Walk, step: Step) -> list[Axes]:
    return walk.run(_inner(step), step.axes, place=step.place)[0]


def _called(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    return walk.run(_inner(step), step.axes, operands, step.place)[1]


def _rematerialised(
    walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]
) -> list[Any]:
    options = {key: step.equation.params[key] for key in ("policy", "prevent_cse")}
    part = jax.checkpoint(lambda *given: _called(walk, step, outputs, given), **options)
    return part(*operands)


def _scan(walk: Walk, step: Step) -> list[Axes]:
    """What is carried has the same units before and after each turn."""
    options = step.equation.params
    first, carried = traced.parts(options)
    last = first + carried
    for axes in step.axes[last:]:
        walk.fix(axes[0], "a scan runs over it")
    inner = [*step.axes[:last], *(axes[1:] for axes in step.axes[last:])]
    before = [[zeros(axis, False) for axis in axes] for axes in inner[first:last]]
    out = walk.run(options["jaxpr"], [*inner[:first], *before, *inner[last:]], place=step.place)[0]
    ends = _around(walk, before, out[:carried])
    stacked = [[walk.fixed(options["length"], "a scan runs over it"), *a] for a in out[carried:]]
    return [*ends, *stacked]


def _around(walk: Walk, before: Sequence[Axes], after: Sequence[Axes]) -> list[Axes]:
    """Returns the axes of what a loop carries."""
    return [
        [zeros(walk.join(a, b), False) for a, b in zip(one, other, strict=True)]
        for one, other in zip(before, after, strict=True)
    ]


def _scanned(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    options = step.equation.params
    first, carried = traced.parts(options)
    last = first + carried
    inner = [*step.axes[:last], *(axes[1:] for axes in step.axes[last:])]

    def body(carry: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
        given = [*operands[:first], *carry, *slices]
        out = walk.run(options["jaxpr"], inner, given, step.place)[1]
        return out[:carried], out[carried:]

    how = {key: options[key] for key in ("length", "reverse", "unroll")}
    carry, stacked = lax.scan(body, list(operands[first:last]), list(operands[last:]), **how)
    return [*carry, *stacked]


def _while_loop(walk: Walk, step: Step) -> list[Axes]:
    options = step.equation.params
    tests, bodies = options["cond_nconsts"], options["body_nconsts"]
    carried = [[zeros(a, False) for a in axes] for axes in step.axes[tests + bodies :]]
    given = step.axes[tests : tests + bodies]
    walk.run(options["cond_jaxpr"], [*step.axes[:tests], *carried], place=(*step.place, "test"))
    out = walk.run(options["body_jaxpr"], [*given, *carried], place=(*step.place, "body"))[0]
    return _around(walk, carried, out)


def _looped(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    options = step.equation.params
    tests, bodies = options["cond_nconsts"], options["body_nconsts"]
    axes, last = step.axes, tests + bodies

    def test(carry: Any) -> Any:
        given, known = [*operands[:tests], *carry], [*axes[:tests], *axes[last:]]
        return walk.run(options["cond_jaxpr"], known, given, (*step.place, "test"))[1][0]

    def body(carry: Any) -> Any:
        given = [*operands[tests:last], *carry]
        return walk.run(options["body_jaxpr"], axes[tests:], given, (*step.place, "body"))[1]

    return list(lax.while_loop(test, body, list(operands[last:])))


def _cond(walk: Walk, step: Step) -> list[Axes]:
    outs = [
        walk.run(branch, step.axes[1:], place=(*step.place, n))[0]
        for n, branch in enumerate(step.equation.params["branches"])
    ]
    return [
        [walk.join(*column) for column in zip(*axes, strict=True)]
        for axes in zip(*outs, strict=True)
    ]


def _branched(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    def branch(n: int, jaxpr: Any) -> Any:
        return lambda *given: walk.run(jaxpr, step.axes[1:], given, (*step.place, n))[1]

    made = [branch(n, jaxpr) for n, jaxpr in enumerate(step.equation.params["branches"])]
    return list(lax.switch(operands[0], made, *operands[1:]))


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
        return _called(walk, step, outputs, given)

    @function.defjvp
    def _(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        out = _called(walk, step, outputs, primals)
        some = [tangents[n] for n in floats]
        along = dict(
            zip(results, _settled(walk, step, closed, axes, [*primals, *some]), strict=True)
        )
        none = [np.zeros(np.shape(value), jax.dtypes.float0) for value in out]
        return out, [along.get(n, zero) for n, zero in enumerate(none)]

    return list(function(*operands))


def _own_vjp(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    """Likewise; the gradient computes the function again, and keeps its operands alone."""
    floats = [n for n, v in enumerate(step.equation.invars) if _is_float(v.aval)]

    def pulled(given: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        function, some = _of_floats(step.equation, given, floats)
        return list(jax.vjp(function, *some)[1](list(cotangents)))

    shapes = _shapes(step.equation.invars), _shapes(step.equation.outvars)
    closed = jax.make_jaxpr(pulled)(*shapes)

    @jax.custom_vjp
    def function(*given: Any) -> list[Any]:
        return _called(walk, step, outputs, given)

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


CALLS = ["jit", "pjit", "closed_call", "core_call", "custom_lin", "xla_call", "core_closed_call"]
RULES = {
    **dict.fromkeys(CALLS, Rule(_call, _called)),
    **dict.fromkeys(("remat", "remat2", "checkpoint"), Rule(_call, _rematerialised)),
    "scan": Rule(_scan, _scanned),
    "while": Rule(_while_loop, _looped),
    "cond": Rule(_cond, _branched),
    "custom_jvp_call": Rule(_call, _own_jvp),
    "custom_vjp_call": Rule(_call, _own_vjp),
    "custom_vjp_call_jaxpr": Rule(_call, _own_vjp),
}
