"""The anchors of an image: boxes of a few shapes at every cell of a grid."""

# A anchors, K shapes

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """The images of a detector, its cells, and the shapes of a cell's anchors.

    Attributes:
      height: of images, in pixels; a multiple of `stride`.
      width: likewise.
      stride: the height and width of a cell, in pixels.
      shapes: K pairs of width and height of an anchor, in pixels.
    """

    height: int
    width: int
    stride: int
    shapes: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        sizes = (self.height, self.width, self.stride)
        if min(sizes) < 1 or self.height % self.stride or self.width % self.stride:
            raise ValueError(
                f"images of {self.height}×{self.width} have no whole cells of {self.stride} pixels"
            )
        if not self.shapes or any(len(s) != 2 or not min(s) > 0 for s in self.shapes):
            raise ValueError(f"shapes={self.shapes} must be pairs of positive width and height")

    @property
    def cells(self) -> tuple[int, int]:
        """The number of rows and of columns of cells."""
        return self.height // self.stride, self.width // self.stride

    @property
    def anchors(self) -> np.ndarray:
        """The anchors [A, 4] float32: A = rows × columns × K, the shapes of one cell together.

        Centres divide the image evenly: that of row r, counted from 0, is at height · (r + 1) /
        (rows + 1). Source: the code of Wu et al., BichenWuUCB/squeezeDet.
        """
        rows, columns = self.cells
        y = self.height * np.arange(1, rows + 1) / (rows + 1)
        x = self.width * np.arange(1, columns + 1) / (columns + 1)
        made = np.empty((rows, columns, len(self.shapes), 4), np.float32)
        made[..., 0], made[..., 1] = x[:, None], y[:, None, None]
        made[..., 2:] = self.shapes
        return made.reshape(-1, 4)


KITTI = Grid(
    height=384,
    width=1248,
    stride=16,
    shapes=(
        (36.0, 37.0),
        (366.0, 174.0),
        (115.0, 59.0),
        (162.0, 87.0),
        (38.0, 90.0),
        (258.0, 173.0),
        (224.0, 108.0),
        (78.0, 170.0),
        (72.0, 43.0),
    ),
)
"""The published anchors for KITTI, 24×78 cells of 9 (16,848), as in the authors' code.

The paper speaks of 22×76 cells, which convolutions without padding leave of 375×1242 pixels.
"""

SMALL = Grid(height=64, width=64, stride=8, shapes=((10.0, 15.0), (14.0, 20.0), (19.0, 26.0)))
"""Anchors for the digits of `digit_canvases`, which are 13 to 29 pixels high: 8×8 cells of 3."""

GRIDS = {"kitti": KITTI, "small": SMALL}
