"""PyTorch's side of `benchmarks.convolution`: the same networks, channels last."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.msdnet_torch import MSDNet


def conv(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Module:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=bias)


class Block(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv(inputs, channels, 3, stride), conv(channels, channels, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))
        self.stride, self.lacking = stride, channels - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norms[0](self.first(x)))
        if self.lacking:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, 0, self.lacking))
        return torch.relu(self.norms[1](self.second(y)) + x)


def resnet20() -> nn.Module:
    layers: list[nn.Module] = [conv(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(3):
            layers.append(Block(inputs, channels, 2 if stage and not block else 1))
            inputs = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def conv4() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, channels in ((3, 64), (64, 128)):
        for first in (inputs, channels):
            layers += [conv(first, channels, 3, bias=True), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(128 * 64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(256, 10))


def separable() -> nn.Module:
    layers: list[nn.Module] = [conv(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU()]
    inputs = 32
    for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        layers += [conv(inputs, inputs, 3, stride, inputs), nn.BatchNorm2d(inputs), nn.ReLU()]
        layers += [conv(inputs, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()]
        inputs = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def normed(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(conv(inputs, outputs, size, stride, groups), nn.BatchNorm2d(outputs))


def vgg11() -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 3
    for channels in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for outputs in channels:
            layers += [conv(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


class Inverted(nn.Module):
    """MobileNet v2's block."""

    def __init__(self, inputs: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        wider = [normed(inputs, inside, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = [normed(inside, inside, 3, stride, inside), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*wider, *depthwise, normed(inside, channels, 1))
        self.adds = stride == 1 and inputs == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [normed(3, 32, 3), nn.ReLU6(inplace=True)]
    inputs = 32
    stages = ((1, 1, 16, 1), (6, 1, 24, 2), (6, 2, 32, 3), (6, 2, 64, 4))
    stages += ((6, 1, 96, 3), (6, 2, 160, 3), (6, 1, 320, 1))
    for expansion, stride, channels, blocks in stages:
        for block in range(blocks):
            layers.append(Inverted(inputs, channels, 1 if block else stride, expansion))
            inputs = channels
    layers += [normed(320, 1280, 1), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 10))


class Shuffled(nn.Module):
    """ShuffleNet v1's unit with three groups."""

    def __init__(self, inputs: int, channels: int, stride: int, first: int) -> None:
        super().__init__()
        inside = channels // 4
        outputs = channels if stride == 1 else channels - inputs
        self.first = normed(inputs, inside, 1, groups=first)
        self.rest = nn.Sequential(
            normed(inside, inside, 3, stride, inside), normed(inside, outputs, 1, groups=3)
        )
        self.shrinks = stride > 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.channel_shuffle(torch.relu(self.first(x)), 3)
        y = self.rest(y)
        if self.shrinks:
            return torch.relu(torch.cat([functional.avg_pool2d(x, 3, 2, 1), y], 1))
        return torch.relu(x + y)


def shufflenet_v1() -> nn.Module:
    layers: list[nn.Module] = [normed(3, 24, 3), nn.ReLU(inplace=True)]
    inputs = 24
    for stage, blocks in enumerate((4, 8, 4)):
        for block in range(blocks):
            channels = 240 << stage
            layers.append(Shuffled(inputs, channels, 1 if block else 2, 3 if stage or block else 1))
            inputs = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(960, 10))


NETWORKS = {
    "resnet_20": resnet20,
    "conv_4": conv4,
    "separable": separable,
    "msdnet": MSDNet,
    "vgg_11": vgg11,
    "mobilenet_v2_small": mobilenet_v2,
    "shufflenet_v1_small": shufflenet_v1,
}


def fused(model: nn.Module) -> nn.Module:
    """Returns a network in evaluation whose BatchNorms are part of the convolutions before them."""
    for part in [model.eval(), *model.modules()]:
        if isinstance(part, nn.Sequential):
            names = list(part._modules)
            for one, after in itertools.pairwise(names):
                layer, norm = part[int(one)], part[int(after)]
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    part[int(one)] = nn.utils.fuse_conv_bn_eval(layer, norm)
                    part[int(after)] = nn.Identity()
        if isinstance(part, Block):
            part.first = nn.utils.fuse_conv_bn_eval(part.first, part.norms[0])
            part.second = nn.utils.fuse_conv_bn_eval(part.second, part.norms[1])
            part.norms = nn.ModuleList(nn.Identity() for _ in range(2))
    return model


def make(network: str, batch: int, form: str = "eager") -> tuple[Callable[[str, int], None], Any]:
    """Returns (what, steps) → None, for `train` and `infer`; and None, as nothing is compiled.

    Args:
      network: of `NETWORKS`.
      batch: images of 32×32×3.
      form: `eager`; `fused`, with BatchNorm in the convolutions, or `compiled`, that by
        `torch.compile`, both for `infer` alone.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    random = np.random.default_rng(0)
    images = torch.tensor(random.normal(size=(batch, 3, 32, 32)), dtype=torch.float32)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.tensor(random.integers(0, 10, batch))
    model = NETWORKS[network]().to(memory_format=torch.channels_last)
    if form != "eager":
        model = fused(model)
    if form == "compiled":
        model = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        output = model(images)
        exits = output if isinstance(output, list) else [output]
        sum(functional.cross_entropy(logits, labels) for logits in exits).backward()
        optimizer.step()

    def run(what: str, steps: int) -> None:
        model.train(what == "train")
        if what == "train":
            for _ in range(steps):
                step()
        else:
            with torch.inference_mode():
                for _ in range(steps):
                    model(images)

    return run, None
