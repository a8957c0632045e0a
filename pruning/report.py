"""python -m pruning.report RUN [RUN…]: tables, figures and the page of each run, drawn again."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from groundwork import terminal
from groundwork.entry import run_main
from groundwork.errors import UserError
from groundwork.report import comparison, judged, tables
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison, Curve
from groundwork.report.tables import Rows, averages, plus_minus, time_cells
from groundwork.runs.metrics import mean_and_spread
from pruning import plots, results
from pruning.results import Network, Pruned, Results
from pruning.weights import report as weights_report
from pruning.weights.results import of_weights

NOTE = (
    "{Values} are the {averages}, on the test split, at the last step. Multiply-adds are those of "
    "convolutions and linear layers, for one example, from the traced computation; parameters are "
    "counted in the trees; bytes are those of an uncompressed .npz file of one replicate's "
    "variables. Milliseconds are medians (quartiles) of calls in turns with the original's, "
    "on this run's machine. All replicates keep as many units of a group; which ones may differ."
)
PANELS: dict[str, Callable[[Network], float]] = {  # of a comparison
    "multiply-adds": lambda network: float(network.macs),
    "parameters": lambda network: float(network.parameters),
}
TITLES = {"scratch_e": "scratch-E", "scratch_b": "scratch-B", "random_units": "random units"}


def show(folders: Sequence[Path]) -> None:
    """Draws the figures of each run, writes its page, and prints its tables."""
    for folder in folders:
        (weights_report.show if of_weights(folder) else _show)(folder)


def _show(folder: Path) -> None:
    run = results.read(folder)
    page = page_lib.said(functools.partial(_write_page, run))
    tables.show(f"{run.name}: networks", _network_table(run))
    if run.pruned:
        tables.show(f"{run.name}: asked for, and the shares that are gone", _gone_table(run))
    if any(pruned.branches for pruned in run.pruned):
        tables.show(f"{run.name}: fine-tuned, and its controls", _branch_table(run))
    if run.pruned:
        tables.show(f"{run.name}: measured times", _time_table(run))
    terminal.say(page)


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs, with their best networks, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a finished original, or not all remove the same.
    """
    single = {of_weights(folder) for folder in folders}
    if len(single) > 1:
        raise UserError("some runs remove units and some single weights: compare like ones")
    if single == {True}:
        return weights_report.compare(folders)
    runs = dict(zip(comparison.names(folders), map(results.read, folders), strict=True))
    metric = comparison.metric_of(list(runs.values()))
    panels = {
        cost: [_curve(name, run, of_network) for name, run in runs.items()]
        for cost, of_network in PANELS.items()
    }
    figure = comparison.folder(folders) / f"{metric.name}.png"
    return comparison.make(
        "Structured pruning: a comparison",
        folders,
        figure=comparison.draw_panels(panels, figure, metric),
        summary="The most accurate" if metric.is_share else "The best",
        header=["parameters", "MACs", "original", "best", "×", "fine-tuned"],
        rows={name: _best(run) for name, run in runs.items()},
        tables={name: _network_table(run) for name, run in runs.items()},
        records=[record for name, run in runs.items() for record in _records(name, run)],
        metric=metric,
    )


def _best(run: Results) -> list[str]:
    """Returns a row: the original, and the ratio, cost and accuracy of the best pruned network.

    × is its share of the original's multiply-adds.
    """
    whole = run.original
    original = [f"{whole.parameters:,}", f"{whole.macs:,}", plus_minus(whole.test)]
    if not run.pruned:
        return [*original, "", "", ""]
    sign = run.metric.sign
    best = max(run.pruned, key=lambda pruned: sign * mean_and_spread(pruned.network.test)[0])
    share = best.network.macs / whole.macs
    return [*original, best.label, f"{share:.2f}", plus_minus(best.network.test)]


def _curve(name: str, run: Results, cost: Callable[[Network], float]) -> Curve:
    networks = [run.original, *(pruned.network for pruned in run.pruned)]
    return Curve(
        label=name, costs=[cost(n) for n in networks], accuracies=[n.test for n in networks]
    )


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    if of_weights(folder):
        return weights_report.records(name, folder)
    return _records(name, results.read(folder))


def _records(name: str, run: Results) -> list[dict[str, Any]]:
    """Returns one record for the original, for each pruned network and for each control."""
    networks = [("original", run.original)]
    for pruned in run.pruned:
        networks.append((f"pruned/{pruned.label}", pruned.network))
        networks += [(f"{branch}/{pruned.label}", n) for branch, n in pruned.branches.items()]
    return [
        {
            "run": name,
            "network": network_name,
            "replicates": len(network.test),
            "macs": network.macs,
            "parameters": network.parameters,
            "bytes": network.bytes,
            **{f"ms_of_{batch}": both[1] for batch, both in network.milliseconds.items()},
            **comparison.accuracy_fields(network.test, run.metric),
        }
        for network_name, network in networks
    ]


