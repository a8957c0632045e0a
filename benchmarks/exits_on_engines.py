"""python -m benchmarks.exits_on_engines RUN: does stopping early save time on engines, too?

RUN is a finished run of `msdnet.main`. Its multi-scale network labels the test split image by image
on each engine, as floats and as 8-bit integers: by one file with all exits, and by a file for each
block, at thresholds that spend a half (and other shares) of the last exit's multiply-adds on the
validation split, by JAX's confidences. All take turns in one process, each on one thread.
"""

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import deploy
from benchmarks import early_exit, setting
from benchmarks.early_exit import SHARES, WHOLE, Measured
from deploy import engines
from groundwork import terminal, trees
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError, about
from groundwork.report import tables
from msdnet import exits, networks, results

CALIBRATION = 200  # training examples for integers
KINDS = ("float", "int8")


class Labelled(NamedTuple):
    """The labels of all test images, and the exit that each took."""

    labels: np.ndarray
    exits: np.ndarray


class Trained(NamedTuple):
    """A network of a run, and what it labels."""

    model: Any
    variables: Any
    temperatures: np.ndarray
    found: results.Network
    calibration: np.ndarray
    inputs: np.ndarray


def entrants(
    network: Trained, engine: str, kind: str, folder: Path
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Writes the files of an engine and kind; yields its contestants, by name."""
    folder.mkdir()
    example, integers = network.inputs[:1], network.calibration if kind == "int8" else None
    made = (network.model, network.variables, example, engine)
    whole = deploy.load(deploy.export(*made, folder / "whole", integers)[0], engine)
    yield WHOLE, lambda: np.asarray(whole(network.inputs)[-1]).argmax(-1)
    deploy.export_exits(*made, folder, integers)
    macs = network.found.macs
    confidences = network.found.answers["validation"]["confidences"][0]
    for budget in (share * macs[-1] for share in SHARES if share * macs[-1] >= macs[0]):
        chosen = exits.thresholds(confidences, macs, budget)
        run = deploy.load_exits(folder, engine, chosen, temperatures=network.temperatures)
        name = f"{budget / macs[-1]:.0%} of the multiply-adds"
        yield name, functools.partial(_labelled, run, network.inputs)


def _labelled(run: Callable[..., Any], inputs: np.ndarray) -> Labelled:
    answers = run(inputs)
    return Labelled(answers.logits.argmax(-1), answers.exits)


def trained(folder: Path) -> tuple[Trained, data_lib.Dataset, str]:
    """Returns replicate 0 of a run's multi-scale network, its data, and the run's name.

    Raises:
      UserError: there is no such run, or its data is not in memory.
    """
    run = results.read(folder)
    dataset = data_lib.load(run.config)
    if not isinstance(dataset, data_lib.Dataset):
        raise UserError("the test split must be in memory")
    variables, temperatures = results.load(folder)
    calibration, _ = data_lib.first_examples(dataset, CALIBRATION)
    inputs = np.asarray(data_lib.normalize(dataset, jnp.asarray(dataset.test.inputs)))
    network = Trained(
        networks.build("msdnet", run.config["msdnet"], dataset.classes),
        trees.replicate(variables, 0),
        temperatures[0],
        run.networks["msdnet"],
        np.asarray(calibration),
        inputs,
    )
    return network, dataset, run.name


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run of msdnet.main")
    here = [name for name in engines.installed() if name != "coreml"]
    parser.add_argument("--engines", default=",".join(here), help="separated by commas")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    flags = parser.parse_args()
    begun, load = time.perf_counter(), setting.load()
    try:
        with about("--engines"):
            for engine in flags.engines.split(","):
                engines.check_installed(engine)
        network, dataset, name = trained(flags.run)
    except UserError as error:
        sys.exit(f"error: {error}")
    contestants = {}
    with tempfile.TemporaryDirectory() as scratch:
        for engine in flags.engines.split(","):
            for kind in KINDS:
                made = entrants(network, engine, kind, Path(scratch) / f"{engine}-{kind}")
                contestants |= {(f"{engine} {kind}", way): run for way, run in made}
        seconds = early_exit.measure(contestants, flags.repeats)
        held = Measured(dataset.test.labels, network.found.macs)
        rows = []
        for (who, way), turns in seconds.items():
            reference = statistics.median(seconds[who, WHOLE])
            result = contestants[who, way]()
            rows.append([who, *early_exit.row_of(way, turns, reference, result, held)])
    header = ["", "", "ms/image", "× all exits", "× multiply-adds", "accuracy"]
    title = f"{len(network.inputs)} test images of {dataset.name}, one at a time, one thread"
    tables.show(title, (header, rows), keys=2)
    terminal.say(f"machine: {setting.machine()}; {load}")
    terminal.say(
        f"medians of {flags.repeats} interleaved turns; replicate 0 of {name}; "
        f"{time.perf_counter() - begun:.0f} s in all"
    )


if __name__ == "__main__":
    main()
