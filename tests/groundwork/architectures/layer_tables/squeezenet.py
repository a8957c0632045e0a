"""Iandola et al., arXiv:1602.07360, Table 1; 1.1 as the authors' repository has it."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv

FIRES = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
VERSIONS = {  # channels of the first convolution, its window; what pooling follows: 1, or fires
    "1_0": (96, 7, (1, 4, 8)),
    "1_1": (64, 3, (1, 3, 5)),
}


def fire(below, squeeze, expand, side):
    return [
        conv(1, below, squeeze, side, bias=True),
        conv(1, squeeze, expand, side, bias=True),
        conv(3, squeeze, expand, side, bias=True),
    ]


def layers(version, small=False, classes=1000, bypass="none"):
    channels, window, pooled = VERSIONS[version]
    side = 32 if small else (224 - window) // 2 + 1
    listed = [conv(3 if small else window, 3, channels, side, bias=True)]
    for place in range(1, 10):
        if place > 1:
            squeeze, expand = FIRES[place - 2]
            listed += fire(channels, squeeze, expand, side)
            if bypass == "complex" and place % 2 == 0:  # Figure 2, right
                listed += [conv(1, channels, 2 * expand, side, bias=True)]
            channels = 2 * expand
        if place in pooled:
            side = -(-(side - 3) // 2) + 1  # Caffe's: the last window may end beyond the image
    return [*listed, conv(1, channels, classes, side, bias=True)]


TABLES = {  # the paper: 4.8 MB, which are 1.25 M numbers; torchvision: 0.82 and 0.35 G
    "squeezenet_1_0": Table(layers("1_0"), 1_248_424, 818_924_576),
    "squeezenet_1_1": Table(layers("1_1"), 1_235_496, 349_151_936),
    "squeezenet_1_0 bypass=simple": Table(
        layers("1_0"), 1_248_424, 818_924_576, {"bypass": "simple"}
    ),
    "squeezenet_1_0 bypass=complex": Table(
        layers("1_0", bypass="complex"), 1_589_672, 1_165_298_720, {"bypass": "complex"}
    ),
    "squeezenet_1_0_small": Table(layers("1_0", True, 10), 729_034, 52_543_488, classes=10),
    "squeezenet_1_1_small": Table(layers("1_1", True, 10), 727_626, 23_511_040, classes=10),
}
