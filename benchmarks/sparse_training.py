"""python -m benchmarks.sparse_training: what a mask that changes costs a training step.

LeNet-300-100 (batch 128, Adam 1.2e-3, three replicates) is trained by the programs of
`lottery.main`: dense, under a static mask, and by SET, RigL and gradual pruning. All of them live
in one process and take turns; their order turns, too. Steps between two changes of the mask are
timed apart from those in which it changes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

import jax
import jax.numpy as jnp
import optax

from benchmarks import setting
from configs.lottery import lenet_fashion_mnist
from groundwork import architectures, keys, terminal
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh
from groundwork.report import tables
from groundwork.train import optim, programs
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from lottery import spec
from pruning import densities, dynamic, masks, select
from pruning.criteria.weights import random

REPLICATES, DENSITY, EVERY, NEVER = 3, 0.1, 100, 2**30
STRETCHES = 3  # between two changes, of which each is timed
Wrap = Callable[..., optax.GradientTransformation]  # (optimizer, mask, key) → optimizer

METHODS: dict[str, Wrap] = {
    "dense": lambda optimizer, mask, key: optimizer,
    "static": lambda optimizer, mask, key: dynamic.static(optimizer, mask),
    "SET": lambda optimizer, mask, key: dynamic.set(
        optimizer, mask, key=key, end=NEVER, every=EVERY
    ),
    "RigL": lambda optimizer, mask, key: dynamic.rigl(optimizer, mask, end=NEVER, every=EVERY),
    "gradual": lambda optimizer, mask, key: dynamic.gradual(
        optimizer, mask, DENSITY, begin=0, end=EVERY * 500, every=EVERY
    ),
}


class Seconds(NamedTuple):
    """How long steps took."""

    wall: float
    cpu: float  # of all threads of the process


class Times(NamedTuple):
    """The seconds of a step, an entry per stretch or per change."""

    between: list[Seconds]  # two changes
    change: list[Seconds]  # a step in which the mask changes


def make(folder: str, wrap: Wrap, dense: bool) -> Callable[[int], Seconds]:
    """Returns steps → the seconds that each takes; the replicates go on from where they are.

    Args:
      folder: of the IDX files.
      wrap: the method.
      dense: whether the mask of the start keeps everything.
    """
    shipped = lenet_fashion_mnist.get_config()
    shipped.replicates = REPLICATES
    shipped.train.batch_size = 128
    shipped.data.update(source="idx", dir=folder)
    config = config_lib.resolve(shipped)
    checked, dataset = spec.from_config(config), data_lib.load(config)
    devices = mesh.make(REPLICATES, checked.train.batch_size)
    optimizer = optim.make(checked.optimizer, checked.train.steps)
    compiled = programs.make(
        architectures.build(config["model"], dataset.classes),
        wrap(optimizer, None, None),
        dataset,
        devices,
        batch_size=checked.train.batch_size,
    )

    def start(root: jax.Array, variables: Variables) -> TrainState:
        mask = masks.ones(variables["params"])
        if not dense:
            shares = densities.erdos_renyi_kernel(mask, DENSITY)
            counts = densities.counts(mask, shares)
            scores = random(variables["params"], mask, key=keys.stream(root, "mask"))
            mask = select.prune_to(mask, scores, counts, {path: (path,) for path in mask})
        params = masks.apply(mask, variables["params"])
        state = wrap(optimizer, mask, keys.stream(root, "set")).init(params)
        return TrainState(jnp.int32(0), root, {**variables, "params": params}, state)

    roots = mesh.put(devices, keys.roots(0, REPLICATES), mesh.BY_REPLICATE)
    state = jax.jit(jax.vmap(start))(roots, compiled.init(roots))
    state = mesh.put(devices, state, mesh.BY_REPLICATE)
    feed, tally, step = compiled.feed(roots, 0).__enter__(), compiled.no_tally(REPLICATES), 0

    def advance(steps: int) -> Seconds:
        nonlocal state, step
        begun = time.perf_counter(), time.process_time()
        state, _ = compiled.run_steps(state, feed, tally, step, step + steps)
        jax.block_until_ready(state)
        wall, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
        step += steps
        return Seconds(wall / steps, cpu / steps)

    return advance


def measure(folder: str, repeats: int) -> dict[str, Times]:
    """Returns method → its times, taken in turns."""
    methods = {
        name: make(folder, wrap, name in ("dense", "gradual")) for name, wrap in METHODS.items()
    }
    times = {name: Times([], []) for name in methods}
    for advance in methods.values():  # compiles
        advance(EVERY)
    order = list(methods)
    for _ in range(repeats):
        for name in order:
            times[name].change.append(methods[name](1))
        for _ in range(STRETCHES):
            for name in order:
                times[name].between.append(methods[name]((EVERY - 1) // STRETCHES))
            order = [*order[1:], order[0]]
    return times


def table(times: dict[str, Times]) -> None:
    """Shows one row per method; ratios are medians of those of each stretch."""
    header = ["", "ms a step between changes", "lowest", "× dense", "CPU ms", "× dense"]
    header += ["ms a change", "× dense with one change in 100"]
    dense = times["dense"]
    rows = []
    for name, (between, change) in times.items():
        row = [name]
        for at, unit in enumerate(Seconds._fields):
            seconds = [getattr(one, unit) for one in between]
            ratios = [
                one[at] / other[at] for one, other in zip(between, dense.between, strict=True)
            ]
            row.append(f"{1e3 * statistics.median(seconds):.2f}")
            row += [f"{1e3 * min(seconds):.2f}"] if unit == "wall" else []
            row.append(f"{statistics.median(ratios):.3f}")
        extra = _median(change) - _median(dense.change)
        whole = (_median(between) + extra / EVERY) / _median(dense.between)
        rows.append([*row, f"{1e3 * extra:.0f}", f"{whole:.2f}"])
    tables.show("A step of LeNet-300-100, batch 128, Adam, three replicates", (header, rows))


def _median(seconds: list[Seconds]) -> float:
    """Returns the median CPU time, which other processes disturb less."""
    return statistics.median(one.cpu for one in seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", default=setting.FASHION_MNIST, help="folder of the IDX files")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each, of 100 steps")
    flags = parser.parse_args()
    load = setting.load()
    print(f"{load}; about two minutes", file=sys.stderr)
    with setting.fashion_mnist(flags.data_dir) as (folder, data):
        times = measure(folder, flags.repeats)
    table(times)
    for line in (
        f"data: {data}",
        f"machine: {setting.machine()}; {load}",
        f"medians of {STRETCHES * flags.repeats} stretches of {(EVERY - 1) // STRETCHES} steps, "
        f"which take turns, and of {flags.repeats} changes; × dense: of the ratios of each turn",
        "ms a change: the CPU time that a step in which the mask changes takes longer",
    ):
        terminal.say(line)


if __name__ == "__main__":
    main()
