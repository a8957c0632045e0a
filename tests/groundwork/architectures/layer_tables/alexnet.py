"""Krizhevsky et al. 2012, Section 3.5 and Figure 2; arXiv:1404.5997 in torchvision's channels."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense

ONE_TOWER = [
    conv(11, 3, 64, 55, bias=True),
    conv(5, 64, 192, 27, bias=True),
    conv(3, 192, 384, 13, bias=True),
    conv(3, 384, 256, 13, bias=True),
    conv(3, 256, 256, 13, bias=True),
    dense(6 * 6 * 256, 4096),
    dense(4096, 4096),
    dense(4096, 1000),
]
TWO_TOWERS = [  # the third convolution sees both
    conv(11, 3, 96, 55, bias=True),
    conv(5, 96, 256, 27, groups=2, bias=True),
    conv(3, 256, 384, 13, bias=True),
    conv(3, 384, 384, 13, groups=2, bias=True),
    conv(3, 384, 256, 13, groups=2, bias=True),
    *ONE_TOWER[5:],
]
SMALL = [
    conv(3, 3, 64, 32, bias=True),
    conv(5, 64, 192, 16, bias=True),
    conv(3, 192, 384, 8, bias=True),
    conv(3, 384, 256, 8, bias=True),
    conv(3, 256, 256, 8, bias=True),
    dense(4 * 4 * 256, 512),
    dense(512, 512),
    dense(512, 10),
]
TABLES = {
    "alexnet": Table(ONE_TOWER, 61_100_840, 714_188_480),
    "alexnet towers=2": Table(TWO_TOWERS, 60_965_224, 724_406_816, {"towers": 2}),
    "alexnet_small": Table(SMALL, 4_813_642, 219_616_256, classes=10),
}
