"""python -m benchmarks.blocks: what the building blocks of compact networks cost at one size.

Each block takes [8, 28, 28, 128] and gives as many channels, float32; measured are a forward pass
and a training step (forward, BatchNorm's batch statistics, gradients by parameters and inputs).
The blocks take turns in one process. `--picture` draws what dilated convolutions see.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import setting
from groundwork import terminal
from groundwork.architectures import blocks
from groundwork.architectures.compact.mobilenet import Block
from groundwork.architectures.compact.shufflenet import UnitV1, UnitV2
from groundwork.architectures.cpu.convolution import available
from groundwork.report import figures, tables
from groundwork.traced.macs import multiply_adds
from groundwork.trees import count

SHAPE = (8, 28, 28, 128)
C = SHAPE[-1]
F32 = jnp.float32
DILATIONS = (1, 2, 4)  # of the picture

Layer = Callable[[jax.Array, bool], jax.Array]
BLOCKS: Mapping[str, Layer] = {
    "standard 3×3": lambda x, _: blocks.standard(C, 3, name="conv", dtype=F32)(x),
    "dilated 3×3, dilation 2": lambda x, _: blocks.dilated(C, 3, 2, name="conv", dtype=F32)(x),
    "group 3×3, 4 groups": lambda x, _: blocks.group(C, 3, 4, name="conv", dtype=F32)(x),
    "depthwise 3×3": lambda x, _: blocks.depthwise(C, 3, name="conv", dtype=F32)(x),
    "pointwise": lambda x, _: blocks.pointwise(C, name="conv", dtype=F32)(x),
    "separable 3×3": lambda x, _: blocks.separable(x, C, 3, names=("a", "b"), dtype=F32),
    "channel shuffle, 4 groups": lambda x, _: blocks.shuffle(x, 4),
    "squeeze-and-excite to 8": lambda x, _: blocks.squeeze_excite(x, 8, nn.relu, F32),
    "MobileNet v1's block": lambda x, train: Block(C, 1, nn.relu6, F32)(x, train),
    "inverted residual, expansion 6": lambda x, train: blocks.InvertedResidual(C, 3, 1, 6, F32)(
        x, train
    ),
    "MBConv (the same with SE to 32)": lambda x, train: blocks.InvertedResidual(
        C, 3, 1, 6, F32, nn.silu, 32
    )(x, train),
    "ShuffleNet v1's unit, 4 groups": lambda x, train: UnitV1(C, 4, 4, 1, F32)(x, train),
    "ShuffleNet v2's unit": lambda x, train: UnitV2(C, 1, F32)(x, train),
}


class Network(nn.Module):
    """One of the blocks alone."""

    layer: Layer

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return self.layer(x, train)


class Built:
    """A block with its counts, and its two compiled programs, which `run` times."""

    def __init__(self, layer: Layer) -> None:
        module, self.images = Network(layer), jnp.ones(SHAPE)
        self.variables = jax.jit(module.init)(jax.random.key(0), self.images)
        self.parameters = count(self.variables.get("params", {}))
        self.multiply_adds = multiply_adds(module.apply, self.variables, self.images[:1])

        def loss(params: Any, images: jax.Array) -> jax.Array:
            variables = {**self.variables, "params": params}
            outputs, _ = module.apply(variables, images, True, mutable=["batch_stats"])
            return jnp.mean(outputs**2)

        def step(variables: Any, images: jax.Array) -> Any:
            gradient = jax.grad(loss, (0, 1))
            shares = jax.vmap(gradient, in_axes=(None, 0), axis_name="data")
            return shares(variables.get("params", {}), images[None])

        self.programs = {"forward": jax.jit(module.apply), "training": jax.jit(step)}

    def run(self, what: str) -> tuple[float, float]:
        """Returns the milliseconds that one call takes, and those of all threads.

        A call before it pays for the memory that the block before has left or taken.
        """
        jax.block_until_ready(self.programs[what](self.variables, self.images))
        busy, begun = time.process_time(), time.perf_counter()
        jax.block_until_ready(self.programs[what](self.variables, self.images))
        return 1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - busy)


def measure(repeats: int) -> list[list[str]]:
    """Returns one row per block: its counts; medians of its times."""
    built = {name: Built(layer) for name, layer in BLOCKS.items()}
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(repeats + 1):
        for name, block in built.items():
            for what in block.programs:
                taken = block.run(what)
                if turn:  # the first compiles
                    times.setdefault((name, what), []).append(taken)
    return [
        [
            name,
            f"{block.parameters:,}",
            f"{block.multiply_adds / 1e6:,.2f}",
            *(
                f"{statistics.median(taken):.2f}"
                for what in block.programs
                for taken in zip(*times[name, what], strict=True)
            ),
        ]
        for name, block in built.items()
    ]


def draw(path: Path) -> Path:
    """Draws how often one output sees each pixel after 3×3 convolutions, plain and dilated."""
    side = 2 ** (len(DILATIONS) + 1) + 1
    columns = len(DILATIONS)
    figure, axes = figures.grid(2 * columns, columns, width=1.9, height=2.1, labels=("", ""))
    for number, ax in enumerate(axes):
        row, last = divmod(number, columns)
        taken = DILATIONS[: last + 1] if row else (1,) * (last + 1)
        seen = np.asarray(ways(side, taken))
        ax.imshow(np.where(seen, seen, np.nan), cmap="viridis_r", vmin=0)
        wide = int((seen.sum(0) > 0).sum())
        ax.set_title(f"dilation {', '.join(map(str, taken))}: {wide}×{wide}", fontsize=8)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(visible=False)
    return figures.save(figure, path)


def ways(side: int, dilations: tuple[int, ...]) -> jax.Array:
    """Returns [side, side]: by how many ways the middle output sees each pixel."""
    ones = {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}

    def middle(image: jax.Array) -> jax.Array:
        for dilation in dilations:
            image = blocks.dilated(1, 3, dilation, name="conv", dtype=F32).apply(ones, image)
        return image[0, side // 2, side // 2, 0]

    return jax.grad(middle)(jnp.zeros((1, side, side, 1)))[0, :, :, 0]


def main() -> None:
    """Measure and print, or draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="turns of each")
    parser.add_argument("--picture", type=Path, help="draw dilated convolutions here instead")
    flags = parser.parse_args()
    if flags.picture:
        terminal.say(f"{draw(flags.picture)}")
        return
    load = setting.load()
    print(load, file=sys.stderr)
    by = "oneDNN" if available() else "XLA"
    header = ["block", "parameters", "million multiply-adds an image"]
    header += ["forward", "cpu", "training", "cpu"]
    tables.show("building blocks; ms: median, CPU time", (header, measure(flags.repeats)))
    terminal.say(f"machine: {setting.machine()}; {load}")
    terminal.say(f"inputs {list(SHAPE)}, float32; convolutions by {by}; {flags.repeats} turns")


if __name__ == "__main__":
    main()