def _write_page(run: Results) -> Path:
    folder, metric = run.folder / "figures", run.metric
    note = NOTE.format(
        averages=averages(run.config["replicates"]), Values=metric.plural.capitalize()
    )
    sections = [("What is counted", page_lib.paragraph(note))]
    if run.pruned:
        drawn = page_lib.picture(*plots.accuracy(run, folder / f"{metric.name}.png"))
        sections.append((f"{metric.title} against cost", drawn))
        compared = {"original": run.original, run.pruned[-1].label: run.pruned[-1].network}
        kept = {name: network.shown for name, network in compared.items()}
        if answers := judged.pictures(run, kept, folder / "answers.png"):
            sections.append(("Test examples", page_lib.picture(*answers)))
    sections.append(("Networks", page_lib.table(*_network_table(run))))
    if run.pruned:
        gone = page_lib.table(*_gone_table(run))
        sections.append(("Asked for, and the shares that are gone", gone))
    if any(pruned.branches for pruned in run.pruned):
        table = page_lib.table(*_branch_table(run))
        sections.append(("Fine-tuned, and its controls", table))
    if run.pruned:
        doubts = tables.doubts(pruned.network.milliseconds for pruned in run.pruned)
        shown = page_lib.table(*_time_table(run)) + page_lib.warning(doubts)
        sections.append(("Measured times", shown))
        drawn = page_lib.picture(*plots.units(run, folder / "units.png"))
        sections.append(("Units that are kept", drawn))
    if run.coupling:
        drawn = page_lib.picture(*plots.coupling(run, folder / "coupling.png"))
        sections.append(("Which layers have units in common", drawn))
    return page_lib.write_run(run, f"Pruning: {run.name}", sections)


def _network_table(run: Results) -> Rows:
    """Returns one row per network; × is the share of the original's multiply-adds."""
    header = ["ratio", "parameters", "MACs", "×", "before", "fine-tuned"]
    tuned = plus_minus(run.fine_tuned.test, 4) if run.fine_tuned else ""
    rows = [["0", *_costs(run.original, run), plus_minus(run.original.test, 4), tuned]]
    for pruned in run.pruned:
        row = [_ratio(pruned), *_costs(pruned.network, run)]
        row += [plus_minus(pruned.network.before, 4), plus_minus(pruned.network.test, 4)]
        rows.append(row)
    best = run.fine_tuned or run.original
    return judged.beside(
        (header, rows), [best.judged, *(pruned.network.judged for pruned in run.pruned)]
    )


def _gone_table(run: Results) -> Rows:
    """Returns one row per pruned network: what was asked for, and which shares of it are gone."""
    header = ["asked for", "units", "parameters", "MACs", "file", "bytes left"]
    rows = [["the original", "", "", "", "", f"{run.original.bytes:,}"]]
    for pruned in run.pruned:
        network = pruned.network
        shares = [
            1 - left / whole
            for left, whole in (
                (sum(pruned.kept.values()), sum(run.units.values())),
                (network.parameters, run.original.parameters),
                (network.macs, run.original.macs),
                (network.bytes, run.original.bytes),
            )
        ]
        gone = [f"{share:.3f}" for share in shares]
        rows.append([_asked(run, pruned), *gone, f"{network.bytes:,}"])
    return header, rows


def _asked(run: Results, pruned: Pruned) -> str:
    """Returns what the config asked for: units, a cost or an accuracy."""
    if pruned.label != "target":
        return "patterns" if pruned.label == "patterns" else f"{pruned.label} of the units"
    prune = run.config["prune"]
    if prune["keep_accuracy"]:
        return f"{prune['keep_accuracy']:g} of the {run.metric.words}"
    name, target = next((name, value) for name, value in prune["target"].items() if value)
    return f"{target:,g} {name.replace('_', '-')}"


def _costs(network: Network, run: Results) -> list[str]:
    share = network.macs / run.original.macs
    return [f"{network.parameters:,}", f"{network.macs:,}", f"{share:.2f}"]


def _ratio(pruned: Pruned) -> str:
    """Returns the ratio, of which the target or the patterns of the config are named, too."""
    if isinstance(pruned.ratio, dict):
        return pruned.label
    found = f"{pruned.ratio:.3g}"
    return f"target: {found}" if pruned.label == "target" else found


def _branch_table(run: Results) -> Rows:
    """Returns one row per pruned network: fine-tuned, and its controls."""
    branches = [b for b in TITLES if any(b in pruned.branches for pruned in run.pruned)]
    rows = []
    for pruned in run.pruned:
        row = [_ratio(pruned), plus_minus(pruned.network.test, 4)]
        for branch in branches:
            network = pruned.branches.get(branch)
            row.append(plus_minus(network.test, 4) if network else "")
        rows.append(row)
    return ["ratio", "fine-tuned", *(TITLES[branch] for branch in branches)], rows


def _time_table(run: Results) -> Rows:
    """Returns one row per network and batch size: its time, the original's, and their ratio."""
    header = ["ratio", "examples", "original, ms", "own, ms", "×"]
    rows = [
        [_ratio(pruned), batch, *time_cells(pruned.network.milliseconds, [batch])]
        for pruned in run.pruned
        for batch in pruned.network.milliseconds
    ]
    return header, rows


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
