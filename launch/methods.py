"""python -m launch.methods [--to=FOLDER] RUN [RUN…]: which method keeps how much accuracy.

One table and one figure of runs of lottery.main and pruning.main over single weights: a row per
method, a column per density, with the steps and the seconds that led to the sparsest network.
Networks count for a density from which theirs differs by at most 3 %.
"""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from groundwork import copies, terminal
from groundwork.entry import run_main
from groundwork.errors import UserError
from groundwork.report import comparison, tables
from groundwork.report import page as page_lib
from groundwork.report.comparison import Curve
from groundwork.report.tables import Rows, plus_minus
from groundwork.runs import identity, operations
from groundwork.runs.operations import Spent
from groundwork.runs.results import RunResults, readable
from lottery import results as tickets
from lottery.results import Point
from lottery.tickets import scored_names, unit_name
from pruning.weights import results as weights
from pruning.weights.methods import METHODS

CLOSE = 0.03  # of a density: what counts as the same
CHAINS = ("finetune", "lr_rewind")  # branches that go on from their own level before


class Sparse(NamedTuple):
    """A network, and what led to it."""

    density: float  # the mean over replicates
    accuracy: list[float]  # on test, at the end, [R]
    spent: Spent  # from the initialisation on


class Method(NamedTuple):
    """A row of the table."""

    name: str
    networks: list[Sparse]


def methods_of(folder: Path) -> tuple[RunResults, list[Method]]:
    """Returns a run and the methods that it has networks of; "dense" is one of them.

    Raises:
      UserError: there is no such run, or it removes whole units.
    """
    command = identity.read_about(folder)["command"]
    with readable(folder):
        if command == "lottery":
            return _of_lottery(folder)
        if command == "pruning" and weights.of_weights(folder):
            return _of_pruning(folder)
    raise UserError(f"{folder} has no run over single weights: give runs of lottery or pruning")


def _of_lottery(folder: Path) -> tuple[RunResults, list[Method]]:
    run = tickets.read(folder)
    prune = run.config["prune"]
    spent = operations.spent(operations.read(run.folder / "metrics.jsonl"))
    scored = any(unit.startswith("scored/") for unit in spent)
    at_step_0 = bool(prune.get("before_training"))

    def network(point: Point) -> Sparse:
        units = _trainings(point.branch, point.level, scored, at_step_0)
        return Sparse(point.density, point.accuracy, _sum(spent, units))

    how = "" if prune["criterion"] == "magnitude" else f": {prune['criterion']}"
    how += ", before training" if at_step_0 else ""
    methods = [
        Method(f"{branch}{how}", [network(point) for point in run.of(branch) if point.level])
        for branch in run.branches()
    ]
    if ("ticket", 0) in run.points:
        methods.append(Method("dense", [network(run.points["ticket", 0])]))
    return run, [method for method in methods if method.networks]


def _trainings(branch: str, level: int, scored: bool = False, at_step_0: bool = False) -> list[str]:
    """Returns the units that led to a branch at a level.

    Args:
      branch: or `ticket`.
      level: of it.
      scored: whether tickets stop over at a step at which they are scored, in a unit of its own.
      at_step_0: whether masks are chosen before any training.
    """

    def ticket(level: int) -> list[str]:
        return [*scored_names(scored, level), unit_name(level, "ticket")]

    dense = ["start", *ticket(0)]
    if branch in CHAINS:
        return [*dense, *(unit_name(k, branch) for k in range(1, level + 1))]
    own = ticket(level) if branch == "ticket" else [unit_name(level, branch)]
    if branch == "small_dense":
        return own
    if branch == "random_mask" or at_step_0:
        return ["start", *own]
    return ["start", *(ticket(k)[0] for k in range(level)), *own]


def _of_pruning(folder: Path) -> tuple[RunResults, list[Method]]:
    run = weights.read(folder)
    prune = run.config["prune"]
    name = prune["method"]
    used = METHODS[name].keys
    if "criterion" in used:
        corrected = ", corrected" if prune["correct"] else ""
        name = f"{name}: {prune['criterion']}{corrected}"
    if prune["pattern"] != "none":
        name = f"{name}, {prune['pattern']}"
    elif "scope" in used:
        name = f"{name}, {prune['scope']}"
    networks = [
        Sparse(float(np.mean(n.density)), n.test, Spent(n.steps, n.seconds or 0.0))
        for n in run.sparse
    ]
    dense = Sparse(1.0, run.dense.test, Spent(run.dense.steps, run.dense.seconds or 0.0))
    return run, [Method(name, networks), Method("dense", [dense])]


def _sum(spent: dict[str, Spent], units: Iterable[str]) -> Spent:
    found = [spent[unit] for unit in units if unit in spent]
    return Spent(sum(one.steps for one in found), sum(one.seconds for one in found))


