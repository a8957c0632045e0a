"""python -m compress.sensitivity RUN: how much each layer of a network bears, without training.

Each layer alone loses weights, ranks, units or bits, what is left makes up for it where that is
known how, and the loss on training examples is measured. The curves are in RUN: the table
`sensitivity.csv` and the figure `figures/sensitivity.png`. What was measured is kept in
`sensitivity.json`: the same command draws it again, and measures only what is new.
"""

import argparse
import csv
import io
import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from compress import made as made_lib
from compress.search import curves, sensitivity
from compress.search.original import Original
from compress.search.sensitivity import Sensitivities
from compress.search.space import SpaceSpec, make
from groundwork import architectures, atomic, buckets, copies, jsons, terminal, trees
from groundwork.data import dataset as data_lib
from groundwork.entry import run_main
from groundwork.errors import UserError, check_text, unknown
from groundwork.report import tables
from groundwork.runs import identity, trained
from groundwork.runs.run import Run
from groundwork.train import loss_spec, networks
from lowrank.factorization.methods import METHODS
from pruning.structured.importance import CRITERIA

UNITS = {  # command → the unit with the network that it begins from: the first that a run has
    "compress": ("networks/original",),
    "lottery": ("levels/00/ticket",),
    "lowrank": ("original",),
    "pruning": ("original", "dense"),
}
KINDS = {
    "density": "a share of the kernel's weights stays, the largest",
    "rank": "the kernel is one of a lower rank, which --methods find",
    "units": "a share of the units of the layer's outputs stays",
    "bits": "the kernel's weights share 2**bits values",
    "inputs": "what the layer is given is rounded to so few bits",
}
VALUES: Mapping[str, tuple[Any, ...]] = {
    "density": (0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02),
    "rank": (0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05),
    "units": (0.9, 0.75, 0.5, 0.35, 0.25, 0.1),
    "bits": (8, 6, 5, 4, 3, 2),
    "inputs": (8, 6, 4),
}
USUAL = "density,rank,units,bits"
TABLE, KEPT, FIGURE = "sensitivity.csv", "sensitivity.json", "figures/sensitivity.png"


class Measurement(NamedTuple):
    """What is measured: it must be the same for what was measured before to be used again."""

    unit: str
    examples: int
    criterion: str


def main(argv: Sequence[str]) -> None:
    """Measures, draws and prints the curves of a run's network."""
    check_text(argv)
    options = _parser().parse_args(argv)
    spec, kinds = _spec(options), options.kinds.split(",")
    folder = copies.near(options.run)
    measurement, original = _original(folder, options)
    space = make(spec, original.model, original.shapes, original.dataset.example, alone=True)
    known = _known(folder, measurement)

    def after(layer: str, so_far: Sensitivities) -> None:
        saved = {"of": list(measurement), **so_far.to_json()}
        _kept(lambda: atomic.write(folder / KEPT, json.dumps(saved)))
        terminal.say(f"{layer}: {len(space.options[layer]) - 1} settings measured")

    found = sensitivity.measure(original, space, measurement.examples, spec.criterion, known, after)
    metric = original.loss.metric
    rows = curves.rows(space, found, original.found.layers)
    terminal.say(f"{measurement.unit}: {_told(found, metric)}")
    tables.show(
        f"the least that loses at most {options.loss:g} of the {metric.words}",
        curves.table(rows, original.found.layers, kinds, options.loss),
    )
    for what, why in space.left.items():
        terminal.say(f"not measured: {what}: {why}")
    for line in textwrap.wrap(curves.caption(metric), 80):
        terminal.say(line)

    def drawn() -> None:
        _write(folder / TABLE, curves.HEADER, rows)
        curves.draw(rows, folder / FIGURE)
        if buckets.is_url(options.run):
            buckets.bucket(options.run).send((TABLE, KEPT, FIGURE), folder)

    where = options.run if buckets.is_url(options.run) else folder
    terminal.say(_kept(drawn) or f"figure: {where}/{FIGURE}; table: {where}/{TABLE}")


def _kept(write: Callable[[], None]) -> str:
    """Writes into the run; returns a line that says why not, if its disk can only be read."""
    try:
        write()
    except OSError as error:
        if error.errno not in atomic.READ_ONLY:
            raise
        return f"nothing is kept: {error.filename} cannot be written ({error.strerror})"
    return ""


