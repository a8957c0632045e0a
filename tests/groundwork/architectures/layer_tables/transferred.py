"""A small network, and what each kind of transferred filters leaves of its weights and work."""

from tests.groundwork.architectures.layer_tables.layers import Cost, Table, conv, dense, norm

SIDES, CHANNELS = (32, 16, 8, 4), (16, 32, 64, 128)


def layers(weights=1, work=1, normed=1, features=128):
    """Fractions of the plain network's: of its kernels, their multiply-adds, its BatchNorm."""
    listed, below = [], 3
    for side, channels in zip(SIDES, CHANNELS, strict=True):
        whole = conv(3, below, channels, side)
        listed.append(Cost(round(whole.parameters * weights), round(whole.multiply_adds * work)))
        listed.append(norm(round(channels * normed)))
        below = channels
    return [*listed, dense(features, 10)]


def table(parameters, multiply_adds, section=None, **fractions):
    return Table(layers(**fractions), parameters, multiply_adds, section or {}, classes=10)


EIGHTH = {"weights": 1 / 8, "normed": 1 / 8, "features": 16}
FOURTH = {"weights": 1 / 4, "normed": 1 / 4, "features": 32}
TABLES = {
    "plain_small": table(98_970, 3_982_592),
    "crelu_small": table(50_130, 1_991_936, weights=1 / 2, work=1 / 2, normed=1 / 2),
    "cyclic_small": table(12_380, 3_981_472, **EIGHTH),
    "cyclic_small rotations": table(24_750, 3_981_632, {"flips": False}, **FOURTH),
    "doubly_small": table(44_970, 3_982_592, weights=4 / 9),  # 4×4 for four of 3×3
    "doubly_small maxout": table(98_970, 15_926_528, {"meta": 6, "pool": 2}, work=4),
}
