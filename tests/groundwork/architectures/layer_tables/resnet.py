"""He et al., arXiv:1512.03385, Table 1."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense, norm


def layers(blocks, bottleneck, small, classes):
    side, stem = (32, 3) if small else (56, 7)
    listed = [conv(stem, 3, 64, 32 if small else 112), norm(64)]
    below = 64
    for stage, repeats in enumerate(blocks):
        width = 64 << stage
        outputs = 4 * width if bottleneck else width
        for block in range(repeats):
            before = side
            side = side // 2 if stage and not block else side
            if bottleneck:
                listed += [conv(1, below, width, before), norm(width)]
                listed += [conv(3, width, width, side), norm(width)]
                listed += [conv(1, width, outputs, side), norm(outputs)]
            else:
                listed += [conv(3, below, width, side), norm(width)]
                listed += [conv(3, width, width, side), norm(width)]
            if below != outputs:
                listed += [conv(1, below, outputs, side), norm(outputs)]
            below = outputs
    return [*listed, dense(below, classes)]


EIGHTEEN, FIFTY = (2, 2, 2, 2), (3, 4, 6, 3)
TABLES = {  # the paper: 1.8e9 and 3.8e9 "FLOPs", its own stride in bottlenecks
    "resnet_18": Table(layers(EIGHTEEN, False, False, 1000), 11_689_512, 1_814_073_344),
    "resnet_50": Table(layers(FIFTY, True, False, 1000), 25_557_032, 4_089_184_256),
    "resnet_18_small": Table(
        layers(EIGHTEEN, False, True, 10), 11_173_962, 555_422_720, classes=10
    ),
    "resnet_50_small": Table(layers(FIFTY, True, True, 10), 23_520_842, 1_297_829_888, classes=10),
}
