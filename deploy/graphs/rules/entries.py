"""What is computed entry by entry."""

from collections.abc import Sequence

import numpy as np

from deploy.graphs.constants import compact, is_float
from deploy.graphs.draft import Draft
from deploy.graphs.step import Lowering, Step, refused

MOST_FACTORS = 16


def binary(draft: Draft, operation: str, left: str, right: str, dtype: str | None = None) -> str:
    """Returns an operation on two values whose shapes numpy broadcasts; constants are compact."""
    shape = np.broadcast_shapes(draft.shape(left), draft.shape(right))
    names = [small(draft, left, right, shape), small(draft, right, left, shape)]
    return draft.add(operation, names, shape, dtype or draft.dtype(left))


def small(draft: Draft, name: str, other: str, shape: Sequence[int]) -> str:
    """Returns a constant with its repeated entries once, where the other operand has them all."""
    array = draft.array(name)
    if array is None or other in draft.constants:
        return name
    beside = draft.shape(other)
    if len(beside) < len(shape):
        return name
    least = compact(array, beside if array.ndim <= len(beside) else shape)
    if least.shape == array.shape:
        return name
    return draft.constant(least, draft.constants[name].source)


def plain(operation: str, of_floats: bool = False) -> Lowering:
    """Returns the rule of a primitive that is an operation itself, perhaps of floats alone."""

    def rule(draft: Draft, step: Step) -> str | list[str]:
        if of_floats and step.dtype != "float32":
            return refused(draft, step, f"it is of {step.dtype}")
        if len(step.inputs) == 2:
            left, right = step.inputs
            return binary(draft, operation, left, right, step.dtype)
        return draft.add(operation, step.inputs, step.shape, step.dtype)

    return rule


def number(draft: Draft, value: float, like: str) -> str:
    """Returns a constant of a value's dtype."""
    return draft.constant(np.asarray(value, draft.dtype(like)))


def power(draft: Draft, name: str, exponent: int) -> str:
    """Returns a whole power of a value, as products."""
    if exponent < 0:
        return binary(draft, "div", number(draft, 1, name), power(draft, name, -exponent))
    result = None
    while exponent:
        if exponent % 2:
            result = name if result is None else binary(draft, "mul", result, name)
        exponent //= 2
        name = binary(draft, "mul", name, name) if exponent else name
    assert result is not None
    return result


def integer_pow(draft: Draft, step: Step) -> str | list[str]:
    """Lowers integer_pow and square."""
    exponent = step.params.get("y", 2)
    if not exponent or abs(exponent) > MOST_FACTORS:
        return refused(draft, step, f"the exponent {exponent} is none of 1 … {MOST_FACTORS}")
    return power(draft, step.inputs[0], exponent)


def log1p(draft: Draft, step: Step) -> str:
    """Lowers log1p as log(1 + x), which rounds x to float32's 1.2e-7 near 0."""
    (name,) = step.inputs
    one = binary(draft, "add", name, number(draft, 1, name))
    return draft.add("log", [one], step.shape, step.dtype)


def expm1(draft: Draft, step: Step) -> str:
    """Lowers expm1 as exp(x) − 1, which rounds the result to float32's 1.2e-7 near 0."""
    exp = draft.add("exp", step.inputs, step.shape, step.dtype)
    return binary(draft, "sub", exp, number(draft, 1, exp))


def exp2(draft: Draft, step: Step) -> str:
    """Lowers exp2 as exp(x · ln 2)."""
    (name,) = step.inputs
    scaled = binary(draft, "mul", name, number(draft, np.log(2), name))
    return draft.add("exp", [scaled], step.shape, step.dtype)


def erfc(draft: Draft, step: Step) -> str:
    """Lowers erfc as 1 − erf(x), which rounds to float32's 6e-8 of 1."""
    erf = draft.add("erf", step.inputs, step.shape, step.dtype)
    return binary(draft, "sub", number(draft, 1, erf), erf)


def is_finite(draft: Draft, step: Step) -> str:
    """Lowers is_finite as |x| < ∞."""
    (name,) = step.inputs
    size = draft.add("abs", [name], step.shape, draft.dtype(name))
    return binary(draft, "less", size, number(draft, np.inf, name), "bool")


def clamp(draft: Draft, step: Step) -> str:
    """Lowers clamp."""
    low, name, high = step.inputs
    return binary(draft, "min", binary(draft, "max", name, low), high)


def select(draft: Draft, step: Step) -> str | list[str]:
    """Lowers select_n between two cases."""
    if len(step.inputs) != 3:
        return refused(draft, step, f"it has {len(step.inputs) - 1} cases")
    condition, no, yes = step.inputs
    shape = step.shape
    if draft.dtype(condition) != "bool":
        condition = draft.add("cast", [condition], draft.shape(condition), "bool", dtype="bool")
    names = [small_beside(draft, name, shape) for name in (condition, yes, no)]
    return draft.add("where", names, shape, step.dtype)


def small_beside(draft: Draft, name: str, shape: Sequence[int]) -> str:
    """Returns a constant with its repeated entries once, all axes of the shape being there."""
    array = draft.array(name)
    if array is None or not shape:
        return name
    least = compact(array, shape)
    if least.shape == array.shape:
        return name
    return draft.constant(least.reshape((1,) * (len(shape) - least.ndim) + least.shape))


def convert(draft: Draft, step: Step) -> str:
    """Lowers convert_element_type; a cast between floats leaves values as they are."""
    (name,) = step.inputs
    if draft.dtype(name) == step.dtype:
        return name
    if is_float(step.equation.invars[0].aval.dtype) and step.dtype == "float32":
        return name
    return draft.add("cast", [name], step.shape, step.dtype, dtype=step.dtype)
