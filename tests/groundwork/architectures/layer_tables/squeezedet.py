"""Wu et al., arXiv:1612.01051: SqueezeNet 1.1 up to fire 9, fires 10 and 11, ConvDet."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv
from tests.groundwork.architectures.layer_tables.squeezenet import FIRES, fire


def layers(rows, columns, strides, channels, anchors, classes):
    """`rows` and `columns` of the image; every stride halves them exactly."""
    side = (rows // strides, columns // strides)
    listed, below = [conv(3, channels, 64, side, bias=True)], 64
    for place, (squeeze, expand) in enumerate([*FIRES, (96, 384), (96, 384)], 2):
        if place in (2, 4, 6):  # pooling comes before
            side = (side[0] // 2, side[1] // 2)
        listed += fire(below, squeeze, expand, side)
        below = 2 * expand
    return [*listed, conv(3, below, anchors * (classes + 1 + 4), side, bias=True)]


TABLES = {  # the paper: 7.9 MB, 2.07 M numbers of four bytes
    "squeezedet": Table(layers(384, 1248, 2, 3, 9, 3), 2_082_120, 5_283_053_568, classes=3),
    "squeezedet_small": Table(layers(64, 64, 1, 1, 3, 10), 1_894_317, 163_954_688, classes=10),
}