def gather(folders: Sequence[Path]) -> tuple[list[RunResults], list[Method]]:
    """Returns the runs and their methods, "dense" first and once: the first run's.

    Raises:
      UserError: see `methods_of`; or two runs have the same method.
    """
    runs, methods = [], dict[str, Method]()
    for folder in folders:
        run, found = methods_of(folder)
        runs.append(run)
        for method in found:
            if method.name == "dense":
                methods.setdefault("dense", method)
            elif method.name in methods:
                raise UserError(f"{folder}: another run has the method {method.name!r}, too")
            else:
                methods[method.name] = method
    return runs, sorted(methods.values(), key=lambda method: method.name != "dense")


def table(methods: Sequence[Method], densities: Sequence[float]) -> Rows:
    """Returns a row per method; steps and seconds are those of the last density that it has."""
    header = ["method", *(f"{density:g}" for density in densities), "steps", "seconds"]
    rows = []
    for method in methods:
        at = [_nearest(method, density) for density in densities]
        if not any(at):
            continue
        cells = [plus_minus(one.accuracy) if one else "" for one in at]
        last = next(one for one in reversed(at) if one)
        cells += [f"{last.spent.steps:,}", f"{last.spent.seconds:,.0f}"]
        rows.append([method.name, *cells])
    return header, rows


def _left_out(methods: Sequence[Method], densities: Sequence[float]) -> list[str]:
    """Returns one line for each method that has no row."""
    return [
        f"{method.name} has no row: its densities are "
        f"{', '.join(f'{network.density:.3g}' for network in method.networks) or 'none'}"
        for method in methods
        if not any(_nearest(method, density) for density in densities)
    ]


def _others(runs: Sequence[RunResults]) -> list[str]:
    """Returns one line for each run whose data or network is not that of the first."""
    first, lines = runs[0], []
    for run in runs[1:]:
        pairs = {
            "data": (run.about.get("data"), first.about.get("data")),
            "model": (run.config.get("model"), first.config.get("model")),
        }
        if differing := [key for key, (own, other) in pairs.items() if own != other]:
            keys = " and ".join(differing)
            lines.append(f"warning: {run.name} and {first.name} differ in their {keys}")
    return lines


def _nearest(method: Method, density: float) -> Sparse | None:
    near = [n for n in method.networks if abs(n.density / density - 1) <= CLOSE]
    return min(near, key=lambda network: abs(network.density - density), default=None)


def main(argv: Sequence[str]) -> None:
    """Prints the table, and writes it as a page with a figure.

    Raises:
      UserError: a run cannot be read, or an argument is wrong.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(str(__doc__).strip())
        return
    flags = [word for word in argv if word.startswith("--")]
    if wrong := [flag for flag in flags if not flag.startswith("--to=")]:
        raise UserError(f"unknown flag {wrong[0]}: give --to=FOLDER and the folders of runs")
    folders = [copies.near(word) for word in argv if not word.startswith("--")]
    if not folders:
        raise UserError("no run: give the folders of runs")
    runs, methods = gather(folders)
    metric = comparison.metric_of(runs)
    densities = sorted(
        {d for run in runs for d in _asked(run)} or {0.2, 0.1, 0.05, 0.02}, reverse=True
    )
    columns = sorted({1.0, *densities}, reverse=True)
    rows = table(methods, columns)
    for line in _others(runs):
        terminal.say(line)
    tables.show(f"test {metric.words} by density", rows)
    for line in _left_out(methods, columns):
        terminal.say(line)
    folder = Path(flags[-1].removeprefix("--to=")) if flags else comparison.folder(folders)
    curves = [
        Curve(
            label=method.name,
            costs=[n.density for n in method.networks],
            accuracies=[n.accuracy for n in method.networks],
        )
        for method in methods
    ]
    picture = comparison.draw(curves, "density (kept / prunable)", folder / "methods.png", metric)
    sections = [
        (f"Test {metric.words} by density", page_lib.table(*rows)),
        ("Figure", page_lib.picture(*picture)),
    ]
    page = page_lib.said(
        functools.partial(page_lib.write, folder, "What to prune, and when", sections)
    )
    terminal.say(page)


def _asked(run: RunResults) -> list[float]:
    """Returns the densities that a run of pruning was asked for; a search or N:M decides itself."""
    prune = run.config["prune"]
    method = METHODS.get(prune.get("method", ""))
    if method is None or "density" not in method.keys or ":" in prune["pattern"]:
        return []
    if prune["keep_accuracy"] or prune["least_accuracy"]:
        return []
    asked = prune["density"]
    return list(asked) if isinstance(asked, list | tuple) else [asked]


if __name__ == "__main__":
    run_main(main)
