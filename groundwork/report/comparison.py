"""Several runs side by side, as at the end of a sweep."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundwork.errors import UserError
from groundwork.metric import ACCURACY, Metric
from groundwork.report import figures
from groundwork.report import page as page_lib
from groundwork.report.tables import Rows
from groundwork.runs.metrics import mean_and_spread
from groundwork.runs.results import RunResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS, MARKERS = 10, "osv^D*"  # of lines: after ten, the colours begin anew with another marker


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several runs side by side.

    Attributes:
      header: the columns of the table.
      rows: one per run.
      records: the same for other programs; each names its `run`.
      page: the file of the page, which has a figure of all runs.
    """

    header: list[str]
    rows: list[list[str]]
    records: list[dict[str, Any]]
    page: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a figure: accuracies, or values of another metric, against a cost."""

    label: str
    costs: list[float]
    accuracies: list[list[float]]  # one list of replicates for each cost


def names(folders: Sequence[Path]) -> list[str]:
    """Returns a name for each run: the end of its path that tells it from the others.

    Raises:
      UserError: a run is given twice.
    """
    parts = [Path(folder).resolve().parts for folder in folders]
    depths = range(1, max(map(len, parts)) + 1)
    candidates = ([str(Path(*path[-depth:])) for path in parts] for depth in depths)
    distinct = next((c for c in candidates if len(set(c)) == len(parts)), None)
    if distinct is None:
        raise UserError("the same run is given twice")
    return distinct


def folder(folders: Sequence[Path]) -> Path:
    """Returns the folder of a comparison: `comparison/`, beside the first run."""
    return Path(folders[0]).resolve().parent / "comparison"


def metric_of(runs: Sequence[RunResults]) -> Metric:
    """Returns the measure by which all of the runs are judged.

    Raises:
      UserError: they are judged by different ones.
    """
    metrics = {run.metric for run in runs}
    if len(metrics) > 1:
        names = ", ".join(sorted(metric.words for metric in metrics))
        raise UserError(f"the runs are judged by different measures ({names}): compare like ones")
    return metrics.pop()


def draw(
    curves: Sequence[Curve], cost: str, path: Path, metric: Metric = ACCURACY, split: str = "test"
) -> tuple[Path, str]:
    """Draws accuracy against a logarithmic cost, one line per curve; returns a caption.

    Args:
      curves: the lines.
      cost: its name.
      path: of the figure.
      metric: by which the runs are judged.
      split: whose accuracies they are.
    """
    return draw_panels({cost: curves}, path, metric, split)


def draw_panels(
    panels: Mapping[str, Sequence[Curve]],
    path: Path,
    metric: Metric = ACCURACY,
    split: str = "test",
) -> tuple[Path, str]:
    """Draws as `draw` does, a panel per cost; all panels have the same curves in their order."""
    first = next(iter(panels.values()))
    figure, axes = figures.grid(
        len(panels),
        2,
        width=6.4 / min(2, len(panels)),
        height=3.6 + 0.12 * len(first),
        labels=("", f"{split} {metric.words}"),
    )
    labels = figures.short([curve.label for curve in first])
    for ax, (cost, curves) in zip(axes, panels.items(), strict=True):
        for number, (curve, label) in enumerate(zip(curves, labels, strict=True)):
            _line(ax, number, curve, label)
        figures.cost_axis(ax)
        ax.set_xlabel(cost)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, fontsize=7)
    caption = (
        f"{split.capitalize()} {metric.words} against {' and '.join(panels)}. Lines are means over "
        "replicates; bands, and bars at single points, one standard deviation."
    )
    return figures.save(figure, path), caption


def _line(ax: "Axes", number: int, curve: Curve, label: str) -> None:
    order = sorted(range(len(curve.costs)), key=curve.costs.__getitem__)
    costs = [curve.costs[i] for i in order]
    accuracies = [curve.accuracies[i] for i in order]
    marker = MARKERS[number // COLORS % len(MARKERS)]
    figures.band(ax, costs, accuracies, marker=marker, markersize=3, label=label)


def make(
    title: str,
    folders: Sequence[Path],
    *,
    figure: tuple[Path, str],
    summary: str,
    header: list[str],
    rows: Mapping[str, list[str]],
    tables: Mapping[str, Rows],
    records: list[dict[str, Any]],
    metric: Metric = ACCURACY,
    more: Sequence[tuple[str, tuple[Path, str]]] = (),
) -> Comparison:
    """Writes the page of a comparison, and returns the comparison.

    Args:
      title: of the page.
      folders: of the runs.
      figure: the file of a figure, and its caption.
      summary: the heading of the table that has one row per run.
      header: of that table.
      rows: the name of a run → its row.
      tables: heading → a further table.
      records: see `Comparison`.
      metric: by which the runs are judged.
      more: headings and further figures.
    """
    named = [[name, *row] for name, row in rows.items()]
    shown = [(summary, (["run", *header], named)), *tables.items()]
    drawn = [(metric.title, figure), *more]
    sections = [(heading, page_lib.picture(*picture)) for heading, picture in drawn]
    sections += [(heading, page_lib.table(*table)) for heading, table in shown]
    page = page_lib.write(folder(folders), title, sections)
    return Comparison(header=header, rows=list(rows.values()), records=records, page=page)


def accuracy_fields(accuracies: Sequence[float], metric: Metric = ACCURACY) -> dict[str, float]:
    """Returns the fields of a record that say how accurate its replicates are."""
    mean, deviation = mean_and_spread(accuracies)
    return {f"{metric.name}_mean": mean, f"{metric.name}_deviation": deviation}
