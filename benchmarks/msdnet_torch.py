"""A plain PyTorch MSDNet for CIFAR, for `benchmarks.convolution`, with the layers of the paper.

Scales are numbered from the finest; `alive` is the finest scale that a layer still writes.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

FACTORS = (1, 2, 4)  # of growth and of bottlenecks, for each scale
Features = Mapping[int, torch.Tensor]  # scale → [B, C, H, W]


def unit(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def bottlenecked(inputs: int, outputs: int, factor: int, stride: int = 1) -> nn.Sequential:
    inner = min(inputs, factor * outputs)
    return nn.Sequential(unit(inputs, inner, 1), unit(inner, outputs, 3, stride))


class Layer(nn.Module):
    """Adds channels to each scale that is alive: from itself, and from the next finer scale."""

    def __init__(self, width: int, growth: int, before: int, alive: int) -> None:
        super().__init__()
        self.before, self.alive = before, alive
        self.own, self.finer = nn.ModuleDict(), nn.ModuleDict()
        for scale in range(alive, len(FACTORS)):
            factor, new = FACTORS[scale], growth * FACTORS[scale]
            if scale == before:
                self.own[str(scale)] = bottlenecked(width * factor, new, factor)
                continue
            below = FACTORS[scale - 1]
            self.own[str(scale)] = bottlenecked(width * factor, new // 2, factor)
            self.finer[str(scale)] = bottlenecked(width * below, new // 2, below, 2)

    def forward(self, features: Features) -> Features:
        grown = {}
        for scale in range(self.alive, len(FACTORS)):
            parts = [features[scale]]
            if str(scale) in self.finer:
                parts.append(self.finer[str(scale)](features[scale - 1]))
            parts.append(self.own[str(scale)](features[scale]))
            grown[scale] = torch.cat(parts, 1)
        return grown


class Transition(nn.Module):
    def __init__(self, width: int, kept: int, alive: int) -> None:
        super().__init__()
        scales = range(alive, len(FACTORS))
        made = {str(s): unit(width * FACTORS[s], kept * FACTORS[s], 1) for s in scales}
        self.reduce = nn.ModuleDict(made)

    def forward(self, features: Features) -> Features:
        return {int(scale): layer(features[int(scale)]) for scale, layer in self.reduce.items()}


class MSDNet(nn.Module):
    """The 5-exit CIFAR network with linearly growing spans: 1, 2, 3, 4, 5 layers."""

    def __init__(
        self, exits: int = 5, channels: int = 16, growth: int = 6, classes: int = 10
    ) -> None:
        super().__init__()
        spans = [1, *(k + 1 for k in range(1, exits))]
        life = math.ceil(sum(spans) / len(FACTORS))  # layers between the ends of two scales
        self.stem = nn.ModuleList()
        inputs = 3
        for scale, factor in enumerate(FACTORS):
            self.stem.append(unit(inputs, channels * factor, 3, 2 if scale else 1))
            inputs = channels * factor
        self.blocks, self.heads = nn.ModuleList(), nn.ModuleList()
        width, number = channels, 0
        for span in spans:
            block = []
            for _ in range(span):
                before, alive = max(0, number - 1) // life, number // life
                block.append(Layer(width, growth, before, alive))
                width += growth
                if alive > before:
                    block.append(Transition(width, width // 2, alive))
                    width //= 2
                number += 1
            self.blocks.append(nn.Sequential(*block))
            head = (unit(width * FACTORS[-1], 128, 3, 2), unit(128, 128, 3, 2), nn.AvgPool2d(2))
            self.heads.append(nn.Sequential(*head, nn.Flatten(), nn.Linear(128, classes)))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        x, features = images, {}
        for scale, layer in enumerate(self.stem):
            x = features[scale] = layer(x)
        exits = []
        for block, head in zip(self.blocks, self.heads, strict=True):
            features = block(features)
            exits.append(head(features[len(FACTORS) - 1]))
        return exits
