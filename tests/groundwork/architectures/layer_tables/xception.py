"""Chollet, arXiv:1610.02357, Figure 5."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense, norm


def separable(i, o, side):
    return [conv(3, i, i, side, groups=i), conv(1, i, o, side), norm(o)]


def layers(classes, sides):
    """`sides` of the images after the first two convolutions and after each halving."""
    first, second, *sides = sides
    listed = [conv(3, 3, 32, first), norm(32), conv(3, 32, 64, second), norm(64)]
    below, before = 64, second
    for channels, side in zip([128, 256, 728], sides, strict=False):  # the entry flow
        listed += separable(below, channels, before) + separable(channels, channels, before)
        listed += [conv(1, below, channels, side), norm(channels)]
        below, before = channels, side
    listed += 24 * separable(728, 728, before)  # the middle flow, eight times three
    listed += separable(728, 728, before) + separable(728, 1024, before)  # the exit flow
    listed += [conv(1, 728, 1024, sides[-1]), norm(1024)]
    listed += separable(1024, 1536, sides[-1]) + separable(1536, 2048, sides[-1])
    return [*listed, dense(2048, classes)]


TABLES = {  # the paper, Table 3: 22,855,952
    "xception": Table(layers(1000, (149, 147, 74, 37, 19, 10)), 22_855_952, 8_357_403_496),
    "xception_small": Table(
        layers(10, (32, 32, 32, 16, 8, 4)), 20_827_442, 1_359_655_936, classes=10
    ),
}
