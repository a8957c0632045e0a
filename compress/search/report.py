"""python -m compress.search.report RUN [RUN…]: tables, figures and the page of each search."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress import tables as networks
from compress.report import LAYERS
from compress.search import plots, results, tables
from compress.search.results import Results
from groundwork import terminal
from groundwork.entry import run_main
from groundwork.report import comparison
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison, Curve
from groundwork.report.tables import averages, plus_minus
from groundwork.report.tables import show as show_table

NOTE = (
    "{values} are the {averages}, of variables as they are loaded from the files. Everything is "
    "chosen on validation; test examples are looked at once, of the chosen network and of the "
    "original. A round is {steps} steps of training, and codebooks are trained for as many."
)


def show(folders: Sequence[Path]) -> None:
    """Draws the figures of each run, writes its page and files, and prints its tables."""
    runs = [results.read(folder) for folder in folders]
    pages = [page_lib.said(functools.partial(_write_page, run)) for run in runs]
    for run, page in zip(runs, pages, strict=True):
        show_table(f"{run.name}: the front", tables.front(run, run.objectives))
        if run.chosen is not None:
            show_table(f"{run.name}: layers of the chosen network", tables.layers(run))
        for line in tables.remarks(run):
            terminal.say(line)
        terminal.say(page)
    if len(runs) > 1:
        terminal.say(f"comparison: {compare(folders).page}")


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares searches, with their fronts and hypervolumes, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no search with a finished original, or they are judged by different
        measures.
    """
    runs = dict(zip(comparison.names(folders), map(results.read, folders), strict=True))
    metric = comparison.metric_of(list(runs.values()))
    name = next(iter(runs.values())).objectives[0]
    curves = [
        Curve(
            label=label,
            costs=[one.cost(name) for one in run.front()],
            accuracies=[one.last.validation for one in run.front()],
        )
        for label, run in runs.items()
    ]
    folder = comparison.folder(folders)
    figure = folder / f"{metric.name}.png"
    drawn = comparison.draw(curves, tables.UNITS[name], figure, metric, "validation")
    progress = plots.progress(runs, folder / "hypervolume.png")
    return comparison.make(
        "Searches: a comparison",
        folders,
        figure=drawn,
        summary="The chosen networks",
        header=["evaluations", "seconds", "hypervolume", "bytes", "test"],
        rows={label: _row(run, name) for label, run in runs.items()},
        tables={label: tables.front(run) for label, run in runs.items()},
        records=[_record(label, run, name) for label, run in runs.items()],
        metric=metric,
        more=[("How the searches went", progress)],
    )


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    run = results.read(folder)
    return [_record(name, run, run.objectives[0])]


def _row(run: Results, name: str) -> list[str]:
    chosen = run.chosen
    found = [f"{chosen.mean_bytes:,.0f}", plus_minus(chosen.test)] if chosen else ["", ""]
    return [str(len(run.candidates)), f"{run.seconds:,.0f}", f"{run.volume(name):.4f}", *found]


def _record(label: str, run: Results, name: str) -> dict[str, Any]:
    chosen = run.chosen
    about: dict[str, Any] = {} if chosen is None else {"bytes": chosen.mean_bytes}
    if chosen is not None:
        about |= comparison.accuracy_fields(chosen.test, run.metric)
        about["parameters"] = round(np.mean(chosen.parameters))
    return {
        "run": label,
        "network": "chosen",
        "replicates": len(run.original.test),
        "hypervolume": run.volume(name),
        "seconds": run.seconds,
        **about,
    }


def _write_page(run: Results) -> Path:
    results.write(run)
    folder = run.folder / "figures"
    note = NOTE.format(
        values=run.metric.plural.capitalize(),
        averages=averages(len(run.original.test)),
        steps=run.config["search"]["steps"],
    )
    sections = [("What is counted", page_lib.paragraph(note))]
    sections.append(("What was found", page_lib.bullets(tables.remarks(run))))
    if results.history.evaluated(run.candidates):
        drawn = plots.fronts(run, folder / "front.png")
        sections.append((f"{run.metric.title} against costs", page_lib.picture(*drawn)))
        sections.append(("The front", page_lib.table(*tables.front(run))))
        went = plots.progress({run.name: run}, folder / "progress.png")
        sections.append(("How the search went", page_lib.picture(*went)))
    if bars := plots.layers(run, folder / "layers.png"):
        text = page_lib.picture(*bars) + page_lib.table(*tables.layers(run))
        sections.append(("Layers of the chosen network", text))
    if run.chosen is not None:
        text = page_lib.paragraph(LAYERS) + page_lib.table(*networks.layers(run.chosen))
        sections.append(("Where its bytes go", text))
    sections.append(("Candidates", page_lib.table(*tables.candidates(run))))
    return page_lib.write_run(run, f"Search: {run.name}", sections)


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
