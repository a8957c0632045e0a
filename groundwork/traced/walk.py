"""A walk over a network's jaxpr: where each parameter meets data, and other computations there.

Read `evaluate` first. A parameter is followed from the variables to the equation that multiplies
data by it. It stays the same parameter through casts, copies, calls and the slices that a scan
takes; whatever else uses it is reported. In the place of such a product another computation can
stand, and the parameter may then be anything, such as the factors of a kernel.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend.core import DropVar, Literal

from groundwork.architectures.cpu.primitive import convolution_p

PRODUCTS = ("dot_general", "conv_general_dilated", convolution_p.name)
SAME = ("convert_element_type", "copy", "copy_p", "pvary", "pcast", "sharding_constraint")
CALLS = ("jit", "pjit", "closed_call", "core_call")
REMATS = ("remat2", "remat", "checkpoint")
OWN_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


class Mark(NamedTuple):
    """Says of a value that it is a parameter."""

    path: str
    stacked: int = 0  # leading axes that scans have taken off


class Product(NamedTuple):
    """An equation that multiplies data by a parameter."""

    equation: Any
    mark: Mark
    side: int  # which of the two operands is the parameter
    depth: int  # the scans and rematerialised parts around it, in which its inputs stay
    repeats: int  # how often it is computed: the product of the lengths of the scans around it
    place: tuple[int, ...]  # which call it is: the equations that lead to it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Visitor:
    """What happens where a parameter is used.

    Attributes:
      product: (product, parameter, inputs) → what stands in the place of the product's outputs, or
        None for these outputs themselves.
      other: (mark, what uses it) → nothing; for every other use.
      depth: the scans and rematerialised parts around the computation.
      repeats: how often it is done.
      place: the equations that lead to it, by their identity; a function that is called twice has
        two places.
    """

    product: Callable[[Product, Any, jax.Array], jax.Array | None]
    other: Callable[[Mark, str], None]
    depth: int = 0
    repeats: int = 1
    place: tuple[int, ...] = ()


def evaluate(
    visitor: Visitor, closed: Any, values: Sequence[Any], marks: Sequence[Mark | None]
) -> list[Any]:
    """Returns the outputs of a jaxpr, computed with whatever the visitor puts into it.

    Calls that no marked value enters stay whole, with their own derivatives; scans and
    rematerialised parts that one enters are built anew around the walk.

    Args:
      visitor: what happens where a marked value is used.
      closed: a closed jaxpr.
      values: of its arguments. A marked one may be any pytree of arrays, if `visitor.product`
        takes it.
      marks: for each argument, which parameter it is; None for one that is not followed.

    Raises:
      ValueError: a marked pytree is used otherwise than in a product.
    """
    outputs, ends = _evaluate(visitor, closed.jaxpr, closed.consts, values, marks)
    _refuse_trees("return", outputs, ends)
    return outputs


def _evaluate(
    visitor: Visitor, jaxpr: Any, consts: Sequence[Any], values: Sequence[Any], marks: Sequence[Any]
) -> tuple[list[Any], list[Mark | None]]:
    """Returns the outputs of a jaxpr, and the marks of those that are parameters themselves."""
    environment: dict[Any, tuple[Any, Mark | None]] = {}

    def read(variable: Any) -> tuple[Any, Mark | None]:
        return (variable.val, None) if isinstance(variable, Literal) else environment[variable]

    for variable, value in zip(jaxpr.constvars, consts, strict=True):
        environment[variable] = value, None
    environment.update(zip(jaxpr.invars, zip(values, marks, strict=True), strict=True))
    for equation in jaxpr.eqns:
        read_in = list(map(read, equation.invars))
        given, marked = [value for value, _ in read_in], [mark for _, mark in read_in]
        outputs = _equation(visitor, equation, given, marked)
        environment.update(zip(equation.outvars, outputs, strict=True))
    ends = list(map(read, jaxpr.outvars))
    return [value for value, _ in ends], [mark for _, mark in ends]


def _equation(
    visitor: Visitor, equation: Any, given: Sequence[Any], marks: Sequence[Mark | None]
) -> list[tuple[Any, Mark | None]]:
    """Returns the outputs of an equation, each with its mark."""
    name, followed = equation.primitive.name, [mark for mark in marks if mark]
    if not followed:
        return [(output, None) for output in bind(equation, given)]
    if name in SAME:
        bound = jax.tree.map(lambda leaf: bind(equation, [leaf])[0], given[0])
        return [(bound, marks[0])]
    if name in CALLS:
        inner = equation.params["jaxpr"]
        within = _within(visitor, equation)
        outputs = _evaluate(within, inner.jaxpr, inner.consts, given, marks)
        return list(zip(*outputs, strict=True))
    if name in REMATS:
        return [(output, None) for output in _remat(visitor, equation, given, marks)]
    if name == "scan":
        return [(output, None) for output in _scan(visitor, equation, given, marks)]
    if name in PRODUCTS and len(followed) == 1 and any(marks[:2]):
        return [(_product(visitor, equation, given, marks), None)]
    if not all(isinstance(variable, DropVar) for variable in equation.outvars):
        for mark in followed:
            visitor.other(mark, _described(name, len(followed)))
    _refuse_trees(name, given, marks)
    return [(output, None) for output in bind(equation, given)]


def _product(
    visitor: Visitor, equation: Any, given: Sequence[Any], marks: Sequence[Mark | None]
) -> Any:
    side = 0 if marks[0] else 1
    mark = marks[side]
    assert mark is not None
    place = (*visitor.place, id(equation))
    product = Product(equation, mark, side, visitor.depth, visitor.repeats, place)
    replaced = visitor.product(product, given[side], given[1 - side])
    if replaced is not None:
        return replaced
    _refuse_trees(equation.primitive.name, given, marks)
    return bind(equation, given)[0]


def _remat(
    visitor: Visitor, equation: Any, given: Sequence[Any], marks: Sequence[Mark | None]
) -> list[Any]:
    """Returns the outputs of a part that is computed again for its gradient."""
    inner = equation.params["jaxpr"]
    deeper = dataclasses.replace(_within(visitor, equation), depth=visitor.depth + 1)

    def part(*values: Any) -> list[Any]:
        return _ended(deeper, *_evaluate(deeper, inner, (), values, marks))

    options = {key: equation.params[key] for key in ("policy", "prevent_cse")}
    return jax.checkpoint(part, **options)(*given)


def _scan(
    visitor: Visitor, equation: Any, given: Sequence[Any], marks: Sequence[Mark | None]
) -> list[Any]:
    """Returns the outputs of a scan whose constants or slices are marked."""
    options, inner = equation.params, equation.params["jaxpr"]
    first, carried = parts(options)
    last = first + carried
    for mark in filter(None, marks[first:last]):
        visitor.other(mark, "it is changed by a scan")
    _refuse_trees("scan", given[first:last], marks[first:last])
    stacked = [mark and mark._replace(stacked=mark.stacked + 1) for mark in marks[last:]]
    within = [*marks[:first], *(None,) * carried, *stacked]
    repeats = visitor.repeats * options["length"]
    around = _within(visitor, equation)
    deeper = dataclasses.replace(around, depth=visitor.depth + 1, repeats=repeats)

    def body(carry: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
        values = [*given[:first], *carry, *slices]
        ends = _evaluate(deeper, inner.jaxpr, inner.consts, values, within)
        outputs = _ended(deeper, *ends)
        return outputs[:carried], outputs[carried:]

    how = {key: options[key] for key in ("length", "reverse", "unroll")}
    carry, outputs = lax.scan(body, list(given[first:last]), list(given[last:]), **how)
    return [*carry, *outputs]


def _within(visitor: Visitor, equation: Any) -> Visitor:
    """Returns the visitor of what an equation calls."""
    return dataclasses.replace(visitor, place=(*visitor.place, id(equation)))


def _ended(visitor: Visitor, outputs: list[Any], ends: Sequence[Mark | None]) -> list[Any]:
    """Returns the outputs of a part, in which no parameter may leave it."""
    for mark in filter(None, ends):
        visitor.other(mark, "a scan or a rematerialised part returns it")
    _refuse_trees("return", outputs, ends)
    return outputs


def parts(options: Any) -> tuple[int, int]:
    """Returns how many constants a scan has, and how many values it carries."""
    if "num_consts" in options:
        return options["num_consts"], options["num_carry"]
    constants, carried, _ = options["ft_in"].unpack()  # releases after JAX 0.10
    return len(constants), len(carried)


def bind(equation: Any, given: Sequence[Any]) -> list[Any]:
    """Returns what the equation itself makes of these values."""
    params = equation.primitive.get_bind_params(equation.params)
    with equation.ctx.manager:
        outputs = equation.primitive.bind(*given, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def _described(name: str, followed: int) -> str:
    if name in OWN_DERIVATIVES:
        return "it enters a function that has its own derivative"
    if name in ("while", "cond"):
        return f"it enters a {name}"
    if name in PRODUCTS and followed > 1:
        return "it is multiplied by another parameter"
    return f"it goes through {name}"


def _refuse_trees(name: str, given: Sequence[Any], marks: Sequence[Mark | None]) -> None:
    for value, mark in zip(given, marks, strict=True):
        if mark and not hasattr(value, "dtype"):
            how = "is returned" if name == "return" else _described(name, 1).removeprefix("it ")
            raise ValueError(f"{mark.path!r} {how}: nothing can take its place")
