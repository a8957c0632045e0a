"""Entries at known places of an axis, and entries apart from each other."""

import math
from collections.abc import Sequence

import numpy as np
from jax.lax import GatherScatterMode

from deploy.graphs.draft import Draft
from deploy.graphs.rules.moves import broadcast, joined, padded, reshaped, sliced
from deploy.graphs.step import Step, refused

MOST_RUNS = 256
"""Of how many slices, at most, entries at known places are put together."""


def gather(draft: Draft, step: Step) -> str | list[str]:
    """Lowers the look-up of rows in a table of constants, and of known places along one axis."""
    (table, indices), params = step.inputs, step.params
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    if draft.array(table) is None:
        return _known(draft, step)
    row = len(sizes) - 1
    is_lookup = (
        tuple(numbers.start_index_map) == tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.offset_dims) == tuple(range(len(step.shape) - row, len(step.shape)))
        and tuple(sizes[1:]) == draft.shape(table)[1:]
    )
    if not is_lookup:
        return refused(draft, step, "it is no look-up of rows in a table of constants")
    shape = draft.shape(indices)[:-1]
    flat = reshaped(draft, table, (draft.shape(table)[0], int(np.prod(sizes[1:]))))
    places = reshaped(draft, indices, shape)
    if params["mode"] == GatherScatterMode.CLIP:
        least, most = (np.asarray(n, draft.dtype(places)) for n in (0, draft.shape(table)[0] - 1))
        places = draft.add("max", [places, draft.constant(least)], shape, draft.dtype(places))
        places = draft.add("min", [places, draft.constant(most)], shape, draft.dtype(places))
    rows = draft.add("gather", [flat, places], (*shape, draft.shape(flat)[1]), step.dtype)
    return reshaped(draft, rows, step.shape)


def _known(draft: Draft, step: Step) -> str | list[str]:
    """Lowers `x[:, places]` for places that are constants, as the resizing of images has them."""
    (name, indices), params = step.inputs, step.params
    numbers, sizes, places = params["dimension_numbers"], params["slice_sizes"], None
    if tuple(numbers.start_index_map) == tuple(numbers.collapsed_slice_dims):
        places = draft.array(indices)
    if places is None or len(numbers.start_index_map) != 1:
        return refused(draft, step, "its places are computed, or are along several axes")
    (axis,), shape = numbers.start_index_map, draft.shape(name)
    at = places.shape[:-1]
    offsets = [n for n in range(len(step.shape)) if n not in range(axis, axis + len(at))]
    is_whole = [n for own, n in enumerate(sizes) if own != axis] == [
        n for own, n in enumerate(shape) if own != axis
    ]
    if not is_whole or numbers.operand_batching_dims or list(numbers.offset_dims) != offsets:
        return refused(draft, step, "it takes parts of other axes, too")
    flat = places.reshape(-1).astype(int)
    if params["mode"] == GatherScatterMode.CLIP:
        flat = np.clip(flat, 0, shape[axis] - 1)
    if np.any((flat < 0) | (flat >= shape[axis])):
        return refused(draft, step, f"a place is none of 0 … {shape[axis] - 1}")
    found = taken(draft, name, axis, flat.tolist())
    if found is None:
        return refused(draft, step, f"its places are in more than {MOST_RUNS} runs")
    return reshaped(draft, found, step.shape)


def pad(draft: Draft, step: Step) -> str | list[str]:
    """Lowers pad."""
    name, value = step.inputs
    pads, number = step.params["padding_config"], draft.uniform(value)
    if number is None or (number and any(inner for _, _, inner in pads)):
        return refused(draft, step, "it pads with what is computed, or spreads with another than 0")
    for axis, (_, _, inner) in enumerate(pads):
        name = spread(draft, name, axis, inner + 1)
    return padded(draft, name, [pair[:2] for pair in pads], number)


def reverse(draft: Draft, step: Step) -> str | list[str]:
    """Lowers rev."""
    (name,) = step.inputs
    found: str | None = name
    for axis in step.params["dimensions"]:
        assert found is not None
        found = taken(draft, found, axis, range(draft.shape(name)[axis] - 1, -1, -1))
        if found is None:
            return refused(draft, step, f"it turns more than {MOST_RUNS} entries round")
    assert found is not None
    return found


def taken(draft: Draft, name: str, axis: int, places: Sequence[int]) -> str | None:
    """Returns the entries at these places of an axis; None where they are in too many runs."""
    size = draft.shape(name)[axis]
    times = len(places) // size if size else 0
    if times > 1 and list(places) == [n for n in range(size) for _ in range(times)]:
        return repeated(draft, name, axis, times)
    runs = _runs(places)
    if len(runs) > MOST_RUNS:
        return None
    parts = []
    for run in runs:
        begin, end = [0] * len(draft.shape(name)), list(draft.shape(name))
        strides = [1] * len(begin)
        begin[axis], end[axis], strides[axis] = run.start, run.stop, run.step
        parts.append(sliced(draft, name, begin, end, strides))
    return joined(draft, parts, axis)


def _runs(places: Sequence[int]) -> list[range]:
    """Returns places as runs with positive steps."""
    runs: list[range] = []
    for place in places:
        last = runs[-1] if runs else range(0)
        if len(last) == 1 and place > last.start:
            runs[-1] = range(last.start, place + 1, place - last.start)
        elif len(last) > 1 and place == last[-1] + last.step:
            runs[-1] = range(last.start, place + 1, last.step)
        else:
            runs.append(range(place, place + 1))
    return runs


def repeated(draft: Draft, name: str, axis: int, times: int) -> str:
    """Returns a value whose entries along an axis are repeated, each beside itself."""
    shape = draft.shape(name)
    apart = reshaped(draft, name, _apart(shape, axis))
    before, size, _, after = draft.shape(apart)
    wide = broadcast(draft, apart, (before, size, times, after))
    return reshaped(draft, wide, (*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


def spread(draft: Draft, name: str, axis: int, step: int) -> str:
    """Returns a value whose entries along an axis stand `step` apart, with zeros between them."""
    shape = draft.shape(name)
    if step == 1 or shape[axis] < 2:
        return name
    apart = reshaped(draft, name, _apart(shape, axis))
    wide = padded(draft, apart, [(0, 0), (0, 0), (0, step - 1), (0, 0)], 0)
    whole = reshaped(draft, wide, (*shape[:axis], shape[axis] * step, *shape[axis + 1 :]))
    end = list(draft.shape(whole))
    end[axis] -= step - 1
    return sliced(draft, whole, [0] * len(end), end)


def _apart(shape: Sequence[int], axis: int) -> tuple[int, int, int, int]:
    """Returns a shape with an axis of its own behind another one, and few others: [B, N, 1, M]."""
    if axis == 0:
        return 1, shape[0], 1, math.prod(shape[1:])
    return shape[0], math.prod(shape[1 : axis + 1]), 1, math.prod(shape[axis + 1 :])
