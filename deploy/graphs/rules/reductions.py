"""Reductions over axes and over windows."""

from typing import Any

from deploy.graphs.draft import Draft
from deploy.graphs.rules.moves import transposed
from deploy.graphs.step import Lowering, Step, refused

IMAGES = 4  # axes of [B, H, W, C]


def over_axes(operation: str) -> Lowering:
    """Returns the rule of a reduction."""

    def rule(draft: Draft, step: Step) -> str:
        axes = tuple(sorted(map(int, step.params["axes"])))
        options: dict[str, Any] = {"axes": axes, "keepdims": False}
        if not axes:
            return step.inputs[0]
        return draft.add(operation, step.inputs, step.shape, step.dtype, **options)

    return rule


def reduce_min(draft: Draft, step: Step) -> str:
    """Lowers the least entry as that of the negatives that is greatest."""
    (name,) = step.inputs
    below = draft.add("neg", [name], draft.shape(name), step.dtype)
    options: dict[str, Any] = {
        "axes": tuple(sorted(map(int, step.params["axes"]))),
        "keepdims": False,
    }
    found = draft.add("reduce_max", [below], step.shape, step.dtype, **options)
    return draft.add("neg", [found], step.shape, step.dtype)


def over_windows(operation: str) -> Lowering:
    """Returns the rule of a reduction over windows of images, whichever axes are theirs."""

    def rule(draft: Draft, step: Step) -> str | list[str]:
        params, (name, *_) = step.params, step.inputs
        window, strides = params["window_dimensions"], params["window_strides"]
        padding = params["padding"]
        dilations = (*params["base_dilation"], *params["window_dilation"])
        moving = [
            axis
            for axis, parts in enumerate(zip(window, strides, padding, strict=True))
            if parts != (1, 1, (0, 0))
        ]
        if any(d != 1 for d in dilations) or len(window) != IMAGES or len(moving) > 2:
            return refused(draft, step, "its windows are not those of images")
        order = images(moving)
        back = sorted(range(IMAGES), key=order.index)
        shape = [step.shape[axis] for axis in order]
        high, wide = order[1:3]
        made = draft.add(
            operation,
            [transposed(draft, name, order)],
            shape,
            step.dtype,
            window=(window[high], window[wide]),
            strides=(strides[high], strides[wide]),
            padding=(tuple(padding[high]), tuple(padding[wide])),
        )
        return transposed(draft, made, [back[axis] for axis in range(IMAGES)])

    return rule


def images(moving: list[int]) -> list[int]:
    """Returns an order of four axes in which these are the second and the third."""
    if set(moving) <= {1, 2}:
        return [0, 1, 2, 3]
    high, wide = (moving + [axis for axis in (2, 3, 1, 0) if axis not in moving])[:2]
    first, last = (axis for axis in range(IMAGES) if axis not in (high, wide))
    return [first, high, wide, last]
