"""Huang et al., arXiv:1608.06993, Table 1 and Section 4.1."""

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense, norm


def layers(stem, blocks, growth, side, *, narrow, kept=1.0, classes=10):
    """`stem`: its layers, of which the first has the channels; `narrow`: 1×1 before each 3×3."""
    channels, listed = stem[0], list(stem[1])
    for block, repeats in enumerate(blocks):
        if block:
            listed += [norm(channels), conv(1, channels, int(channels * kept), side)]
            channels, side = int(channels * kept), side // 2
        for _ in range(repeats):
            listed.append(norm(channels))
            if narrow:
                listed += [conv(1, channels, 4 * growth, side), norm(4 * growth)]
            listed.append(conv(3, 4 * growth if narrow else channels, growth, side))
            channels += growth
    return [*listed, norm(channels), dense(channels, classes)]


FORTY = layers((16, [conv(3, 3, 16, 32)]), (12,) * 3, 12, 32, narrow=False)
HUNDRED = layers((24, [conv(3, 3, 24, 32)]), (16,) * 3, 12, 32, narrow=True, kept=0.5)
STEM = (64, [conv(7, 3, 64, 112), norm(64)])
SMALL_STEM = (64, [conv(3, 3, 64, 32)])
DEEP = {"blocks": (6, 12, 24, 16), "growth": 32, "narrow": True, "kept": 0.5}
TABLES = {
    "densenet_40": Table(FORTY, 1_019_722, 264_812_928, classes=10),  # Table 2: 1.0 M
    "densenet_bc_100": Table(HUNDRED, 769_162, 287_929_692, classes=10),  # 0.8 M
    "densenet_121": Table(layers(STEM, side=56, **DEEP, classes=1000), 7_978_856, 2_834_161_664),
    "densenet_121_small": Table(
        layers(SMALL_STEM, side=32, **DEEP), 6_956_298, 888_350_720, classes=10
    ),
}
