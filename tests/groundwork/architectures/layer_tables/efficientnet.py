"""Tan & Le, arXiv:1905.11946, Table 1, as released; Lite without squeeze-and-excite."""

import math

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense, norm

STAGES = [  # expansion, window, strides, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]


def eights(channels):
    """The nearest multiple of 8, the larger of two, never less than nine tenths."""
    nearest = max(8, math.floor(channels / 8 + 0.5) * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def layers(lite, small, classes, width=1.0, depth=1.0, side=112):
    side = 32 if small else side
    below, head = (32, 1280) if lite else (eights(32 * width), eights(1280 * width))
    listed = [conv(3, 3, below, side), norm(below)]
    for stage, (expansion, k, strides, channels, blocks) in enumerate(STAGES):
        outputs = eights(channels * width)
        blocks = blocks if lite and stage in (0, 6) else math.ceil(blocks * depth)
        for block in range(blocks):
            inside, before = expansion * below, side
            halved = strides == 2 and not block and not (small and stage == 1)
            side = -(-side // 2) if halved else side
            if expansion > 1:
                listed += [conv(1, below, inside, before), norm(inside)]
            listed += [conv(k, inside, inside, side, groups=inside), norm(inside)]
            if not lite:
                reduced = below // 4
                listed += [dense(inside, reduced), dense(reduced, inside)]
            listed += [conv(1, inside, outputs, side), norm(outputs)]
            below = outputs
    return [*listed, conv(1, below, head, side), norm(head), dense(head, classes)]


# The paper: 5.3 M and 0.39 B; B3: 12 M, and 1.8 B at 300 × 300. Lite0's release: 4.7 M and 407 M.
TABLES = {
    "efficientnet_b0": Table(layers(False, False, 1000), 5_288_548, 385_814_752),
    "efficientnet_lite0": Table(layers(True, False, 1000), 4_652_008, 385_187_552),
    "efficientnet_b0_small": Table(layers(False, True, 10), 4_020_358, 116_167_168, classes=10),
    "efficientnet_lite0_small": Table(layers(True, True, 10), 3_383_818, 115_539_968, classes=10),
    "efficientnet_b0 as b3": Table(
        layers(False, False, 1000, 1.2, 1.4), 12_233_232, 962_708_240, {"width": 1.2, "depth": 1.4}
    ),
}
