"""python -m benchmarks.early_exit RUN: does stopping early save time, or multiply-adds alone?

RUN is a finished run of `msdnet.main`. Its multi-scale network labels the whole test split in
batches of 256: by all exits of all images, and by `msdnet.predict` at thresholds that spend a half
(and other shares) of the last exit's multiply-adds. All take turns in one process.
"""

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import msdnet
from benchmarks import setting
from groundwork import terminal, trees
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from groundwork.report import tables
from groundwork.traced.predictions import predictor
from groundwork.trees import Variables
from msdnet import exits, networks, results

BATCH = 256
SHARES = (0.25, 0.5, 0.75)  # of the last exit's multiply-adds
WHOLE = "all exits"


class Measured(NamedTuple):
    """What answers are held against: the test labels, and multiply-adds up to each exit."""

    labels: np.ndarray
    macs: list[int]


def all_exits(
    model: nn.Module, variables: Variables, inputs: np.ndarray
) -> Callable[[], np.ndarray]:
    """Returns a call that computes all exits in batches and gives the last exit's labels.

    The last batch is padded. Weights are prepared as `msdnet.predict` prepares them.
    """
    padded = np.pad(inputs, [(0, -len(inputs) % BATCH)] + [(0, 0)] * 3)
    batches = np.split(padded, len(padded) // BATCH)

    def labels(variables: Variables, images: jax.Array) -> jax.Array:
        all_logits: Any = model.apply(variables, images)
        return jnp.stack([logits.argmax(-1) for logits in all_logits])

    whole = predictor(labels, variables, jnp.asarray(batches[0]))
    prepared, compiled = whole.prepare(variables), jax.jit(whole.apply)

    def run() -> np.ndarray:
        last = np.concatenate([np.asarray(compiled(prepared, x))[-1] for x in batches])
        return last[: len(inputs)]

    return run


def measure(contestants: dict[Any, Callable], repeats: int) -> dict[Any, list[float]]:
    """Returns the seconds of each turn, by contestant; all are warm."""
    for run in contestants.values():
        run()
    seconds: dict[Any, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def entrants(
    network: results.Network, model: nn.Module, variables: Variables, inputs: np.ndarray
) -> dict[str, Callable]:
    """Returns all exits, and early exits at each of `SHARES` that the first exit allows."""
    contestants: dict[str, Callable] = {WHOLE: all_exits(model, variables, inputs)}
    validation = network.answers["validation"]["confidences"][0]
    for share in SHARES:
        budget = share * network.macs[-1]
        if budget >= network.macs[0]:
            chosen = exits.thresholds(validation, network.macs, budget)
            contestants[f"{share:.0%} of the multiply-adds"] = functools.partial(
                msdnet.predict, model, variables, inputs, chosen, BATCH
            )
    return contestants


def row_of(
    name: str, turns: list[float], reference: float, result: Any, about: Measured
) -> list[str]:
    """Returns the row of one contestant: its time, what it has spent, and how often it is right."""
    predicted, spent = result, 1.0
    if name != WHOLE:
        predicted = result.labels
        spent = float(np.mean(np.asarray(about.macs)[result.exits]) / about.macs[-1])
    median = statistics.median(turns)
    return [
        name,
        f"{1e3 * median / len(about.labels):.4f}",
        f"{median / reference:.2f}",
        f"{spent:.2f}",
        f"{float(np.mean(predicted == about.labels)):.4f}",
    ]


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
    assert isinstance(dataset, data_lib.Dataset), "the test split must be in memory"
    load = setting.load()
    network = run.networks["msdnet"]
    model = networks.build("msdnet", run.config["msdnet"], dataset.classes)
    variables = jax.device_put(trees.replicate(results.load(flags.run)[0], 0))
    inputs = np.asarray(data_lib.normalize(dataset, jnp.asarray(dataset.test.inputs)))
    contestants = entrants(network, model, variables, inputs)
    seconds = measure(contestants, flags.repeats)
    header = ["", "ms/image", "× all exits", "× multiply-adds", "accuracy"]
    reference = statistics.median(seconds[WHOLE])
    about = Measured(dataset.test.labels, network.macs)
    rows = [
        row_of(name, turns, reference, contestants[name](), about)
        for name, turns in seconds.items()
    ]
    title = f"{len(inputs)} test images of {dataset.name}, batches of {BATCH}"
    tables.show(title, (header, rows))
    terminal.say(f"machine: {setting.machine()}; {load}")
    terminal.say(f"medians of {flags.repeats} interleaved turns; replicate 0 of {run.name}")


if __name__ == "__main__":
    main()
