"""A network's evaluation as one list of equations, without calls inside. Read `flatten` first."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from groundwork.traced import walk
from groundwork.trees import Variables
from pruning.structured import program

CALLS = {**dict.fromkeys((*walk.CALLS, *walk.REMATS), "jaxpr"), "custom_jvp_call": "call_jaxpr"}
CALLS |= {"custom_vjp_call": "call_jaxpr"}  # the key that has the computation


class Equation(NamedTuple):
    """An equation, and the numbers of the values that it takes and gives."""

    equation: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of its primitive."""
        return self.equation.primitive.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flat:
    """A program whose values have numbers.

    Attributes:
      equations: in the order of their evaluation; what has a derivative of its own is given as the
        computation alone. Loops and branches are single equations.
      arguments: numbers of the arguments, in their order.
      paths: number of an argument → path of the variable that it is.
      sizes: path of a variable → the number of its entries.
      numbers: number of a value → the constant that it is.
      outputs: numbers of what the network returns.
    """

    equations: list[Equation] = dataclasses.field(default_factory=list)
    arguments: list[int] = dataclasses.field(default_factory=list)
    paths: dict[int, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    numbers: dict[int, Any] = dataclasses.field(default_factory=dict)
    outputs: list[int] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def makers(self) -> dict[int, int]:
        """Number of a value → the place of the equation that makes it."""
        return {v: place for place, one in enumerate(self.equations) for v in one.outputs}

    @functools.cached_property
    def uses(self) -> dict[int, list[int]]:
        """Number of a value → the places of the equations that take it; −1 is the end."""
        found: dict[int, list[int]] = {}
        for place, one in enumerate(self.equations):
            for value in one.inputs:
                found.setdefault(value, []).append(place)
        for value in self.outputs:
            found.setdefault(value, []).append(-1)
        return found

    @functools.cached_property
    def data(self) -> set[int]:
        """The values that depend on what the network is given, and not on variables alone.

        Constants that are made anew in each call, such as random keys, are no data.
        """
        data = {value for value in self.arguments if value not in self.paths}
        for one in self.equations:
            if data.intersection(one.inputs):
                data.update(one.outputs)
        return data


def flatten(model: Any, variables: Variables, inputs: Any) -> Flat:
    """Returns the evaluation of a network as one list of equations; nothing is computed.

    Args:
      model: see `groundwork.traced.network.apply_of`; one that trains is called with train=False.
      variables: of one replicate, arrays or shapes.
      inputs: [B, …] of the network, arrays or shapes.
    """
    traced = program.trace(program.evaluation(model), variables, inputs)
    flat, counter = Flat(), iter(range(10**9))
    for path, variable in zip(traced.paths, traced.closed.jaxpr.invars, strict=True):
        flat.arguments.append(next(counter))
        if path is not None:
            flat.sizes[path] = variable.aval.size
            flat.paths[flat.arguments[-1]] = path
    ends = _inline(flat, counter, traced.closed.jaxpr, traced.closed.consts, flat.arguments)
    flat.outputs.extend(ends)
    return flat


def evaluate(
    flat: Flat,
    arguments: Sequence[Any],
    made: Callable[[Equation, Mapping[int, Any]], Sequence[Any]],
) -> None:
    """Computes the values of a program, equation by equation.

    Args:
      flat: the program.
      arguments: in their order.
      made: (equation, values so far) → its outputs; `bound` computes them as they are.
    """
    values = dict(flat.numbers)
    values.update(zip(flat.arguments, arguments, strict=True))
    for one in flat.equations:
        values.update(zip(one.outputs, made(one, values), strict=True))


def bound(one: Equation, values: Mapping[int, Any]) -> list[Any]:
    """Returns what an equation itself makes of its inputs."""
    return walk.bind(one.equation, [values[value] for value in one.inputs])


def constant(flat: Flat, value: int, leaves: Mapping[str, Any]) -> Any:
    """Returns a value that no data enters, computed from variables.

    Args:
      flat: the program.
      value: its number.
      leaves: path → array, of the variables that it depends on.
    """
    makers, known = flat.makers, dict(flat.numbers)

    def of(value: int) -> Any:
        if value in flat.paths:
            return leaves[flat.paths[value]]
        if value not in known:
            one = flat.equations[makers[value]]
            given = [of(each) for each in one.inputs]
            known.update(zip(one.outputs, walk.bind(one.equation, given), strict=True))
        return known[value]

    return of(value)


def depends_on(flat: Flat, value: int) -> set[str]:
    """Returns the paths of the variables that a value is computed from."""
    makers, found, left = flat.makers, set(), [value]
    while left:
        one = left.pop()
        if one in flat.paths:
            found.add(flat.paths[one])
        elif one in makers:
            left.extend(flat.equations[makers[one]].inputs)
    return found


def is_zero(flat: Flat, value: int) -> bool:
    """Returns whether a value is the constant 0."""
    if value in flat.data or depends_on(flat, value):
        return False
    return not np.any(np.asarray(constant(flat, value, {})))


def hands_on(one: Equation) -> bool:
    """Returns whether an equation gives what it takes, but for the precision of floats."""
    ends = (one.equation.invars[0], one.equation.outvars[0])
    return one.name in walk.SAME and all(
        jnp.issubdtype(end.aval.dtype, jnp.floating) for end in ends
    )


def enclosed(flat: Flat) -> dict[str, str]:
    """Returns path of a variable → what it enters as a whole, such as a scan or a branch."""
    found: dict[str, str] = {}
    for one in flat.equations:
        if _has_inside(one.equation):
            for value in one.inputs:
                for path in depends_on(flat, value) if value not in flat.data else ():
                    found.setdefault(path, f"it stands within {one.name}")
    return found


def _has_inside(equation: Any) -> bool:
    """Returns whether an equation computes others."""
    options = equation.params.values()
    each = (one for value in options for one in (value if isinstance(value, tuple) else (value,)))
    return any(hasattr(one, "jaxpr") or hasattr(one, "eqns") for one in each)


def _inline(
    flat: Flat, counter: Any, jaxpr: Any, consts: Sequence[Any], given: Sequence[int]
) -> list[int]:
    """Adds the equations of a jaxpr to a program; returns the numbers of its outputs."""
    known: dict[Any, int] = dict(zip(jaxpr.invars, given, strict=True))

    def number(value: Any) -> int:
        place = next(counter)
        flat.numbers[place] = value
        return place

    known.update((v, number(const)) for v, const in zip(jaxpr.constvars, consts, strict=True))

    def read(variable: Any) -> int:
        return number(variable.val) if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        if equation.primitive.name in CALLS:
            inner = equation.params[CALLS[equation.primitive.name]]
            body, within = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
            outputs = _inline(flat, counter, body, within, inputs)
        else:
            outputs = [next(counter) for _ in equation.outvars]
            flat.equations.append(Equation(equation, tuple(inputs), tuple(outputs)))
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]
