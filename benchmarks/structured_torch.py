"""PyTorch's side of `benchmarks.structured` and `benchmarks.structured_peers`: the same networks.

Layers have the names that they have in `structured_jax`, where arrays lie as they do there.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Layers(nn.Module):
    """A network whose layers are made by name, and called by name."""

    def conv(self, name: str, inputs: int, outputs: int, size: int = 3, **options: Any) -> None:
        options = {"padding": size // 2, "bias": False, **options}
        self.add_module(name, nn.Conv2d(inputs, outputs, size, **options))

    def norm(self, name: str, channels: int) -> None:
        self.add_module(name, nn.BatchNorm2d(channels))

    def dense(self, name: str, inputs: int, outputs: int) -> None:
        self.add_module(name, nn.Linear(inputs, outputs))

    def call(self, names: str, x: torch.Tensor) -> torch.Tensor:
        """Calls layers one after the other; "relu" is one too."""
        for name in names.split():
            x = torch.relu(x) if name == "relu" else getattr(self, name)(x)
        return x

    def classes(self, x: torch.Tensor) -> torch.Tensor:
        return self.call("output", x.mean((2, 3)))


class VGG11(Layers):
    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for group, channels in enumerate((64, 128, 256, 512, 512), 1):
            for layer in range(1, 2 if group < 3 else 3):
                self.conv(f"conv{group}_{layer}", inputs, channels)
                self.norm(f"bn{group}_{layer}", channels)
                inputs = channels
        self.dense("output", inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.call("conv1_1 bn1_1 relu", x)
        x = self.call("conv2_1 bn2_1 relu", functional.max_pool2d(x, 2))
        for group in range(3, 6):
            x = functional.max_pool2d(x, 2)
            x = self.call(f"conv{group}_1 bn{group}_1 relu conv{group}_2 bn{group}_2 relu", x)
        return self.classes(x)


class Projected(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.conv("conv1", 3, 16)
        self.norm("bn1", 16)
        inputs = 16
        for stage, channels in enumerate((16, 32, 64), 1):
            for block in range(1, 4):
                name, stride = f"block{stage}_{block}", 1 + (inputs != channels)
                self.conv(f"{name}_conv1", inputs, channels, stride=stride)
                self.conv(f"{name}_conv2", channels, channels)
                if stride > 1:
                    self.conv(f"{name}_shortcut", inputs, channels, 1, stride=2)
                for number in range(1, 4 if stride > 1 else 3):
                    self.norm(f"{name}_bn{number}", channels)
                inputs = channels
        self.dense("output", 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.call("conv1 bn1 relu", x)
        for n in (f"block{stage}_{block}" for stage in range(1, 4) for block in range(1, 4)):
            y = self.call(f"{n}_conv1 {n}_bn1 relu {n}_conv2 {n}_bn2", x)
            if hasattr(self, f"{n}_shortcut"):
                x = self.call(f"{n}_shortcut {n}_bn3", x)
            x = torch.relu(y + x)
        return self.classes(x)


class Mobile(Layers):
    blocks = ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1))

    def __init__(self) -> None:
        super().__init__()
        self.conv("stem", 3, 16, stride=2)
        self.norm("bn", 16)
        inputs = 16
        for block, (channels, stride) in enumerate(self.blocks):
            name, wide = f"block{block}", 4 * inputs
            self.conv(f"{name}_expand", inputs, wide, 1)
            self.conv(f"{name}_depthwise", wide, wide, stride=stride, groups=wide)
            self.conv(f"{name}_project", wide, channels, 1)
            for number, count in enumerate((wide, wide, channels), 1):
                self.norm(f"{name}_bn{number}", count)
            inputs = channels
        self.dense("output", inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.call("stem bn relu", x)
        inputs = 16
        for block, (channels, stride) in enumerate(self.blocks):
            n = f"block{block}"
            y = self.call(f"{n}_expand {n}_bn1 relu {n}_depthwise {n}_bn2 relu", x)
            y = self.call(f"{n}_project {n}_bn3", y)
            x = x + y if (inputs, 1) == (channels, stride) else y
            inputs = channels
        return self.classes(x)


class Densely(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.conv("stem", 3, 16)
        inputs = 16
        for block in range(2):
            if block:
                self.norm("transition_bn", inputs)
                self.conv("transition", inputs, 24, 1)
                inputs = 24
            for name in (f"block{block}_{layer}" for layer in range(3)):
                self.norm(f"{name}_bn1", inputs)
                self.conv(f"{name}_conv1", inputs, 24, 1)
                self.norm(f"{name}_bn2", 24)
                self.conv(f"{name}_conv2", 24, 8)
                inputs += 8
        self.norm("bn", inputs)
        self.dense("output", inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in range(2):
            if block:
                x = functional.avg_pool2d(self.call("transition_bn relu transition", x), 2)
            for n in (f"block{block}_{layer}" for layer in range(3)):
                y = self.call(f"{n}_bn1 relu {n}_conv1 {n}_bn2 relu {n}_conv2", x)
                x = torch.cat([x, y], 1)
        return self.classes(self.call("bn relu", x))


class Excited(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.conv("stem", 3, 16, stride=2)
        self.norm("bn", 16)
        for name in ("block0", "block1"):
            self.conv(f"{name}_conv1", 16, 32)
            self.norm(f"{name}_bn1", 32)
            self.dense(f"{name}_squeeze", 32, 8)
            self.dense(f"{name}_excite", 8, 32)
            self.conv(f"{name}_conv2", 32, 16)
            self.norm(f"{name}_bn2", 16)
        self.dense("output", 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.call("stem bn relu", x)
        for n in ("block0", "block1"):
            y = self.call(f"{n}_conv1 {n}_bn1 relu", x)
            gate = torch.sigmoid(self.call(f"{n}_squeeze relu {n}_excite", y.mean((2, 3))))
            x = torch.relu(x + self.call(f"{n}_conv2 {n}_bn2", y * gate[:, :, None, None]))
        return self.classes(x)


class Attentive(Layers):
    heads = -1  # as many as there are

    def __init__(self) -> None:
        super().__init__()
        self.conv("patches", 3, 32, 8, stride=8, padding=0, bias=True)
        for name, inputs, outputs in (("up", 32, 64), ("down", 64, 32), ("output", 32, 10)):
            self.dense(name, inputs, outputs)
        for name in ("q", "k", "v", "out"):
            self.dense(name, 32, 32)
        for name in ("ln1", "ln2", "ln3"):
            self.add_module(name, nn.LayerNorm(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.ln1(x)
        q, k, v = (
            getattr(self, n)(y).unflatten(-1, (self.heads, 8)).transpose(1, 2) for n in "qkv"
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        x = x + self.down(functional.gelu(self.up(self.ln2(x))))
        return self.output(self.ln3(x).mean(1))


class Padded(Projected):
    """Shortcuts without weights: every other pixel, with zeros for the channels that lack."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("block2_1", "block3_1"):
            delattr(self, f"{name}_shortcut")
            delattr(self, f"{name}_bn3")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.call("conv1 bn1 relu", x)
        for n in (f"block{stage}_{block}" for stage in range(1, 4) for block in range(1, 4)):
            y = self.call(f"{n}_conv1 {n}_bn1 relu {n}_conv2 {n}_bn2", x)
            if lacking := {"block2_1": 16, "block3_1": 32}.get(n):
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, lacking))
            x = torch.relu(y + x)
        return self.classes(x)


class Static(Attentive):
    """The number of heads stands in the reshape."""

    heads = 4


class Transposed(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.conv("stem", 3, 16)
        self.add_module("up", nn.ConvTranspose2d(16, 8, 2, 2, bias=False))
        self.conv("last", 8, 12)
        self.dense("output", 12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.call("stem relu up relu last relu", x))


class Recurrent(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.dense("embed", 96, 16)
        self.add_module("cell", nn.LSTM(16, 12, batch_first=True))
        self.dense("output", 12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.transpose(1, 2).flatten(2)
        return self.output(self.cell(self.embed(rows))[0][:, -1])


class Shuffled(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.conv("stem", 3, 16)
        self.conv("last", 16, 12)
        self.dense("output", 12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = x.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2)
        return self.classes(torch.relu(self.last(x)))


NETWORKS = {
    "vgg_11": VGG11,
    "resnet_20": Projected,
    "mobile": Mobile,
    "densely": Densely,
    "excited": Excited,
    "attentive": Attentive,
    "padded": Padded,
    "static": Static,
    "stream": Attentive,
    "transposed": Transposed,
    "recurrent": Recurrent,
    "shuffled": Shuffled,
}