def _told(found: Sensitivities, metric: Any) -> str:
    return (
        f"loss {found.plain.loss:.4f}, {metric.words} {found.plain.accuracy:.4f} "
        f"on {found.examples:,} training examples"
    )


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise the error that `run_main` prints."""
        raise UserError(f"{message} (see --help)")


def _parser() -> argparse.ArgumentParser:
    kinds = "\n".join(f"  {name:8} {text}" for name, text in KINDS.items())
    parser = _Parser(
        prog="python -m compress.sensitivity",
        description=__doc__,
        epilog=f"kinds:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help=f"a finished run of {', '.join(UNITS)}")
    parser.add_argument("--unit", default="", help="of the run (its original network)")
    parser.add_argument("--kinds", default=USUAL, help=f"what is taken ({USUAL}); see below")
    parser.add_argument(
        "--methods", default="svd_outputs", help="of low rank, such as svd,tucker (svd_outputs)"
    )
    parser.add_argument("--criterion", default="l2", help="what ranks units (l2)")
    parser.add_argument(
        "--examples",
        type=int,
        default=sensitivity.EXAMPLES,
        help=f"of training, to measure with ({sensitivity.EXAMPLES})",
    )
    parser.add_argument(
        "--loss",
        type=float,
        default=0.01,
        help="of accuracy, or of the run's metric, which the table allows (0.01)",
    )
    return parser


def _spec(options: argparse.Namespace) -> SpaceSpec:
    kinds = options.kinds.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--kinds={options.kinds}: {kind!r} is none of {', '.join(KINDS)}")
    if not 0 <= options.loss < math.inf:
        raise UserError(f"--loss={options.loss} must be a number, at least 0")
    if options.criterion not in CRITERIA:
        raise unknown("--criterion", options.criterion, CRITERIA)
    for method in options.methods.split(","):
        if method not in METHODS["Conv"]:
            raise unknown("--methods", method, METHODS["Conv"])
    values: dict[str, Any] = {kind: VALUES[kind] if kind in kinds else () for kind in KINDS}
    return SpaceSpec(
        densities=values["density"],
        ranks=values["rank"],
        methods=tuple(options.methods.split(",")) if values["rank"] else (),
        units=values["units"],
        bits=values["bits"],
        activation_bits=values["inputs"],
        criterion=options.criterion,
    )


def _original(folder: Path, options: argparse.Namespace) -> tuple[Measurement, Original]:
    """Returns the network of a run, and what is measured of it.

    Raises:
      UserError: the folder has no run, or one of another command, or no such finished network.
    """
    about = identity.read_about(folder)
    command, config = about["command"], about["config"]
    if command not in UNITS:
        raise UserError(f"{folder} is a run of {command}, not of {', '.join(UNITS)}")
    finished = Run(folder).units()
    first = next((unit for unit in UNITS[command] if unit in finished), UNITS[command][0])
    unit = options.unit or first
    dataset = data_lib.load(config)
    if options.examples < 1:
        raise UserError(f"--examples={options.examples} must be at least 1")
    networks.check_examples("--examples", options.examples, dataset)
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    variables = trained.load(folder, unit, shapes, model)
    count = trees.replicates(variables)
    variables = trained.replicated(variables, shapes, count, f"{folder}: {unit}")
    mask: Any = trained.mask(folder, unit, variables["params"])
    original = Original(
        model=model,
        variables=variables,
        mask=made_lib.zeros(variables["params"]) if mask is None else mask,
        dataset=dataset,
        loss=loss_spec.build(loss_spec.from_config(config), dataset.target),
        seed=config["seed"],
    )
    return Measurement(unit, options.examples, options.criterion), original


def _known(folder: Path, measurement: Measurement) -> Sensitivities | None:
    """Returns what was measured before; None if that was something else, or is damaged."""
    try:
        saved = jsons.parse((folder / KEPT).read_bytes())
        if saved["of"] == list(measurement):
            return Sensitivities.from_json(saved)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        terminal.say(f"{folder / KEPT} cannot be read ({error}): all is measured again")
    return None


def _write(path: Path, header: Sequence[str], rows: Sequence[Any]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    atomic.write(path, text.getvalue())


if __name__ == "__main__":
    run_main(main)
