"""What the networks are held to: layer rules, counts and forward passes in plain loops and numpy.

Source: Huang et al., arXiv:1703.09844, Section 4; gaohuang/MSDNet and kalviny/MSDNet-PyTorch where
it is silent. Scales are numbered from the finest, 0; layers from 1.
"""

import math

import numpy as np

from tests.groundwork.architectures.references import Evaluated, at, convolve, dense, relu

PAPER = dict(  # CIFAR-100, anytime
    classes=100,
    blocks=7,
    base=4,
    step=2,
    step_mode="even",
    channels=16,
    growth=6,
    growth_factors=(1, 2, 4),
    bottleneck_factors=(1, 2, 4),
    reduction=0.5,
    prune="max",
    stem="cifar",
    head=128,
)
SMALL = {**PAPER, "classes": 5, "blocks": 3, "base": 2, "step": 1, "head": 4}
SMALL |= {"channels": 3, "growth": 2}


def exit_layers(c):
    """The number of each exit's last layer."""
    found = [c["base"]]
    while len(found) < c["blocks"]:
        more = c["step"] if c["step_mode"] == "even" else c["step"] * len(found) + 1
        found.append(found[-1] + more)
    return found


def written(c, number):
    """The finest scale that a layer writes; 0 = the first layer, the stem."""
    scales, total = len(c["growth_factors"]), exit_layers(c)[-1]
    if number == 0:
        return 0
    if c["prune"] == "min":  # a scale needs a layer for each step down to the coarsest
        return max(0, scales - 1 - (total - number))
    return (number - 1) // math.ceil(total / scales)


def reduces(c, number):
    """Is there a transition behind the layer?"""
    total = exit_layers(c)[-1]
    if c["reduction"] == 0:
        return False
    if c["prune"] == "min":
        return number in (total // 3, 2 * total // 3)
    return written(c, number) > written(c, number - 1)


class Tally:
    """Parameters and multiply-adds of convolutions with BatchNorm, and of linear layers."""

    def __init__(self):
        self.params = self.macs = 0

    def conv(self, size, inputs, outputs, area):
        self.params += size * size * inputs * outputs + 2 * outputs
        self.macs += size * size * inputs * outputs * area

    def step(self, inputs, outputs, bottleneck, read, wrote):
        """Pixels that are read, that are written."""
        if bottleneck:
            inner = min(inputs, bottleneck * outputs)
            self.conv(1, inputs, inner, read)
            inputs = inner
        self.conv(3, inputs, outputs, wrote)

    def linear(self, inputs, outputs):
        self.params += (inputs + 1) * outputs
        self.macs += inputs * outputs


def counts(c, shape):
    """An exit each: parameters alone, multiply-adds alone; both with all heads so far."""
    height, width, colours = shape
    factors, bottlenecks = c["growth_factors"], c["bottleneck_factors"]
    scales, trunk, heads, found = len(factors), Tally(), Tally(), []

    def area(halvings):
        return math.ceil(height / 2**halvings) * math.ceil(width / 2**halvings)

    before = 2 if c["stem"] == "imagenet" else 0
    if before:
        trunk.conv(7, colours, c["channels"] * factors[0], area(1))
    else:
        trunk.conv(3, colours, c["channels"] * factors[0], area(0))
    for s in range(1, scales):
        trunk.conv(3, c["channels"] * factors[s - 1], c["channels"] * factors[s], area(before + s))
    pixels = [area(before + s) for s in range(scales)]
    depth, finest = c["channels"], 0  # channels a unit of growth factor
    for number in range(1, exit_layers(c)[-1] + 1):
        for s in range(written(c, number), scales):
            new = c["growth"] * factors[s]
            if s > finest:
                finer = depth * factors[s - 1], new // 2, bottlenecks[s - 1]
                trunk.step(*finer, pixels[s - 1], pixels[s])
                new //= 2
            trunk.step(depth * factors[s], new, bottlenecks[s], pixels[s], pixels[s])
        finest = written(c, number)
        depth += c["growth"]
        if reduces(c, number):
            kept = max(1, int(c["reduction"] * depth))
            for s in range(finest, scales):
                trunk.conv(1, depth * factors[s], kept * factors[s], pixels[s])
            depth = kept
        if number in exit_layers(c):
            head, inputs = Tally(), depth * factors[-1]
            inner = c["head"] or inputs
            head.conv(3, inputs, inner, area(before + scales))
            head.conv(3, inner, inner, area(before + scales + 1))
            head.linear(inner, c["classes"])
            heads.params, heads.macs = heads.params + head.params, heads.macs + head.macs
            alone = trunk.params + head.params, trunk.macs + head.macs
            found.append((*alone, trunk.params + heads.params, trunk.macs + heads.macs))
    return found


def pool_3x3(x):
    """The largest of each 3×3, stride 2, padded by one."""
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return windows[:, ::2, ::2].max((-1, -2))


def forward(c, variables, images):
    """Logits of all exits, [B, H, W, colours] → K × [B, classes]."""
    params = variables["params"]
    norm = Evaluated(params, variables["batch_stats"])
    scales = range(len(c["growth_factors"]))

    def unit(place, x, strides=1):
        kernel = at(params, place)["conv"]
        x = convolve(kernel, x, padding=kernel["kernel"].shape[0] // 2, strides=strides)
        return relu(norm(f"{place}/bn", x))

    def step(place, x, strides):
        if "bottleneck" in at(params, place):
            x = unit(f"{place}/bottleneck", x)
        return unit(f"{place}/conv", x, strides)

    if c["stem"] == "imagenet":
        maps = {0: pool_3x3(unit("backbone_0/stem/scale0", images, 2))}
    else:
        maps = {0: unit("backbone_0/stem/scale0", images)}
    for s in scales[1:]:
        maps[s] = unit(f"backbone_0/stem/scale{s}", maps[s - 1], 2)
    found, block, first = [], 0, 1
    for number in range(1, exit_layers(c)[-1] + 1):
        place, grown = f"backbone_{block}/layer{number - first}", {}
        for s in scales[written(c, number) :]:
            parts = [maps[s]]
            if s - 1 in maps:
                parts.append(step(f"{place}_{s}_finer", maps[s - 1], 2))
            grown[s] = np.concatenate([*parts, step(f"{place}_{s}_own", maps[s], 1)], -1)
        maps = grown
        if reduces(c, number):
            place = f"backbone_{block}/transition{number - first}"
            maps = {s: unit(f"{place}_{s}", x) for s, x in maps.items()}
        if number in exit_layers(c):
            x, head = maps[scales[-1]], f"classifier_{block}"
            for name in ("conv1", "conv2"):
                x = unit(f"{head}/{name}", x, 2)
            found.append(dense(params[head]["linear"], x.mean((1, 2))))
            block, first = block + 1, number + 1
    return found
