"""Howard et al., arXiv:1704.04861, Table 1; Sandler et al., arXiv:1801.04381, Table 2."""

from tests.groundwork.architectures.layer_tables.efficientnet import eights
from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense, norm

V1 = "s1 64, s2 128, s1 128, s2 256, s1 256, s2 512, 5 × s1 512, s2 1024, s1 1024"
V2 = [  # t, c, n, s
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def v1(classes, width=1, resolution=224, small=False, shallow=False):
    side = resolution if small else -(-resolution // 2)
    below, kept = round(32 * width), 1 if small else 0  # kept: halvings left out
    listed = [conv(3, 3, below, side), norm(below)]
    for row in V1.split(", "):
        times, _, block = row.rpartition(" × ")
        strides, channels = block.split(" ")
        if times and shallow:
            continue
        for _ in range(int(times or 1)):
            if strides == "s2":
                side, kept = (side, kept - 1) if kept else (-(-side // 2), kept)
            outputs = round(int(channels) * width)
            listed += [conv(3, below, below, side, groups=below), norm(below)]
            listed += [conv(1, below, outputs, side), norm(outputs)]
            below = outputs
    return [*listed, dense(below, classes)]


def v2(classes, width=1.0, small=False):
    below, side = eights(32 * width), 32 if small else 112
    listed = [conv(3, 3, below, side), norm(below)]
    for stage, (t, c, n, s) in enumerate(V2):
        outputs = eights(c * width)
        for block in range(n):
            inside, before = t * below, side
            side = side // 2 if s == 2 and not block and not (small and stage == 1) else side
            if t > 1:
                listed += [conv(1, below, inside, before), norm(inside)]
            listed += [conv(3, inside, inside, side, groups=inside), norm(inside)]
            listed += [conv(1, inside, outputs, side), norm(outputs)]
            below = outputs
    last = eights(1280 * max(1, width))
    return [*listed, conv(1, below, last, side), norm(last), dense(last, classes)]


TABLES = {  # Howard et al.: 4.2 M and 569 M; 0.5 M and 41 M; 2.9 M and 307 M
    "mobilenet_v1": Table(v1(1000), 4_231_976, 568_740_352),
    "mobilenet_v1 quarter": Table(v1(1000, 0.25), 470_072, 41_030_272, {"width": 0.25}),
    "mobilenet_v1 shallow": Table(
        v1(1000, shallow=True), 2_887_976, 307_323_392, {"shallow": True}
    ),
    "mobilenet_v1_small": Table(v1(10, 1, 32, small=True), 3_217_226, 175_556_608, classes=10),
    # Sandler et al.: 3.4 M and 300 M; 6.9 M, which their table is not, and 585 M
    "mobilenet_v2": Table(v2(1000), 3_504_872, 300_774_272),
    "mobilenet_v2 wide": Table(v2(1000, 1.4), 6_108_776, 582_195_824, {"width": 1.4}),
    "mobilenet_v2_small": Table(v2(10, small=True), 2_236_682, 87_976_448, classes=10),
}
