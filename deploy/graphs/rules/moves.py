"""Movements of entries: of a constant at once, of any other value by a node."""

from collections.abc import Sequence

import numpy as np

from deploy.graphs.draft import Draft
from deploy.graphs.step import Step, refused


def reshaped(draft: Draft, name: str, shape: Sequence[int], layer: str | None = None) -> str:
    """Returns a value of another shape."""
    shape = tuple(map(int, shape))
    if draft.shape(name) == shape:
        return name
    if name in draft.constants:
        return draft.constant(draft.constants[name].moved(lambda array: array.reshape(shape)))
    return draft.add("reshape", [name], shape, draft.dtype(name), layer)


def transposed(
    draft: Draft, name: str, permutation: Sequence[int], layer: str | None = None
) -> str:
    """Returns a value with its axes in another order."""
    order = tuple(map(int, permutation))
    if order == tuple(range(len(order))):
        return name
    if name in draft.constants:
        return draft.constant(draft.constants[name].moved(lambda array: array.transpose(order)))
    shape = [draft.shape(name)[axis] for axis in order]
    return draft.add("transpose", [name], shape, draft.dtype(name), layer, permutation=order)


def sliced(
    draft: Draft,
    name: str,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int] | None = None,
) -> str:
    """Returns a part of a value."""
    begin, end = tuple(map(int, begin)), tuple(map(int, end))
    steps = tuple(map(int, strides)) if strides else (1,) * len(begin)
    shape = tuple(max(0, -(-(e - b) // s)) for b, e, s in zip(begin, end, steps, strict=True))
    if shape == draft.shape(name):
        return name
    if name in draft.constants:
        where = tuple(map(slice, begin, end, steps))
        return draft.constant(draft.constants[name].moved(lambda array: array[where]))
    return draft.add("slice", [name], shape, draft.dtype(name), begin=begin, end=end, strides=steps)


def joined(draft: Draft, names: Sequence[str], axis: int) -> str:
    """Returns values behind each other along an axis."""
    names = [name for name in names if draft.shape(name)[axis]] or list(names[:1])
    if len(names) == 1:
        return names[0]
    if all(name in draft.constants for name in names):
        parts = [draft.constants[name] for name in names]
        source = next((part.source for part in parts if part.source), "")
        return draft.constant(np.concatenate([part.array for part in parts], axis), source)
    shape = list(draft.shape(names[0]))
    shape[axis] = sum(draft.shape(name)[axis] for name in names)
    return draft.add("concat", names, shape, draft.dtype(names[0]), axis=axis)


def padded(
    draft: Draft, name: str, pads: Sequence[tuple[int, int]], value: float, layer: str | None = None
) -> str:
    """Returns a value with margins of a number; negative margins crop it."""
    shape = draft.shape(name)
    begin = [max(0, -low) for low, _ in pads]
    end = [size - max(0, -high) for (_, high), size in zip(pads, shape, strict=True)]
    name = sliced(draft, name, begin, end)
    margins = tuple((max(0, int(low)), max(0, int(high))) for low, high in pads)
    if not any(map(any, margins)):
        return name
    array = draft.array(name)
    if array is not None:
        return draft.constant(np.pad(array, margins, constant_values=value))
    sizes = [size + sum(pair) for size, pair in zip(draft.shape(name), margins, strict=True)]
    dtype, number = draft.dtype(name), float(value)
    return draft.add("pad", [name], sizes, dtype, layer, pads=margins, value=number)


def broadcast(draft: Draft, name: str, shape: Sequence[int]) -> str:
    """Returns a value that is repeated along axes of size 1."""
    shape = tuple(map(int, shape))
    if draft.shape(name) == shape:
        return name
    if name in draft.constants:
        constant = draft.constants[name]
        return draft.constant(constant.moved(lambda array: np.broadcast_to(array, shape)))
    return draft.add("broadcast", [name], shape, draft.dtype(name))


# primitives


def reshape(draft: Draft, step: Step) -> str | list[str]:
    """Lowers reshape, squeeze and expand_dims."""
    if step.params.get("dimensions") is not None and step.name == "reshape":
        return refused(draft, step, "it reads in another order of axes")
    return reshaped(draft, step.inputs[0], step.shape)


def transpose(draft: Draft, step: Step) -> str:
    """Lowers transpose."""
    return transposed(draft, step.inputs[0], step.params["permutation"])


def broadcast_in_dim(draft: Draft, step: Step) -> str:
    """Lowers broadcast_in_dim."""
    (name, *_), sizes = step.inputs, [1] * len(step.shape)
    for axis, size in zip(step.params["broadcast_dimensions"], draft.shape(name), strict=True):
        sizes[axis] = size
    return broadcast(draft, reshaped(draft, name, sizes), step.shape)


def concatenate(draft: Draft, step: Step) -> str:
    """Lowers concatenate."""
    return joined(draft, step.inputs, step.params["dimension"])


def stack(draft: Draft, step: Step) -> str:
    """Lowers stack."""
    axis, shape = step.params["axis"], list(step.shape)
    shape[axis] = 1
    return joined(draft, [reshaped(draft, name, shape) for name in step.inputs], axis)


def unstack(draft: Draft, step: Step) -> list[str]:
    """Lowers unstack."""
    (name,), axis = step.inputs, step.params["axis"]
    shape, parts = draft.shape(name), []
    for place in range(shape[axis]):
        begin, end = [0] * len(shape), list(shape)
        begin[axis], end[axis] = place, place + 1
        parts.append(reshaped(draft, sliced(draft, name, begin, end), step.shape))
    return parts


def tile(draft: Draft, step: Step) -> str:
    """Lowers tile, as a repetition along new axes."""
    (name,), reps = step.inputs, step.params["reps"]
    shape = draft.shape(name)
    apart = [size for own in shape for size in (1, own)]
    whole = [size for pair in zip(reps, shape, strict=True) for size in pair]
    return reshaped(draft, broadcast(draft, reshaped(draft, name, apart), whole), step.shape)


def slice_(draft: Draft, step: Step) -> str:
    """Lowers slice."""
    options = [step.params[key] for key in ("start_indices", "limit_indices", "strides")]
    return sliced(draft, step.inputs[0], *options)


def split(draft: Draft, step: Step) -> list[str]:
    """Lowers split."""
    (name,), axis, parts, begin = step.inputs, step.params["axis"], [], 0
    shape = draft.shape(name)
    for size in step.params["sizes"]:
        first, last = [0] * len(shape), list(shape)
        first[axis], last[axis] = begin, begin + size
        parts.append(sliced(draft, name, first, last))
        begin += size
    return parts


def dynamic_slice(draft: Draft, step: Step) -> str | list[str]:
    """Lowers dynamic_slice at a known place."""
    (name, *starts), sizes = step.inputs, step.params["slice_sizes"]
    places = [draft.array(start) for start in starts]
    if any(place is None for place in places):
        return refused(draft, step, "its place is computed from the inputs")
    shape = draft.shape(name)
    found = [max(0, int(p)) for p in places if p is not None]
    begin = [min(p, n - size) for p, n, size in zip(found, shape, sizes, strict=True)]
    return sliced(draft, name, begin, [b + size for b, size in zip(begin, sizes, strict=True)])
