"""Simonyan & Zisserman, arXiv:1409.1556, Table 1, column D."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense

PAIRS = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
PAIRS += [(256, 512)] + [(512, 512)] * 5


def layers(sides, features, units, classes):
    listed = [conv(3, i, o, side, bias=True) for (i, o), side in zip(PAIRS, sides, strict=True)]
    return [*listed, dense(features, units), dense(units, units), dense(units, classes)]


LARGE = layers([224] * 2 + [112] * 2 + [56] * 3 + [28] * 3 + [14] * 3, 7 * 7 * 512, 4096, 1000)
SMALL = layers([32] * 2 + [16] * 2 + [8] * 3 + [4] * 6, 4 * 4 * 512, 512, 10)
TABLES = {  # the paper, Table 2: 138 M parameters
    "vgg_16_imagenet": Table(LARGE, 138_357_544, 15_470_264_320),
    "vgg_16_imagenet_small": Table(SMALL, 19_177_290, 402_592_768, classes=10),
}
