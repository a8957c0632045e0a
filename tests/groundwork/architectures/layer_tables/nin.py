"""Lin et al., arXiv:1312.4400, in the authors' forms for Caffe."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv

IMAGENET = [  # side: (224 - 11) / 4 + 1, then ⌈(54 - 3) / 2⌉ + 1, 13, 6
    (11, 3, 96, 54),
    (1, 96, 96, 54),
    (1, 96, 96, 54),
    (5, 96, 256, 27),
    (1, 256, 256, 27),
    (1, 256, 256, 27),
    (3, 256, 384, 13),
    (1, 384, 384, 13),
    (1, 384, 384, 13),
    (3, 384, 1024, 6),
    (1, 1024, 1024, 6),
    (1, 1024, 1000, 6),
]
CIFAR = [
    (5, 3, 192, 32),
    (1, 192, 160, 32),
    (1, 160, 96, 32),
    (5, 96, 192, 16),
    (1, 192, 192, 16),
    (1, 192, 192, 16),
    (3, 192, 192, 8),
    (1, 192, 192, 8),
    (1, 192, 10, 8),
]
TABLES = {  # the authors: 29 MB, which is 7.6 M of float32; 0.97 M
    "nin": Table([conv(*row, bias=True) for row in IMAGENET], 7_595_176, 1_100_188_800),
    "nin_small": Table([conv(*row, bias=True) for row in CIFAR], 966_986, 222_486_528, classes=10),
}
