"""A jaxpr without calls: the equations that are computed, in order, each value with one name."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Literal

from groundwork.traced.walk import CALLS, OWN_DERIVATIVES, REMATS

Name = int


class Flat(NamedTuple):
    """What a network computes.

    Attributes:
      equations: each with names, or literal values, of its inputs, and names of its outputs.
      inputs: names of the arguments.
      outputs: names, or literal values, of the results.
      constants: name → array.
    """

    equations: list[tuple[Any, list[Any], list[Name]]]
    inputs: list[Name]
    outputs: list[Any]
    constants: dict[Name, Any]


class Constant(NamedTuple):
    """A literal value."""

    value: Any


def flat(closed: Any) -> Flat:
    """Returns a closed jaxpr without its calls; derivatives of their own are lost."""
    made = Flat([], [], [], {})
    names: dict[Any, Any] = {}
    for variable in closed.jaxpr.invars:
        names[variable] = len(names)
        made.inputs.append(names[variable])
    counter = [len(names)]
    made.outputs.extend(_inlined(made, closed, [Name(n) for n in made.inputs], counter))
    return made


def _inlined(made: Flat, closed: Any, given: Sequence[Any], counter: list[int]) -> list[Any]:
    """Adds the equations of a jaxpr; returns the names of its outputs."""
    jaxpr, environment = closed.jaxpr, dict[Any, Any]()

    def fresh() -> Name:
        counter[0] += 1
        return counter[0]

    for variable, constant in zip(jaxpr.constvars, closed.consts, strict=True):
        environment[variable] = fresh()
        made.constants[environment[variable]] = constant
    environment.update(zip(jaxpr.invars, given, strict=True))
    for equation in jaxpr.eqns:
        inputs = [_read(environment, variable) for variable in equation.invars]
        inner = _called(equation)
        if inner is not None:
            outputs = _inlined(made, inner, inputs, counter)
        else:
            outputs = [fresh() for _ in equation.outvars]
            made.equations.append((equation, inputs, outputs))
        environment.update(zip(equation.outvars, outputs, strict=True))
    return [_read(environment, variable) for variable in jaxpr.outvars]


def _read(environment: Mapping[Any, Any], variable: Any) -> Any:
    return Constant(variable.val) if isinstance(variable, Literal) else environment[variable]


def _called(equation: Any) -> Any:
    """Returns the closed jaxpr that an equation calls, None if it calls none that is plain."""
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        return params["jaxpr"]
    if name in OWN_DERIVATIVES:
        return params.get("call_jaxpr") or params.get("fun_jaxpr")
    if name in REMATS:
        return ClosedJaxpr(params["jaxpr"], ())
    return None
