"""python -m benchmarks.bfloat16: convolutions and training in bfloat16 on a CPU beside float32.

The first table has 3×3 convolutions of ResNet-20 and VGG-11 (batch 128, Fashion-MNIST's sizes) in
all roles: by oneDNN in float32, by oneDNN in bfloat16, and by oneDNN in float32 between conversions
from bfloat16 and to it. Which of the last two serves bfloat16 here, `cpu/lowering.py` decides by
the CPU's instructions. The second table has whole training steps and predictions. All contestants
live in one process and take turns, one call each.
"""

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import convolution_jax, setting
from groundwork import architectures, terminal
from groundwork.architectures.cpu import library, lowering
from groundwork.architectures.cpu.geometry import ROLES, Geometry, Role, others
from groundwork.report import tables
from groundwork.train import replicates

BATCH = 128
LAYERS = (  # channels in and out, pixels on a side, stride
    (16, 16, 28, 1),
    (16, 32, 28, 2),
    (32, 32, 14, 1),
    (64, 64, 7, 1),
    (128, 256, 8, 1),
    (512, 512, 2, 1),
)
NETWORKS = {"resnet_20": 28, "vgg_11": 32}  # name → pixels on a side; VGG-11's data are padded
DTYPES = ("float32", "bfloat16")
Calls = Mapping[str, Callable[[], Any]]


def medians(calls: Calls, turns: int) -> dict[str, float]:
    """Returns the median seconds of each call, after two that warm it up."""
    for call in calls.values():
        for _ in range(2):
            jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            begun = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def geometry_of(channels: int, out: int, side: int, stride: int) -> Geometry:
    left = (side - 1) // stride + 1
    return Geometry(
        input=(BATCH, side, side, channels),
        kernel=(3, 3, channels, out),
        output=(BATCH, left, left, out),
        strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        dilation=(1, 1),
        groups=1,
        precision=None,
    )


def by_onednn(role: Role, geometry: Geometry, dtype: str) -> Callable[..., jax.Array]:
    """Returns the compiled call of oneDNN itself, whatever the lowering would choose."""
    shape = jax.ShapeDtypeStruct(geometry.shape(role), dtype)
    return jax.jit(
        functools.partial(
            jax.ffi.ffi_call(library.TARGET, shape),
            descriptor=geometry.descriptor(role, shape.dtype.itemsize * 8),
            replicates=np.int64(1),
            mapped=np.zeros(2, np.int64),
        )
    )


def convolutions(turns: int) -> tuple[list[str], list[list[str]]]:
    """Returns the first table: milliseconds, and times float32's."""
    random, rows = np.random.default_rng(0), []
    for layer in LAYERS:
        geometry = geometry_of(*layer)
        for role in ROLES:
            wide = [random.normal(size=geometry.shape(of)) for of in others(role)]
            arrays = {dtype: [jnp.asarray(x, dtype) for x in wide] for dtype in DTYPES}
            parameters: dict[str, Any] = {"role": role, "geometry": geometry}
            alone: dict[str, Any] = {"replicates": 1, "mapped": (False, False)}
            between = functools.partial(lowering.in_float32, **parameters, **alone)
            float32, bfloat16 = (by_onednn(role, geometry, dtype) for dtype in DTYPES)
            calls = {
                "float32": functools.partial(float32, *arrays["float32"]),
                "bfloat16": functools.partial(bfloat16, *arrays["bfloat16"]),
                "between": functools.partial(jax.jit(between), *arrays["bfloat16"]),
            }
            taken = medians(calls, turns)
            gigaflops = 2e-9 * geometry.multiply_adds / taken["float32"]
            cells = [f"{1e3 * taken['float32']:.1f}", f"{gigaflops:.0f}"]
            for name in ("bfloat16", "between"):
                cells += [f"{1e3 * taken[name]:.1f}", f"{taken[name] / taken['float32']:.2f}"]
            channels, out, side, stride = layer
            rows.append([f"{channels} → {out}, {side}×{side}, stride {stride}", role, *cells])
    columns = ("float32", "GFLOP/s", "bfloat16", "×", "between conversions", "×")
    return ["convolution", "computes", *columns], rows


def network_calls(network: str, dtype: str) -> Calls:
    """Returns a call that trains for a step and one that predicts."""
    random, side = np.random.default_rng(0), NETWORKS[network]
    images = jnp.asarray(random.normal(size=(BATCH, side, side, 1)), jnp.float32)
    labels = jnp.asarray(random.integers(0, 10, BATCH))
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])  # BatchNorm averages over it
    model = architectures.build({"name": network, "dtype": dtype}, 10)
    optimizer = optax.sgd(0.01, momentum=0.9)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    params = variables["params"]
    state = (params, variables.get("batch_stats", {}), optimizer.init(params))
    step = functools.partial(convolution_jax.train_step, model, optimizer)
    compiled = replicates.sharded(mesh, step, (P(), P("data"), P("data")), P())
    predict = jax.jit(functools.partial(convolution_jax.infer, model))

    def train() -> Any:
        nonlocal state
        state = compiled(state, images, labels)
        return state

    return {"train": train, "infer": lambda: predict(state, images)}


def networks(turns: int) -> tuple[list[str], list[list[str]]]:
    """Returns the second table: milliseconds, and times float32's."""
    rows = []
    for network in NETWORKS:
        calls = {dtype: network_calls(network, dtype) for dtype in DTYPES}
        for what in ("train", "infer"):
            taken = medians({dtype: calls[dtype][what] for dtype in DTYPES}, turns)
            cells = [f"{1e3 * taken[dtype]:.0f}" for dtype in DTYPES]
            rows.append([network, what, *cells, f"{taken['bfloat16'] / taken['float32']:.2f}"])
    return ["network", "", *DTYPES, "×"], rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=15, help="turns of each")
    parser.add_argument("--only", choices=("convolutions", "networks"), help="one of the tables")
    flags = parser.parse_args()
    if library.load() is None:
        sys.exit(f"oneDNN is not built, or is off: {library.remedy()}")
    load = setting.load()
    served = "oneDNN's own code" if library.multiplies_bfloat16() else "float32 between conversions"
    if flags.only != "networks":
        tables.show("ms, median; × float32's median", convolutions(flags.turns), keys=2)
    if flags.only != "convolutions":
        tables.show("ms, median; × float32's median", networks(flags.turns), keys=2)
    terminal.say(f"{library.about()}; bfloat16 is served by {served}")
    terminal.say(f"machine: {setting.machine()}; {load}; {flags.turns} turns; batch {BATCH}")


if __name__ == "__main__":
    main()
