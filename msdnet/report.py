"""python -m msdnet.report RUN [RUN…]: tables, figures and the page of each run, drawn again."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from groundwork import terminal
from groundwork.entry import run_main
from groundwork.report import comparison, tables
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison, Curve
from groundwork.report.tables import Rows, averages, plus_minus
from msdnet import exits, plots, results
from msdnet.plots import label
from msdnet.results import Network, Results

BUDGETS = (0.25, 0.5, 0.75, 1.0)  # of the multiply-adds of the reference's last exit
NOTE = (
    "Accuracies and calibration errors are the {averages}, "
    "on the test split. Multiply-adds are those of convolutions and linear layers. A "
    "prediction at an exit costs all blocks and all classifiers up to there: that is what is "
    "reported, unless a number says “alone” (blocks and this classifier, whose parameters an "
    "exit's row has too); exits that are networks of their own, as widths are, cost that much "
    "where one is chosen, and all up to it where they are asked in turn. Milliseconds per image "
    "were measured on this run's machine, with replicate 0, in batches of at most 256. Thresholds "
    "keep a budget on the validation split; on test more or less may be spent: “spent / budget” is "
    "the mean cost of a test image, as a multiple of the budget. An area under a curve is the mean "
    "accuracy over costs between its cheapest and its most expensive point."
)


def show(folders: Sequence[Path]) -> None:
    """Draws the figures of each run, writes its page, and prints its tables."""
    runs = [results.read(folder) for folder in folders]
    pages = [page_lib.said(functools.partial(_write_page, run)) for run in runs]
    for run, page in zip(runs, pages, strict=True):
        for name, network in run.networks.items():
            tables.show(f"{run.name}: {label(run, name)}", _exit_table(network))
        tables.show(f"{run.name}: accuracy at a mean budget", _budget_table(run))
        tables.show(f"{run.name}: areas", _area_table(run))
        terminal.say(page)


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs, with their last exits, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a finished network.
    """
    runs = dict(zip(comparison.names(folders), map(results.read, folders), strict=True))
    networks = {
        f"{name}: {label(run, network.name)}": network
        for name, run in runs.items()
        for network in run.networks.values()
    }
    curves = [
        Curve(
            label=label,
            costs=[float(macs) for macs in network.macs],
            accuracies=network.accuracy.T.tolist(),
        )
        for label, network in networks.items()
    ]
    where = comparison.folder(folders)
    return comparison.make(
        "Early exits: a comparison",
        folders,
        figure=comparison.draw(curves, "multiply-adds of an exit", where / "accuracy.png"),
        summary="The first network of each run",
        header=["network", "exits", "first exit", "last exit", "area, budgeted"],
        rows={name: _last_exits(run) for name, run in runs.items()},
        tables={label: _exit_table(network) for label, network in networks.items()},
        records=[record for name, run in runs.items() for record in _records(name, run)],
    )


def _last_exits(run: Results) -> list[str]:
    """Returns a row: the first network's accuracies at its first and last exit, and its area."""
    network = next(iter(run.networks.values()))
    ends = [plus_minus(network.accuracy[:, k].tolist(), 4) for k in (0, -1)]
    area = plus_minus([exits.area(curve) for curve in network.budgeted()], 4)
    return [label(run, network.name), str(len(network.costs)), *ends, area]


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    return _records(name, results.read(folder))


def _records(name: str, run: Results) -> list[dict[str, Any]]:
    """Returns one record per exit of each network."""
    return [
        {
            "run": name,
            "network": network.name,
            "exit": k + 1,
            "replicates": len(network.accuracy),
            "macs": macs,
            **comparison.accuracy_fields(network.accuracy[:, k].tolist()),
        }
        for network in run.networks.values()
        for k, macs in enumerate(network.macs)
    ]


def _write_page(run: Results) -> Path:
    folder = run.folder / "figures"
    note = NOTE.format(averages=averages(run.config["replicates"]))
    sections = [("What is counted", page_lib.paragraph(note))]
    sections.append(("Anytime", _picture(plots.anytime, folder / "anytime.png", run)))
    sections.append(("Measured time", _picture(plots.measured, folder / "measured.png", run)))
    sections.append(("Budgeted batch", _picture(plots.budgeted, folder / "budgeted.png", run)))
    sections.append(
        ("At a mean budget", page_lib.table(*_budget_table(run), caption="One row per budget."))
    )
    sections.append(
        (
            "Areas under the curves",
            page_lib.table(*_area_table(run), caption="One row per network."),
        )
    )
    for name, network in run.networks.items():
        header, rows = _exit_table(network)
        drawn = [page_lib.table(header, rows)]
        for draw in (plots.exits_by_class, plots.reliability, plots.easy_and_hard):
            drawn.append(_picture(draw, folder / f"{name}_{draw.__name__}.png", network))
        sections.append((f"{label(run, name)}: {network.parameters:,} parameters", "".join(drawn)))
    return page_lib.write_run(run, f"Early exits: {run.name}", sections)


def _picture(draw: Callable[[Any, Path], tuple[Path, str] | None], path: Path, data: Any) -> str:
    """Returns the figure that `draw` makes of a run or a network; empty if it makes none."""
    drawn = draw(data, path)
    return page_lib.picture(*drawn) if drawn else ""


def _exit_table(network: Network) -> Rows:
    """Returns one row per exit."""
    header = [
        "exit", "parameters", "multiply-adds alone", "multiply-adds", "ms per image", "accuracy",
        "calibration error",
    ]  # fmt: skip
    if network.alone:
        header.insert(4, "ms per image alone")
    errors = network.calibration_errors
    rows = []
    for k, cost in enumerate(network.costs):
        rows.append(
            [
                str(k + 1),
                f"{cost.params:,}",
                f"{cost.macs:,}",
                f"{cost.macs_cumulative:,}",
                f"{network.milliseconds[k]:.3f}",
                plus_minus(network.accuracy[:, k].tolist(), 4),
                plus_minus(errors[:, k].tolist(), 4),
            ]
        )
        if network.alone:
            rows[-1].insert(4, f"{network.milliseconds_alone[k]:.3f}")
    return header, rows


def _budget_table(run: Results) -> Rows:
    """Returns one row per budget, which is a share of the first network's cost.

    Each network has two columns: its accuracy, and what its test images cost, in the mean, as a
    multiple of the budget.
    """
    first = next(iter(run.networks.values()))
    header = ["multiply-adds per image"]
    for name in run.networks:
        header += [label(run, name), f"{label(run, name)}: spent / budget"]
    rows = []
    for share in BUDGETS:
        budget = share * first.macs[-1]
        row = [f"{budget:,.0f} ({share:.0%} of {label(run, first.name)})"]
        for network in run.networks.values():
            if budget < network.macs[0]:  # its first exit costs more
                row += ["too dear", ""]
                continue
            outcomes = [outcome for _, outcome in network.at_budget(budget)]
            row.append(plus_minus([outcome.accuracy for outcome in outcomes], 4))
            row.append(plus_minus([outcome.cost / budget for outcome in outcomes]))
        rows.append(row)
    return header, rows


def _area_table(run: Results) -> Rows:
    """Returns one row per network: its areas under the anytime and the budgeted curve."""
    header = ["area under the curve", "anytime", "budgeted"]
    rows = []
    for name, network in run.networks.items():
        kinds = (network.anytime(), network.budgeted())
        areas = [plus_minus([exits.area(curve) for curve in curves], 4) for curves in kinds]
        rows.append([label(run, name), *areas])
    return header, rows


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
