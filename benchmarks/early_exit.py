"""python -m benchmarks.early_exit RUN: does stopping early save time, or multiply-adds alone?

RUN is a finished run of `msdnet.main`. Its multi-scale network labels the whole test split, in
batches of 256: all exits of all images, and `msdnet.predict` at thresholds that spend a half (and
other shares) of the last exit's multiply-adds. All take turns in one process.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import msdnet
from benchmarks import setting
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from msdnet import exits, networks, results

BATCH = 256
SHARES = (0.25, 0.5, 0.75)  # of the last exit's multiply-adds


def all_exits(model: Any, variables: Any, inputs: np.ndarray) -> Callable[[], np.ndarray]:
    """Labels of the last exit, all exits computed, in batches; the last one is padded."""
    padded = np.pad(inputs, [(0, -len(inputs) % BATCH)] + [(0, 0)] * 3)
    batches = np.split(padded, len(padded) // BATCH)

    def labels(variables: Any, images: jax.Array) -> jax.Array:
        return jnp.stack([logits.argmax(-1) for logits in model.apply(variables, images)])

    compiled = jax.jit(labels)

    def run() -> np.ndarray:
        found = np.concatenate([np.asarray(compiled(variables, x))[-1] for x in batches])
        return found[: len(inputs)]

    return run


def measure(contestants: dict[str, Callable], repeats: int) -> dict[str, list[float]]:
    """Seconds of each turn, by contestant; all are warm."""
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run of msdnet.main")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    flags = parser.parse_args()
    try:
        run = results.read(flags.run)
        dataset = data_lib.load(run.config)
    except UserError as error:
        sys.exit(f"error: {error}")
    load = setting.load()
    network = run.networks["msdnet"]
    model = networks.build("msdnet", run.config["msdnet"], dataset.classes)
    variables, _ = results.load(flags.run)
    variables = jax.device_put(jax.tree.map(lambda leaf: leaf[0], variables))
    inputs = np.asarray(data_lib.normalize(dataset, jnp.asarray(dataset.test.inputs)))
    whole = "all exits"
    contestants: dict[str, Callable] = {whole: all_exits(model, variables, inputs)}
    validation = network.answers["validation"]["confidences"][0]
    for share in SHARES:
        budget = share * network.macs[-1]
        if budget >= network.macs[0]:
            chosen = exits.thresholds(validation, network.macs, budget)
            contestants[f"{share:.0%} of the multiply-adds"] = lambda chosen=chosen: msdnet.predict(
                model, variables, inputs, chosen, BATCH
            )
    seconds = measure(contestants, flags.repeats)
    shown = Table(title=f"{len(inputs)} test images of {dataset.name}, batches of {BATCH}")
    for column in ("", "ms an image", "× all exits", "× multiply-adds", "accuracy"):
        shown.add_column(column, justify="right")
    reference = statistics.median(seconds[whole])
    for name, turn in seconds.items():
        median, found = statistics.median(turn), contestants[name]()
        predicted, spent = found, 1.0
        if name != whole:
            predicted = found.labels
            spent = float(np.mean(np.asarray(network.macs)[found.exits]) / network.macs[-1])
        right = float(np.mean(predicted == dataset.test.labels))
        shown.add_row(
            name,
            f"{1e3 * median / len(inputs):.4f}",
            f"{median / reference:.2f}",
            f"{spent:.2f}",
            f"{right:.4f}",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(shown)
    console.print(f"machine: {setting.machine()}; {load}", soft_wrap=True, highlight=False)
    console.print(f"medians of {flags.repeats} interleaved turns; replicate 0 of {run.name}")


if __name__ == "__main__":
    main()
