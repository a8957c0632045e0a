"""Li et al., arXiv:1706.03912: the table of layers up to the fourth module, and what is assumed."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense, norm


def module(channels, side):
    """Reduction, the blocks `slice1` and `slice2` of 1×1 and 3×3 in four groups, recovery."""
    half, quarter = channels // 2, channels // 4
    return [
        *(conv(1, channels, half, side), norm(half)),
        *(conv(1, half, half, side, groups=4), conv(3, half, half, side, groups=4), norm(half)),
        conv(1, half, quarter, side, groups=4),
        conv(3, half, quarter, side, groups=4),
        norm(quarter),
        *(conv(1, quarter, channels, side), norm(channels)),
    ]


def layers(sides, classes):
    first, second, third, fourth, fifth = sides
    return [
        *(conv(5, 3, 64, first), norm(64), *module(64, first)),
        *(conv(3, 64, 128, second), norm(128), *module(128, second)),
        *(conv(3, 128, 256, third, groups=4), norm(256), *module(256, third) * 2),
        *(conv(3, 256, 256, fourth, groups=4), norm(256), *module(256, fourth) * 2),
        *(conv(3, 256, 256, fifth, groups=4), norm(256), *module(256, fifth)),
        dense(256, classes),
    ]


LARGE = layers((111, 56, 28, 14, 7), 1000)  # (224 + 2 - 5) / 2 + 1 = 111 (rounded down)
TABLES = {  # the paper: 1.3 M parameters
    "sep_net": Table(LARGE, 1_300_232, 778_583_488),
    "sep_net binary": Table(LARGE, 1_300_232, 778_583_488, {"binary": True}),
    "sep_net_small": Table(layers((32, 32, 16, 8, 4), 10), 1_045_802, 219_023_872, classes=10),
}
