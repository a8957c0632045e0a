"""SqueezeDet: SqueezeNet with a convolution in the end that says where which objects are."""

# B batch, A anchors, K anchors of a cell, C classes

import functools
from typing import ClassVar

import flax.linen as nn
import jax

from groundwork.architectures import layers
from groundwork.architectures.compact.squeezenet import DROPOUT, Fire, SqueezeNet11, trunk
from groundwork.architectures.initializers import scaled

FIRES = {10: (96, 384), 11: (96, 384)}  # beside SqueezeNet's; channels as there
BOX, CONFIDENCE = 4, 1  # numbers of each anchor beside those of the classes


class SqueezeDet(SqueezeNet11):
    """SqueezeNet 1.1 without its classifier, two fire modules, dropout, and ConvDet.

    [B, H, W, channels] → [B, A, 5 + classes]: for each of `anchors` boxes at each cell of 16×16
    pixels, A = H / 16 · W / 16 · anchors in the order of `groundwork.detection.Grid.anchors`, the
    changes of the box, the logit of the confidence and the logits of the classes, all as ConvDet
    gives them. ConvDet is a 3×3 convolution to anchors · (5 + classes) channels without an
    activation. 2,082,120 parameters for 3 channels, 9 anchors and KITTI's 3 classes (the paper:
    7.9 MB). Images must be whole numbers of cells high and wide.

    Attributes:
      classes: C, the number of kinds of objects.
      width: multiplies all channels but ConvDet's outputs.
      dtype: the type in which layers compute.
      bypass: as of `SqueezeNet`; none is published for this network.
      anchors: K, the number of shapes of anchors.

    Source: Wu et al., arXiv:1612.01051, and the authors' code, BichenWuUCB/squeezeDet, which
    padding (SAME, of pooling too) and ConvDet's initialiser (normal, deviation 0.0001) are taken
    from. Departs: the numbers of one anchor stand together, where theirs stand by kind; kernels
    start as He normal, since nothing here is trained before, where the authors take those of a
    trained SqueezeNet and a deviation of 0.001 for fire modules 10 and 11. KITTI's images have
    24×78 cells, as in that code, where the paper has 22×76: those of 375×1242 pixels and
    convolutions without padding, to which its 9.7 billion operations belong as well.
    """

    image: ClassVar = (384, 1248, 3)
    settings: ClassVar[tuple[str, ...]] = ("bypass", "anchors")

    padding: str = "SAME"
    anchors: int = 9

    def __post_init__(self) -> None:
        if self.anchors < 1:
            raise ValueError(f"anchors={self.anchors} must be at least 1")
        super().__post_init__()

    @property
    def stride(self) -> int:
        """The height and width of a cell, in pixels."""
        return self.stem[2] * 2 ** len(self.pooled)

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        _check_cells(layers.as_images(inputs), self.stride)
        conv = functools.partial(layers.conv, dtype=self.dtype)
        x = trunk(self, inputs, layers.he)
        for number, (squeeze, expand) in FIRES.items():
            squeeze, expand = scaled(squeeze, self.width), scaled(expand, self.width)
            x = Fire(squeeze, expand, self.dtype, layers.he, name=f"fire{number}")(x)
        x = nn.Dropout(DROPOUT, deterministic=not train)(x)
        numbers = BOX + CONFIDENCE + self.classes
        outputs, init = self.anchors * numbers, nn.initializers.normal(0.0001)
        x = conv(outputs, 3, name="output", kernel_init=init)(x)
        return x.reshape((x.shape[0], -1, numbers))


class SqueezeDetSmall(SqueezeDet):
    """For small images, such as 64×64, by default with 3 anchors at each cell of 8×8 pixels.

    The first convolution has stride 1; no paper has this form. 1,894,317 parameters for 1 channel
    and 10 classes.
    """

    image: ClassVar = (64, 64, 1)
    stem: tuple[int, int, int] = (64, 3, 1)
    anchors: int = 3


def _check_cells(images: jax.Array, stride: int) -> None:
    height, width = images.shape[1:3]
    if not height or not width or height % stride or width % stride:
        raise ValueError(
            f"images must be multiples of {stride} pixels high and wide, not {height}×{width}"
        )
