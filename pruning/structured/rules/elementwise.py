"""Operations that compute each entry of the output from the entries at the same place."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from groundwork.traced.walk import bind
from pruning.structured.axes import Axes, Axis, zeros
from pruning.structured.walk import Rule, Step, Walk

ALIKE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
bitcast_convert_type cbrt ceil clamp clz conj convert_element_type copy copy_p cos cosh device_put
digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow
is_finite le le_to lgamma log log1p logistic lt lt_to max min mul name ne neg nextafter not
optimization_barrier or polygamma population_count pow random_gamma_grad real reduce_precision rem
round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt
square stop_gradient sub tan tanh tie xor zeros_like
"""
OVER_DEVICES = """
psum psum2 psum_invariant pmax pmin pmean pvary pcast ppermute
"""
GATHERED = "it is gathered from all devices"
ENDLESS = "where its units are zero, {} makes no finite number"
OF_DEVICES = ("sharding_constraint", "mesh_cast", "reshard")


def _label(walk: Walk, step: Step) -> list[Axes]:
    """Joins the axes of all operands, but those of numbers and of single entries for many."""
    outputs = [v.aval.shape for v in step.equation.outvars]
    if len(outputs) > 1:  # several operands that pass side by side
        return step.axes
    (shape,) = outputs
    if any(len(axes) not in (0, len(shape)) for axes in step.axes):
        return walk.freeze(step, f"{step.equation.primitive.name} broadcasts it")
    columns = [
        [axes[n] if axes and len(axes[n]) == count else None for axes in step.axes]
        for n, count in enumerate(shape)
    ]
    joined = [walk.join(*(axis for axis in column if axis is not None)) for column in columns]
    if walk.judges:
        joined = [_with_zeros(walk, step, *pair) for pair in zip(joined, columns, strict=True)]
    return [joined]


def _over_devices(walk: Walk, step: Step) -> list[Axes]:
    """Passes what is summed over named axes; sums over positional ones take these off."""
    axes = step.equation.params.get("axes", ())
    off = [axis for axis in axes if isinstance(axis, int)]
    out = [[a for n, a in enumerate(given) if n not in off] for given in step.axes]
    if [[len(a) for a in axes] for axes in out] != [[*v.aval.shape] for v in step.equation.outvars]:
        return walk.freeze(step, f"{step.equation.primitive.name} gathers it")
    return out


def _of_all_devices(walk: Walk, step: Step) -> list[Axes]:
    """Puts an axis of devices beside the others, or puts their entries one after the other."""
    (given,), options = step.axes, step.equation.params
    n = options["all_gather_dimension"]
    if options["tiled"]:
        walk.fix(given[n], GATHERED)
    count = step.equation.outvars[0].aval.shape[n]
    return [[*given[:n], walk.fixed(count, GATHERED), *given[n + options["tiled"] :]]]


def _with_zeros(walk: Walk, step: Step, joined: Axis, column: Sequence[Axis | None]) -> Axis:
    """Returns an axis of the output, zero where the operation makes zeros of its operands'."""
    name, first = step.equation.primitive.name, 0
    if name in ("div", "rem"):
        if column[1] is not None:
            walk.doubt(zeros(joined, ~column[1]["zero"]), ENDLESS.format(name))
        return zeros(joined, False if column[0] is None else column[0]["zero"])
    if name in ("mul", "and"):
        return zeros(joined, np.logical_or.reduce([a["zero"] for a in column if a is not None]))
    if name == "select_n":
        first = 1  # what chooses need not be zero
    cases = list(zip(column[first:], step.equation.invars[first:], strict=True))
    if any(axis is None and not _is_number(variable) for axis, variable in cases):
        return zeros(joined, False)
    known = [axis["zero"] for axis, _ in cases if axis is not None]
    all_zero = np.logical_and.reduce(known) if known else np.zeros(len(joined), bool)
    made = _at_zero(walk, step.equation) if all_zero.any() else None
    if made is not None and not np.isfinite(made):
        walk.doubt(zeros(joined, ~all_zero), ENDLESS.format(name))
    return zeros(joined, all_zero & (made is not None and made == 0))


def _is_number(variable: Any) -> bool:
    return isinstance(variable, Literal) and np.shape(variable.val) == ()


def _at_zero(walk: Walk, equation: Any) -> Any:
    """Returns what an operation makes of arrays of 0 and its own numbers; None if unknown."""
    values: list[Any] = []
    for variable in equation.invars:
        if _is_number(variable):
            values.append(variable.val)
        elif jax.numpy.issubdtype(variable.aval.dtype, jax.dtypes.extended):
            return None
        else:
            values.append(np.zeros((), variable.aval.dtype))
    if equation.primitive.name == "select_n":
        return None if any(value != 0 for value in values[1:]) else 0
    numbers = tuple((np.asarray(value).item(), np.result_type(value)) for value in values)
    key = equation.primitive.name, numbers, str(equation.params)
    if key not in walk.at_zero:
        with jax.ensure_compile_time_eval():
            (output,) = bind(equation, [jax.numpy.asarray(value) for value in values])
            walk.at_zero[key] = np.asarray(output)
    return walk.at_zero[key]


RULES = {
    **dict.fromkeys(ALIKE.split(), Rule(_label)),
    **dict.fromkeys(OF_DEVICES, Rule(_label)),
    **dict.fromkeys(OVER_DEVICES.split(), Rule(_over_devices)),
    **dict.fromkeys(("all_gather", "all_gather_invariant"), Rule(_of_all_devices)),
}
