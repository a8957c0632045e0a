"""Which layers are computed from the entries of their kernels that are not zero, and in what form.

`sparse.h` computes them. `chosen` says whether that is taken instead of oneDNN's dense layer, by
rules of one density for each form. `python -m benchmarks.sparse --crossover` shows where the
crossover lies.
"""

# N batch, H W image, C O channels in and out, KH KW window

import math
from typing import Literal, NamedTuple

import numpy as np

from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.geometry import Geometry

FORMS = ("rows", "lanes", "pairs")  # as `sparse.h` has them
BLOCK = 4  # neighbouring outputs in a block of 1×4
FEW = 3  # examples of a product for which outputs are lanes
WINDOW = 32  # inputs among which a lane picks one
# The largest densities at which layers are sparse, by form; rows of products, those of images,
# and those of small products.
DENSEST = {"lanes": 0.4, "pairs": 0.5, "rows": 0.15, "images": 0.15, "small": 0.5}
SMALL = 1 << 14  # weights of a product for which oneDNN's call takes longer than all of them
CHANNELS = 64  # of images, below which writing columns takes as long as oneDNN's convolution
PAIR = 0.4  # of an entry's place in the kernel: what it costs in pairs, in steps of lanes


class Form(NamedTuple):
    """What is stored of a kernel; these numbers do not change between kernels of one pattern.

    Attributes:
      name: `rows`: the entries of each output; `lanes`: those of sixteen outputs side by side, for
        products of few examples; `pairs`: likewise, with two entries in every four inputs.
      block: neighbouring outputs that share their inputs, 1 or 4.
      stored: of rows the entries, or blocks of them, with what fills groups up; of lanes the steps
        of sixteen entries; of pairs 0, since their size does not depend on the pattern.
      columns: of the kernel, as a matrix [KH · KW · C, O], in which an output has an entry.
    """

    name: Literal["rows", "lanes", "pairs"]
    block: int
    stored: int
    columns: int

    def fields(self, geometry: Geometry) -> tuple[int, ...]:
        """Returns the fields of a node."""
        descriptor = geometry.descriptor("output", 32).tolist()
        return (*descriptor, FORMS.index(self.name), *self[1:])


def product(rows: int, inputs: int, outputs: int) -> Geometry:
    """Returns a product [N, C] × [C, O] as a convolution of images of one pixel."""
    return Geometry(
        input=(rows, 1, 1, inputs),
        kernel=(1, 1, inputs, outputs),
        output=(rows, 1, 1, outputs),
        strides=(1, 1),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        groups=1,
        precision=None,
    )


def form(kept: np.ndarray, geometry: Geometry) -> Form | None:
    """Returns the fastest form for a kernel; None if there is none.

    Args:
      kept: where the kernel is not zero, [KH, KW, C / groups, O] bool.
      geometry: of the layer.
    """
    if not math.prod(geometry.sizes):
        return None
    matrix = _matrix(kept, geometry)
    columns = int(matrix.any(1).sum())
    if geometry.input[0] > FEW or not _is_product(geometry) or len(matrix) < WINDOW:
        return _stored(Form("rows", _block(matrix), 0, columns), kept, geometry)
    lanes = _stored(Form("lanes", 1, 0, columns), kept, geometry)
    if _is_in_pairs(matrix) and PAIR * matrix.size < lanes.stored * 16:
        return Form("pairs", 1, 0, columns)
    return lanes


def _stored(form: Form, kept: np.ndarray, geometry: Geometry) -> Form:
    """Returns a form with what the library says is stored of such a kernel."""
    fields = np.array(form.fields(geometry), np.int64)
    kernel = np.ascontiguousarray(kept, np.float32)
    return form._replace(stored=library.stored(fields, kernel))


def chosen(kept: np.ndarray, geometry: Geometry) -> Form | None:
    """Returns the form in which a layer is faster than as oneDNN's dense one; None if it is none.

    Args:
      kept: see `form`.
      geometry: of the layer.
    """
    if kept.size > SMALL and kept.mean() > max(DENSEST.values()):
        return None
    found = form(kept, geometry)
    is_small = kept.size <= SMALL
    if found is None or (is_small and found.name == "lanes"):
        return found
    if _is_product(geometry):
        most = DENSEST["small" if is_small else found.name]
    else:
        most = DENSEST["images"] if geometry.input[3] >= CHANNELS else 0.0
    return found if kept.mean() <= most else None


def _matrix(kept: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns a pattern as a matrix [KH · KW · C, O]; entries of other groups are none."""
    kh, kw, inside, outputs = geometry.kernel
    groups = geometry.groups
    if groups == 1:
        return kept.reshape(-1, outputs)
    by_group = kept.reshape(kh * kw, inside, groups, outputs // groups)
    wide = np.zeros((kh * kw, groups, inside, groups, outputs // groups), bool)
    for group in range(groups):
        wide[:, group, :, group] = by_group[:, :, group]
    return wide.reshape(-1, outputs)


def _is_product(geometry: Geometry) -> bool:
    sizes = (*geometry.input[1:3], *geometry.kernel[:2], *geometry.output[1:3], geometry.groups)
    return sizes == (1,) * 7


def _block(matrix: np.ndarray) -> int:
    """Returns how many neighbouring outputs share their columns, as far as a tenth more entries."""
    columns, outputs = matrix.shape
    if outputs % BLOCK:
        return 1
    blocks = int(matrix.reshape(columns, -1, BLOCK).any(2).sum())
    return BLOCK if BLOCK * blocks <= 1.1 * matrix.sum() else 1


def _is_in_pairs(matrix: np.ndarray) -> bool:
    """Do all outputs have at most two entries in every four neighbouring inputs?"""
    inputs, outputs = matrix.shape
    return inputs % 4 == 0 and bool((matrix.reshape(-1, 4, outputs).sum(1) <= 2).all())
