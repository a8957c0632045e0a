"""One convolution: its sizes, strides and padding, and the three arrays that it relates.

The arrays are input, kernel and output. As a convolution is linear in the first two, any two of
the arrays determine the third: the output itself, or the gradient with respect to the input or to
the kernel. A role says which of the three is meant.
"""

# N batch, H W image, C channels, KH KW window, O channels out

import math
from typing import Any, Literal, NamedTuple

import numpy as np

Role = Literal["input", "kernel", "output"]
ROLES: tuple[Role, ...] = ("input", "kernel", "output")
Shape = tuple[int, ...]


class Geometry(NamedTuple):
    """One convolution, without dtype.

    Attributes:
      input: N, H, W, C.
      kernel: KH, KW, C / groups, O.
      output: N, OH, OW, O.
      strides: of the window, in rows and columns.
      padding: (top, bottom), (left, right); negative numbers crop.
      dilation: of the kernel, in rows and columns; 1 means none.
      groups: of channels.
      precision: as `jax.lax` takes it, for GPU and TPU.
    """

    input: Shape
    kernel: Shape
    output: Shape
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    precision: Any

    @property
    def multiply_adds(self) -> int:
        """MACs in any role; products with padding count."""
        return math.prod(self.output) * math.prod(self.kernel[:3])

    @property
    def sizes(self) -> Shape:
        """The sizes of all three arrays, one after the other."""
        return (*self.input, *self.kernel, *self.output)

    def shape(self, role: Role) -> Shape:
        """Returns the shape of the array in this role."""
        return {"input": self.input, "kernel": self.kernel, "output": self.output}[role]

    def of_batch(self, batch: int) -> "Geometry":
        """Returns the same convolution with another N."""
        return self._replace(input=(batch, *self.input[1:]), output=(batch, *self.output[1:]))

    def descriptor(self, role: Role, bits: int) -> np.ndarray:
        """Returns the convolution as `convolution.cc` reads it, [20] int64."""
        (n, h, w, c), (kh, kw, _, o), (_, oh, ow, _) = self.input, self.kernel, self.output
        (top, bottom), (left, right) = self.padding
        fields = [ROLES.index(role), bits, n, h, w, c, kh, kw, o, oh, ow, *self.strides]
        return np.array([*fields, top, bottom, left, right, *self.dilation, self.groups], np.int64)


def others(role: Role) -> list[Role]:
    """Returns the roles of the operands."""
    return [other for other in ROLES if other != role]
