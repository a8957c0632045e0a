"""Calls, loops and branches."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from groundwork.traced import walk as traced
from pruning.structured.axes import Axes, zeros
from pruning.structured.walk import Rule, Step, Walk

JAXPRS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def _inner(step: Step) -> Any:
    return next(step.equation.params[name] for name in JAXPRS if name in step.equation.params)


def call(walk: Walk, step: Step) -> list[Axes]:
    """Labels a function that is called by walking over its jaxpr."""
    return walk.run(_inner(step), step.axes, place=step.place)[0]


def called(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    """Computes a function that is called on what is left of its operands."""
    return walk.run(_inner(step), step.axes, operands, step.place)[1]


def _rematerialised(
    walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]
) -> list[Any]:
    options = {key: step.equation.params[key] for key in ("policy", "prevent_cse")}
    part = jax.checkpoint(lambda *given: called(walk, step, outputs, given), **options)
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


CALLS = ["jit", "pjit", "closed_call", "core_call", "custom_lin", "xla_call", "core_closed_call"]
RULES = {
    **dict.fromkeys(CALLS, Rule(call, called)),
    **dict.fromkeys(("remat", "remat2", "checkpoint"), Rule(call, _rematerialised)),
    "scan": Rule(_scan, _scanned),
    "while": Rule(_while_loop, _looped),
    "cond": Rule(_cond, _branched),
}
