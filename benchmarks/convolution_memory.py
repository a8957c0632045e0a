"""python -m benchmarks.convolution_memory: memory and time of convolutions by im2col, MEC, oneDNN.

The layers are the distinct convolutions of VGG-16 and MobileNet v1 on one image of 224×224×3,
float32. `onednn` has the forms of `cpu/unfold.h` beside oneDNN's own, with ReLU and the kernel in
oneDNN's layout; `xla` those of `unfolded.py` beside XLA's own. Peak bytes are those of a process in
which the layer is computed once, above what it had before, without the outputs (Linux). Times are
taken in one process, by turns.
"""

import argparse
import functools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import setting
from groundwork import architectures, terminal
from groundwork.architectures.cpu import chain as chain_lib
from groundwork.architectures.cpu import convolution
from groundwork.architectures.cpu.chain import FORMS, Chain, Node
from groundwork.architectures.cpu.geometry import Geometry
from groundwork.architectures.cpu.primitive import convolution_p
from groundwork.report import tables
from groundwork.traced.macs import programs_in
from groundwork.traced.predictions import budget

NETWORKS = {"vgg_16": "vgg_16_imagenet", "mobilenet_v1": "mobilenet_v1"}
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Layer(NamedTuple):
    """A convolution, and how often a network has it."""

    geometry: Geometry
    times: int


def layers(network: str, size: int) -> list[Layer]:
    """Returns the distinct convolutions of a network on one image, in order."""
    model = architectures.build({"name": NETWORKS[network]}, 1000)
    image = shape_of((1, size, size, 3))
    apply = functools.partial(model.apply, train=False)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    met: list[Geometry] = []

    def collect(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            if equation.primitive is convolution_p:
                met.append(equation.params["geometry"])
            for value in equation.params.values():
                for inner in programs_in(value):
                    collect(inner)

    collect(jax.make_jaxpr(apply)(shapes, image).jaxpr)
    return [Layer(geometry, met.count(geometry)) for geometry in dict.fromkeys(met)]


def built(geometry: Geometry, by: str, form: str) -> tuple[Callable[[], jax.Array], int]:
    """Returns a compiled call of one layer, and the scratch memory that it is said to need."""
    random = np.random.default_rng(0)
    images, kernel = (
        jnp.asarray(random.normal(size=geometry.shape(role)), jnp.float32)
        for role in ("input", "kernel")
    )
    if by == "xla":
        compiled = jax.jit(budget.compute(form, geometry)).lower(images, kernel).compile()
        return lambda: compiled(images, kernel), budget.by_xla(geometry, "float32")[form]
    fields = (*geometry.descriptor("output", 32).tolist(), FORMS.index(form))
    node = Node("convolve", (0,), 1, fields, (0.0, np.inf))
    sizes: Any = (geometry.input, geometry.output)
    chain = Chain(sizes, 1, (1,), (node,))
    packed = jax.jit(lambda *weights: chain_lib.pack(chain, weights))(
        kernel, jnp.zeros(geometry.output[3])
    )
    run = jax.jit(lambda packed, images: chain_lib.run(chain, packed, [images])[0])
    compiled = run.lower(packed, images).compile()
    return lambda: compiled(packed, images), chain_lib.scratch_bytes(chain)[0]


def shape_of(sizes: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def resident(field: str) -> int:
    """Returns bytes of this process: VmRSS now, VmHWM at most since it was reset."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak(geometry: Geometry, by: str, form: str) -> int:
    """Returns the bytes that the first call of a layer needs beside its outputs.

    It runs in a process of its own, after a call of a tiny layer, which starts threads.
    """
    pixels, kernel = shape_of((1, 4, 4, 4)), shape_of((3, 3, 4, 4))
    tiny = convolution.geometry(pixels, kernel, (1, 1), "SAME")
    built(tiny, by, form)[0]().block_until_ready()
    call, _ = built(geometry, by, form)
    RESET.write_text("5")
    before = resident("VmRSS")
    outputs = call().block_until_ready()
    return max(0, resident("VmHWM") - before - outputs.nbytes)


def milliseconds(geometry: Geometry, by: str, repeats: int) -> dict[str, float]:
    """Returns the median time of each form, of calls in turns."""
    calls = {form: built(geometry, by, form)[0] for form in FORMS}
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for turn in range(repeats + 1):
        for form, call in calls.items():
            begun = time.perf_counter()
            call().block_until_ready()
            if turn:
                times[form].append(1e3 * (time.perf_counter() - begun))
    return {form: statistics.median(found) for form, found in times.items()}


def rows_of(network: str, size: int, by: str, repeats: int) -> list[list[str]]:
    """Returns one row for each layer and form, and last the whole network's."""
    context = multiprocessing.get_context("forkserver")
    rows, most = [], dict.fromkeys(FORMS, 0)
    total = dict.fromkeys(FORMS, 0.0)
    with context.Pool(1, maxtasksperchild=1) as pool:
        for geometry, often in layers(network, size):
            times = milliseconds(geometry, by, repeats)
            for form in FORMS:
                needed = pool.apply(peak, (geometry, by, form))
                most[form] = max(most[form], needed)
                total[form] += often * times[form]
                said = built(geometry, by, form)[1]
                rows.append([network, described(geometry), form, f"{said / 1e6:.2f}"])
                rows[-1] += [f"{needed / 1e6:.2f}", *compared(times, form)]
    return rows + [
        [network, "all layers", form, "", f"{most[form] / 1e6:.2f}", *compared(total, form)]
        for form in FORMS
    ]


def compared(times: dict[str, float], form: str) -> list[str]:
    """Returns milliseconds, and how many times those of the direct form they are."""
    return [f"{times[form]:.2f}", f"{times[form] / times['direct']:.2f}"]


def described(geometry: Geometry) -> str:
    """Returns a layer in words: 112×112×64 → 128, 3×3."""
    (_, height, width, channels), (down, across, inside, outputs) = geometry.input, geometry.kernel
    strides = f", strides {geometry.strides[0]}" if geometry.strides[0] > 1 else ""
    groups = ", depthwise" if inside < channels else ""
    return f"{height}×{width}×{channels} → {outputs}, {down}×{across}{strides}{groups}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9, help="turns of each")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=224, help="height and width of the image")
    parser.add_argument("--by", choices=("onednn", "xla"), default="onednn")
    flags = parser.parse_args()
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "4096"  # of new processes: what is freed is given back
    multiprocessing.set_forkserver_preload(["groundwork.traced.predictions"])
    load, rows = setting.load(), []
    for network in flags.networks:
        rows += rows_of(network, flags.size, flags.by, flags.repeats)
        print(f"{network}: measured", file=sys.stderr)
    header = ["network", "layer", "form", "scratch, MB", "peak, MB", "ms", "× direct"]
    tables.show("scratch memory and time of convolutions", (header, rows), keys=3)
    terminal.say(f"machine: {setting.machine()}; {load}")
    terminal.say(
        f"by {flags.by}; medians of {flags.repeats} turns; scratch: as it is computed beforehand; "
        "peak: measured; all layers: the largest peak, and the sum of times"
    )


if __name__ == "__main__":
    main()
