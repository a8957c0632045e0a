"""Sums, maxima and the like over axes, over windows and over what came before; sorting."""

from collections.abc import Sequence
from typing import Any

from pruning.structured.axes import Axes, zeros
from pruning.structured.rules.shapes import POSITIONS
from pruning.structured.walk import Rule, Step, Walk

REDUCTIONS = [f"reduce_{n}" for n in ("sum", "max", "min", "prod", "and", "or", "xor")]
PLACES = ("argmax", "argmin")
ALONG = ["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"]
WINDOWS = ["reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min"]
KEEP_ZEROS = ("reduce_window_sum", "reduce_window_max", "reduce_window_min")


def _reduce(walk: Walk, step: Step) -> list[Axes]:
    """An output stays exact where a sum loses zeros; a maximum may have been one of them."""
    (given,), name = step.axes, step.equation.primitive.name
    over = step.equation.params["axes"]
    for n in over:
        lost = given[n] if name == "reduce_sum" else zeros(given[n], False)
        walk.doubt(lost, f"{name} runs over its units")
    return [[axis for n, axis in enumerate(given) if n not in over]]


def _reduced(walk: Walk, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
    options = dict(step.equation.params)
    if "out_sharding" in options:
        options["out_sharding"] = None  # of the full shape
    return [step.equation.primitive.bind(*operands, **options)]


def _place(walk: Walk, step: Step) -> list[Axes]:
    (given,) = step.axes
    over = step.equation.params["axes"]
    for n in over:
        walk.fix(given[n], POSITIONS)
    return [[zeros(axis, False) for n, axis in enumerate(given) if n not in over]]


def _along(walk: Walk, step: Step) -> list[Axes]:
    (given,), n = step.axes, step.equation.params["axis"]
    walk.fix(given[n], "sums run along it")
    return [[zeros(a, a["zero"] & (step.equation.primitive.name == "cumsum")) for a in given]]


def _window(walk: Walk, step: Step) -> list[Axes]:
    options, (given, *rest) = step.equation.params, step.axes
    moves = [
        size != 1 or stride != 1 or tuple(edges) != (0, 0)
        for size, stride, edges in zip(
            *(options[k] for k in ("window_dimensions", "window_strides", "padding")), strict=True
        )
    ]
    if len(step.equation.outvars) > 1 or any(axes for axes in rest):
        return walk.freeze(step, "a window moves over it")
    out = []
    keeps = step.equation.primitive.name in KEEP_ZEROS
    for n, axis in enumerate(given):
        if moves[n] or len(axis) != step.equation.outvars[0].aval.shape[n]:
            walk.fix(axis, "a window moves over it")
            axis = walk.fixed(step.equation.outvars[0].aval.shape[n], "a window moves over it")
        out.append(zeros(axis, axis["zero"] & keeps))
    return [out]


def _sort(walk: Walk, step: Step) -> list[Axes]:
    """What is sorted stays along the order; other axes pass, joined over all operands."""
    dimension = step.equation.params["dimension"]
    columns = list(zip(*step.axes, strict=True))
    walk.join(*columns[dimension])
    walk.fix(columns[dimension][0], "it is sorted along it")
    joined = [walk.join(*column) for column in columns]
    return [joined for _ in step.equation.outvars]


def _top_k(walk: Walk, step: Step) -> list[Axes]:
    (given,), axis = step.axes, step.equation.params.get("axis", -1) % len(step.axes[0])
    walk.fix(given[axis], "it is sorted along it")
    chosen = walk.fixed(step.equation.outvars[0].aval.shape[axis], POSITIONS)
    values = [chosen if n == axis else a for n, a in enumerate(given)]
    return [values, [zeros(a, False) for a in values]]


RULES = {
    **dict.fromkeys(REDUCTIONS, Rule(_reduce, _reduced)),
    **dict.fromkeys(PLACES, Rule(_place, _reduced)),
    **dict.fromkeys(ALONG, Rule(_along)),
    **dict.fromkeys(WINDOWS, Rule(_window)),
    "sort": Rule(_sort),
    "top_k": Rule(_top_k),
}
