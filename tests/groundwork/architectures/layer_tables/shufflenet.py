"""Zhang et al., arXiv:1707.01083, Table 1; Ma et al., arXiv:1807.11164, Table 5."""

import math

from tests.groundwork.architectures.layer_tables.layers import Table, conv, dense, norm

CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of v1's stage 2
REPEATS = [4, 8, 4]


def fitting(channels, groups):
    return groups * math.ceil(max(1, round(channels)) / groups)


def v1(classes, groups=3, width=1, small=False):
    below, side = fitting(24 * width, groups), 32 if small else 112
    listed, side = [conv(3, 3, below, side), norm(below)], 32 if small else 56
    for stage, repeats in enumerate(REPEATS):
        outputs = fitting(CHANNELS[groups] * 2**stage * width, groups)
        inside = fitting(outputs / 4, groups)
        for unit in range(repeats):
            before, side = side, side if unit else side // 2
            first = groups if stage or unit else 1
            added = outputs if unit else outputs - below
            listed += [conv(1, below, inside, before, groups=first), norm(inside)]
            listed += [conv(3, inside, inside, side, groups=inside), norm(inside)]
            listed += [conv(1, inside, added, side, groups=groups), norm(added)]
            below = outputs
    return [*listed, dense(below, classes)]


def v2(classes, channels=116, last=1024, small=False):
    side, below = 32 if small else 112, 24
    listed, side = [conv(3, 3, below, side), norm(below)], 32 if small else 56
    for stage, repeats in enumerate(REPEATS):
        half = channels * 2**stage // 2
        for unit in range(repeats):
            before, side = side, side if unit else side // 2
            if not unit:
                listed += [conv(3, below, below, side, groups=below), norm(below)]
                listed += [conv(1, below, half, side), norm(half)]
            listed += [conv(1, half if unit else below, half, before), norm(half)]
            listed += [conv(3, half, half, side, groups=half), norm(half)]
            listed += [conv(1, half, half, side), norm(half)]
            below = 2 * half
    return [*listed, conv(1, below, last, side), norm(last), dense(last, classes)]


TABLES = {  # Zhang et al.: 143, 140, 137, 133, 137 M for 1, 2, 3, 4, 8 groups; 38 M at half width
    "shufflenet_v1": Table(v1(1000), 1_865_728, 137_460_672),
    **{
        f"shufflenet_v1 groups={groups}": Table(v1(1000, groups), *pinned, {"groups": groups})
        for groups, pinned in {
            1: (1_531_936, 143_078_976),
            2: (1_733_848, 140_836_512),
            4: (1_968_344, 134_339_776),
            8: (2_434_768, 138_365_952),
        }.items()
    },
    "shufflenet_v1 half": Table(
        v1(1000, 8, 0.5), 1_011_448, 40_469_760, {"groups": 8, "width": 0.5}
    ),
    "shufflenet_v1_small": Table(v1(10, small=True), 914_338, 42_590_592, classes=10),
    # Ma et al., Tables 5 and 8: 2.3 M and 146 M; 1.4 M and 41 M; 7.4 M and 591 M
    "shufflenet_v2": Table(v2(1000), 2_278_604, 144_907_992),
    "shufflenet_v2 half": Table(v2(1000, 48), 1_366_792, 40_476_448, {"width": 0.5}),
    "shufflenet_v2 double": Table(v2(1000, 244, 2048), 7_393_996, 583_253_464, {"width": 2.0}),
    "shufflenet_v2_small": Table(v2(10, small=True), 1_263_854, 45_002_112, classes=10),
}
