"""National Taiwan University's homework 7 of 2020: blocks after a 3×3 convolution; 32×32 images."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense, norm

BLOCKS = [(32, 16), (64, 8), (128, 4), (256, 2), (256, 2), (256, 2), (256, 2)]  # channels, side


def layers(classes):
    listed, below = [conv(3, 3, 16, 32, bias=True), norm(16)], 16
    for channels, side in BLOCKS:
        listed += [conv(3, below, below, side, groups=below, bias=True), norm(below)]
        listed += [conv(1, below, channels, side, bias=True)]
        below = channels
    return [*listed, dense(below, classes)]


TABLES = {"student_net": Table(layers(10), 256_522, 1_852_416, classes=10)}
