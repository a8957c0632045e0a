"""A walk over a network's jaxpr that writes a draft. Read `walked`."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import DropVar, Literal

from deploy.graphs.constants import folded
from deploy.graphs.draft import Draft
from deploy.graphs.rules import RULES
from deploy.graphs.rules.moves import joined, reshaped, sliced
from deploy.graphs.step import Step, refused
from groundwork.traced.walk import CALLS, OWN_DERIVATIVES, REMATS, parts

SAME = ["copy", "copy_p", "stop_gradient", "pvary", "pcast", "sharding_constraint", "name"]
SAME += ["optimization_barrier", "reduce_precision"]
INSIDE = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where calls have what they compute
MOST_TURNS = 1000
ROUNDING = "export without activation bits and give int8= instead"


def walked(draft: Draft, jaxpr: Any, consts: Sequence[Any], given: Sequence[str]) -> list[str]:
    """Adds what a jaxpr computes to a draft; returns the names of its outputs.

    Args:
      draft: is changed.
      jaxpr: an open one.
      consts: of the jaxpr.
      given: names of its inputs.
    """
    known: dict[Any, str] = dict(zip(jaxpr.invars, given, strict=True))
    for variable, value in zip(jaxpr.constvars, consts, strict=True):
        known[variable] = draft.constant(value)

    def read(variable: Any) -> str:
        return draft.constant(variable.val) if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        outputs = _equation(draft, Step(equation, list(map(read, equation.invars))))
        known.update(zip(equation.outvars, outputs, strict=True))
    return list(map(read, jaxpr.outvars))


def _equation(draft: Draft, step: Step) -> list[str]:
    if step.name in SAME:
        return list(step.inputs)
    if step.name in (*CALLS, *REMATS, *OWN_DERIVATIVES, "composite"):
        inner = next(step.params[key] for key in INSIDE if key in step.params)
        consts = getattr(inner, "consts", ())
        return walked(draft, getattr(inner, "jaxpr", inner), consts, step.inputs)
    if step.name == "scan":
        return _scan(draft, step)
    if step.inputs and not all(name in draft.constants for name in step.inputs):
        if step.name not in RULES:
            return refused(draft, step, ROUNDING if step.name == "round" else "")
        outputs = RULES[step.name](draft, step)
        return [outputs] if isinstance(outputs, str) else outputs
    if any(map(_is_opaque, (*step.equation.invars, *step.equation.outvars))):
        return refused(draft, step)
    made = folded(step.equation, [draft.constants[name] for name in step.inputs])
    return [draft.constant(one) for one in made]


def _is_opaque(variable: Any) -> bool:
    """Returns whether a value is keys of random numbers or the like, which numpy has not."""
    dtype = getattr(variable.aval, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.extended)


def _scan(draft: Draft, step: Step) -> list[str]:
    """Adds each turn of a scan after the other."""
    options, inner = step.params, step.params["jaxpr"]
    length = options["length"]
    if length > MOST_TURNS:
        return refused(draft, step, f"it has {length} turns, more than {MOST_TURNS}")
    first, carried = parts(options)
    fixed, carry = step.inputs[:first], list(step.inputs[first : first + carried])
    stacked = step.inputs[first + carried :]
    rows: list[list[str]] = [[] for _ in step.equation.outvars[carried:]]
    turns = range(length - 1, -1, -1) if options["reverse"] else range(length)
    for turn in turns:
        slices = [_row(draft, name, turn) for name in stacked]
        outputs = walked(draft, inner.jaxpr, inner.consts, [*fixed, *carry, *slices])
        carry = outputs[:carried]
        for row, name in zip(rows, outputs[carried:], strict=True):
            row.append(name)
    stacks = zip(rows, step.equation.outvars[carried:], strict=True)
    return [*carry, *(_stacked(draft, row, v, options["reverse"]) for row, v in stacks)]


def _row(draft: Draft, name: str, turn: int) -> str:
    shape = draft.shape(name)
    begin, end = [turn, *(0,) * (len(shape) - 1)], [turn + 1, *shape[1:]]
    return reshaped(draft, sliced(draft, name, begin, end), shape[1:])


def _stacked(draft: Draft, rows: list[str], variable: Any, is_reversed: bool) -> str:
    if isinstance(variable, DropVar):
        return rows[0] if rows else ""
    ordered = rows[::-1] if is_reversed else rows
    return joined(draft, [reshaped(draft, row, (1, *draft.shape(row))) for row in ordered], 0)
