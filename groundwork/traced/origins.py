"""What the values of a jaxpr are made of: of parameters alone, or of the network's inputs too."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jax.extend.core import DropVar, Literal

from groundwork.traced import walk
from groundwork.traced.walk import CALLS

Paths = frozenset[str]
NONE: Paths = frozenset()


class Graph(NamedTuple):
    """A jaxpr, and what its values come from."""

    jaxpr: Any
    kinds: dict[Any, Paths | None]  # variable → parameters it is made of; None: it is data
    made: dict[Any, int]  # variable → the equation that makes it
    last: dict[Any, float]  # variable → the last equation on the way to the output that takes it
    way: list[int]  # equations of data on the way to the output, in their order


def opened(closed: Any, kinds: Sequence[Paths | None], *values: Any) -> list[Any]:
    """Returns a jaxpr's outputs, computed without the calls into which parameters enter."""

    def inside(jaxpr: Any, consts: Any, values: Any, kinds: Any) -> tuple[list[Any], list[Any]]:
        known = {v: (const, NONE) for v, const in zip(jaxpr.constvars, consts, strict=True)}
        known.update(zip(jaxpr.invars, zip(values, kinds, strict=True), strict=True))

        def read(variable: Any) -> Any:
            return (variable.val, NONE) if isinstance(variable, Literal) else known[variable]

        for equation in jaxpr.eqns:
            read_in = list(map(read, equation.invars))
            given, of = [value for value, _ in read_in], [kind for _, kind in read_in]
            if equation.primitive.name in CALLS and any(of):
                inner = equation.params["jaxpr"]
                made = inside(inner.jaxpr, inner.consts, given, of)
            else:
                outputs = walk.bind(equation, given)
                made = outputs, [_joined(of)] * len(outputs)
            known.update(zip(equation.outvars, zip(*made, strict=True), strict=True))
        ends = list(map(read, jaxpr.outvars))
        return [value for value, _ in ends], [kind for _, kind in ends]

    return inside(closed.jaxpr, closed.consts, values, kinds)[0]


def _joined(kinds: Iterable[Paths | None]) -> Paths | None:
    """Returns what a value is made of that is made of others."""
    kinds = list(kinds)
    return None if None in kinds else NONE.union(*filter(None, kinds))


def graph_of(closed: Any, kinds: Sequence[Paths | None]) -> Graph:
    """Returns the graph of a closed jaxpr, given what each of its arguments is made of."""
    jaxpr = closed.jaxpr
    of: dict[Any, Paths | None] = dict.fromkeys(jaxpr.constvars, NONE)
    of.update(zip(jaxpr.invars, kinds, strict=True))
    made = {}
    for i, equation in enumerate(jaxpr.eqns):
        of.update(dict.fromkeys(equation.outvars, _joined(_kinds(of, equation))))
        made.update(dict.fromkeys(equation.outvars, i))
    graph = Graph(jaxpr, of, made, {}, [])
    output = jaxpr.outvars[0]
    graph.way.extend(sorted(before(graph, [output])))
    for i in graph.way:
        graph.last.update(dict.fromkeys(variables_of(jaxpr.eqns[i].invars), i))
    graph.last[output] = float("inf")
    return graph


def _kinds(of: Mapping[Any, Paths | None], equation: Any) -> list[Paths | None]:
    return [NONE if isinstance(v, Literal) else of[v] for v in equation.invars]


def variables_of(variables: Iterable[Any]) -> list[Any]:
    """Returns those that are neither literals nor dropped."""
    return [v for v in variables if not isinstance(v, Literal | DropVar)]


def before(graph: Graph, ends: Iterable[Any], data: bool = True) -> set[int]:
    """Returns the equations that values need: those of data, or those of variables alone."""
    found: set[int] = set()
    waiting = variables_of(ends)
    while waiting:
        variable = waiting.pop()
        i = graph.made.get(variable)
        if i is None or i in found or (graph.kinds[variable] is None) != data:
            continue
        found.add(i)
        waiting += variables_of(graph.jaxpr.eqns[i].invars)
    return found


def met(graph: Graph, i: int) -> Paths:
    """Returns the parameters that an equation takes beside data."""
    return NONE.union(*(kind for kind in _kinds(graph.kinds, graph.jaxpr.eqns[i]) if kind))
