"""The tables of a search, and remarks about it: functions from results to texts."""

# R replicates

from collections.abc import Sequence

import numpy as np

from compress.results import Network
from compress.search import history
from compress.search.results import Results, settings_of
from groundwork.report.tables import Rows, plus_minus

UNITS = {
    "bytes": "bytes",
    "multiply_adds": "multiply-adds",
    "parameters": "parameters",
    "milliseconds": "milliseconds",
    "memory_bytes": "bytes of memory",
}


def front(run: Results, names: Sequence[str] = ()) -> Rows:
    """Returns one row per candidate that no other beats, with these costs; by default with all."""
    names = names or run.measured
    header = ["network", "proposed by", "rounds", "validation", *(UNITS[name] for name in names)]
    rows = [
        [
            one.name.removeprefix("candidates/"),
            one.origin,
            str(one.last.rounds),
            plus_minus(one.last.validation, 4),
            *(number(one.cost(name)) for name in names),
        ]
        for one in run.front()
    ]
    return header, rows


def candidates(run: Results) -> Rows:
    """Returns one row per candidate, in their order."""
    name = run.objectives[0]
    header = ["candidate", "from", "proposed by", "rounds", UNITS[name], "validation", "seconds"]
    rows = []
    for one in run.candidates:
        row = [f"{one.number:04d}", _parent(one.parent), one.origin]
        if one.judged:
            last = one.last
            row += [str(last.rounds), number(one.cost(name)), plus_minus(last.validation, 4)]
        else:
            row += ["", "", "failed"]
        rows.append([*row, f"{one.seconds:.1f}"])
    return header, rows


def layers(run: Results) -> Rows:
    """Returns one row per layer of the chosen network: what was done to it, and what is left."""
    header = ["layer", "what is done", "weights kept", "of"]
    rows = []
    chosen = run.chosen
    for layer, setting in settings_of(run).items():
        kept, size = kept_of(chosen, layer) if chosen else (0.0, 0)
        rows.append([layer, str(setting), f"{kept:,.0f}", f"{size:,}"])
    return header, rows


def kept_of(network: Network, layer: str) -> tuple[float, int]:
    """Returns how many weights of a layer's kernels are kept, the mean, and how many it has."""
    paths = [path for path in network.masked if f"{path}/".startswith(f"{layer}/")]
    kept = float(np.mean(np.sum([network.kept[path] for path in paths], axis=0))) if paths else 0.0
    return kept, sum(network.sizes[path] for path in paths)


def remarks(run: Results) -> list[str]:
    """Returns lines that say what was found, and what the search cost."""
    done = history.evaluated(run.candidates)
    lines = []
    if run.chosen is not None:
        network = run.chosen
        files = run.folder / "files" / "chosen"
        tests = f"{plus_minus(network.test, 4)}, the original's {plus_minus(run.original.test, 4)}"
        trained = " and more training" if run.longer else ""
        lines.append(
            f"chosen: candidate {run.candidate:04d}{trained}: {network.mean_bytes:,.0f} bytes, "
            f"{network.times_smaller:.1f} times smaller; test {run.metric.words} {tests}; files: "
            f"{files}"
        )
        lines.append(f"it is made again by {again(run)}")
    for name, most in run.asked.items():
        lines.append(f"budget.{name}={most:g}")
    lines += [f"candidate {one.number:04d} failed: {one.failed}" for one in _broken(run)]
    if late := [one for one in run.candidates if _is_late(one.failed)]:
        lines.append(
            f"{len(done)} of {len(run.candidates)} candidates were evaluated before "
            f"search.seconds={run.config['search']['seconds']:g} were over (from candidate "
            f"{late[0].number:04d} on there are none)"
        )
    lines.append(
        f"{len(done)} candidates took {run.seconds:,.0f} seconds, {run.before:,.0f} of them to "
        "know the layers"
    )
    return lines


def again(run: Results) -> str:
    """Returns the flags with which the chosen network is made again."""
    choice = run.folder / "choice.json"
    return (
        f"the same command with --workdir=DIR --config.search.choice={choice} "
        "--config.evaluations=0"
    )


def number(value: float) -> str:
    """Returns a cost as a text."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _broken(run: Results) -> Sequence[history.Candidate]:
    return [one for one in run.candidates if one.failed and not _is_late(one.failed)]


def _is_late(failed: str) -> bool:
    return failed.startswith("search.seconds=")


def _parent(number: int) -> str:
    return "original" if number == history.ORIGINAL else f"{number:04d}"
