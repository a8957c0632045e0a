"""Which layers are computed from the entries of their kernels that are not zero, and in what form.

`sparse.h` computes them. `chosen` says whether that is faster than oneDNN's dense layer, by rules
whose numbers `python -m benchmarks.sparse --crossover` measures.
"""

# N batch, H W image, C O channels in and out, KH KW window

import math
from typing import Literal, NamedTuple

import numpy as np

from groundwork.architectures.cpu.geometry import Geometry

FORMS = ("rows", "lanes", "pairs")  # as `sparse.h` has them
LANES = 16
MOST = 1 << 16  # columns that an index of 16 bits tells apart
BLOCK = 4  # neighbouring outputs in a block of 1×4
FEW = 3  # examples of a product for which lanes gather inputs


class Form(NamedTuple):
    """What is stored of a kernel; these numbers do not change between kernels of one pattern.

    Attributes:
      name: `rows`: the entries of each output; `lanes`: those of sixteen outputs side by side, for
        products of few examples; `pairs`: likewise, with two entries in every four inputs.
      block: neighbouring outputs that share their inputs, 1 or 4.
      stored: of rows the entries, or blocks of them; of lanes the steps of sixteen entries.
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
    matrix = _matrix(kept, geometry)
    if len(matrix) > MOST or not math.prod(geometry.sizes):
        return None
    block = _block(matrix)
    units = matrix.reshape(len(matrix), -1, block).any(2)  # [columns, O / block]
    columns = int(units.any(1).sum())
    few = geometry.input[0] <= FEW and _is_product(geometry)
    if few and len(matrix) % 4 == 0 and 2 * _in_pairs(matrix) < 3 * _steps(units, block) * LANES:
        return Form("pairs", 1, 0, columns)
    if few:
        return Form("lanes", block, _steps(units, block), columns)
    return Form("rows", block, int(units.sum()), columns)


def chosen(kept: np.ndarray, geometry: Geometry) -> Form | None:
    """Returns the form in which a layer is faster than as oneDNN's dense one; None if it is none.

    Args:
      kept: see `form`.
      geometry: of the layer.
    """
    return form(kept, geometry)


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


def _steps(units: np.ndarray, block: int) -> int:
    """Returns the steps of lanes whose units are sorted by their number of entries."""
    counts = np.sort(units.sum(0))[::-1]
    return int(counts[:: LANES // block].sum())


def _in_pairs(matrix: np.ndarray) -> float:
    """Returns how many entries pairs have room for; infinitely many if some four have three."""
    inputs, outputs = matrix.shape
    if (matrix.reshape(inputs // 4, 4, outputs).sum(1) > 2).any():
        return math.inf
    return inputs // 2 * -(-outputs // LANES) * LANES
