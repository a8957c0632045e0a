"""Tables, figures and the page of a run over single weights."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import terminal
from groundwork.report import comparison, figures, judged, tables
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison, Curve
from groundwork.report.tables import Rows, averages, plus_minus
from groundwork.runs.metrics import mean_and_spread
from pruning.weights import results
from pruning.weights.methods import METHODS
from pruning.weights.results import Network, Results

NOTE = (
    "{Values} are the {averages}, on the test split, at the last step. Density is the share of the "
    "prunable weights that is kept. Steps are all that led to a network, from its initialisation: "
    "where a trained network is pruned, its training counts. What a search tries besides does not. "
    "Seconds were spent in these steps, with their evaluations and without compilation, for all "
    "replicates together on this run's machine."
)


def show(folder: Path) -> None:
    """Draws the figures of a run, writes its page, and prints its tables."""
    run = results.read(folder)
    page = page_lib.said(functools.partial(_write_page, run))
    tables.show(f"{run.name}: networks", _network_table(run))
    tables.show(f"{run.name}: weights that are kept", _kept_table(run))
    for line in _untouched(run):
        terminal.say(line)
    terminal.say(page)


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs, with their best networks, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a finished dense network.
    """
    runs = dict(zip(comparison.names(folders), map(results.read, folders), strict=True))
    metric = comparison.metric_of(list(runs.values()))
    curves = [
        Curve(
            label=name,
            costs=[float(np.mean(network.density)) for network in (run.dense, *run.sparse)],
            accuracies=[network.test for network in (run.dense, *run.sparse)],
        )
        for name, run in runs.items()
    ]
    figure = comparison.folder(folders) / f"{metric.name}.png"
    return comparison.make(
        "Sparse networks: a comparison",
        folders,
        figure=comparison.draw(curves, "density (kept / prunable)", figure, metric),
        summary="The sparsest",
        header=["method", "dense", "density", "sparse"],
        rows={name: _sparsest(run) for name, run in runs.items()},
        tables={name: _network_table(run) for name, run in runs.items()},
        records=[record for name, run in runs.items() for record in _records(name, run)],
        metric=metric,
    )


def _sparsest(run: Results) -> list[str]:
    method, dense = run.config["prune"]["method"], plus_minus(run.dense.test)
    if not run.sparse:
        return [method, dense, "none yet", ""]
    last = run.sparse[-1]
    return [method, dense, f"{np.mean(last.density):.4f}", plus_minus(last.test)]


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    return _records(name, results.read(folder))


def _records(name: str, run: Results) -> list[dict[str, Any]]:
    """Returns one record per network."""
    return [
        {
            "run": name,
            "method": run.config["prune"]["method"],
            "network": network.label,
            "replicates": len(network.test),
            "density": float(np.mean(network.density)),
            "steps": network.steps,
            "seconds": network.seconds,
            **comparison.accuracy_fields(network.test, run.metric),
        }
        for network in (run.dense, *run.sparse)
    ]


def _write_page(run: Results) -> Path:
    folder, metric = run.folder / "figures", run.metric
    note = NOTE.format(
        averages=averages(run.config["replicates"]), Values=metric.plural.capitalize()
    )
    about = METHODS[run.config["prune"]["method"]].about
    sections = [
        ("The method", page_lib.paragraph(about)),
        ("What is counted", page_lib.paragraph(note)),
    ]
    if run.sparse:
        drawn = page_lib.picture(*accuracy_figure(run, folder / f"{metric.name}.png"))
        sections.append((f"{metric.title} against density", drawn))
        kept = {n.label: results.shown(run, n) for n in (run.dense, run.sparse[-1])}
        if answers := judged.pictures(run, kept, folder / "answers.png"):
            sections.append(("Test examples", page_lib.picture(*answers)))
    sections.append(("Networks", page_lib.table(*_network_table(run))))
    if run.sparse:
        drawn = page_lib.picture(*layers_figure(run, folder / "layers.png"))
        sections.append(("Which layers keep how much", drawn))
        sections.append(("Weights that are kept", page_lib.table(*_kept_table(run))))
    if lines := _untouched(run):
        sections.append(("What the pattern leaves dense", page_lib.bullets(lines)))
    return page_lib.write_run(run, f"Pruning: {run.name}", sections)


def _network_table(run: Results) -> Rows:
    """Returns one row per network."""
    header = ["asked for", "density", "before", "after", "steps", "seconds"]
    networks = (run.dense, *run.sparse)
    return judged.beside((header, [_row(n) for n in networks]), [n.judged for n in networks])


def _row(network: Network) -> list[str]:
    return [
        network.label,
        f"{np.mean(network.density):.4f}",
        plus_minus(network.before, 4),
        plus_minus(network.test, 4),
        f"{network.steps:,}",
        "" if network.seconds is None else f"{network.seconds:.1f}",
    ]


def _kept_table(run: Results) -> Rows:
    """Returns one row per layer: its weights, and how many of them each sparse network keeps."""
    header = ["layer", "weights", *(network.label for network in run.sparse)]
    rows = [
        [path, f"{size:,}", *(f"{network.kept[path][0]:,.0f}" for network in run.sparse)]
        for path, (_, size) in run.dense.kept.items()
    ]
    return header, rows


def _untouched(run: Results) -> list[str]:
    """Returns one line for each layer that a pattern leaves dense."""
    found = {path: why for network in run.sparse for path, why in network.untouched.items()}
    return [f"{path} stays dense: {why}" for path, why in found.items()]


def accuracy_figure(run: Results, path: Path) -> tuple[Path, str]:
    """Draws test accuracy against density; of trained networks, before fine-tuning, too."""
    figure, (ax,) = figures.subplots()
    densities = [float(np.mean(network.density)) for network in run.sparse]
    ax.axhline(mean_and_spread(run.dense.test)[0], color="black", lw=0.8, label="dense")
    after = [network.test for network in run.sparse]
    figures.band(ax, densities, after, color="#1f5fb4", marker="o", ms=4, label="sparse")
    tuned = METHODS[run.config["prune"]["method"]].fine_tunes
    if tuned:
        before = [network.before for network in run.sparse]
        style: dict[str, Any] = {"linestyle": "--", "marker": "o", "ms": 4, "mfc": "white"}
        figures.band(ax, densities, before, color="#888888", label="before fine-tuning", **style)
    figures.density_axis(ax)
    ax.set_ylabel(f"test {run.metric.words}")
    figure.legend(loc="outside upper center", ncols=3)
    caption = (
        f"Test {run.metric.words} against density{', before fine-tuning and after it' * tuned}. "
        "The horizontal line is the dense network. Means over replicates; bands are one standard "
        "deviation."
    )
    return figures.save(figure, path), caption


def layers_figure(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the share of weights that each sparse network keeps, layer by layer."""
    names = list(run.dense.kept)
    figure, (ax,) = figures.subplots(1, width=4.8, height=1.2 + 0.28 * len(names))
    height = 0.8 / len(run.sparse)
    for number, network in enumerate(run.sparse):
        places = [place + number * height for place in range(len(names))]
        shares = [network.kept[name][0] / network.kept[name][1] for name in names]
        ax.barh(places, shares, height, label=f"{network.label}")
    middles = [n + 0.4 - height / 2 for n in range(len(names))]
    ax.set_yticks(middles, figures.short(names, 20), fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel("density (kept / prunable)")
    figure.legend(loc="outside upper center", ncols=4)
    caption = "The share of each layer's weights that is kept: means over replicates."
    return figures.save(figure, path), caption
