"""python -m compress.report RUN [RUN…]: tables, figures and the page of each run, drawn again."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress import plots, results, tables
from compress.results import Network, Results
from groundwork import terminal
from groundwork.entry import run_main
from groundwork.metric import Metric
from groundwork.report import comparison, judged
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison, Curve
from groundwork.report.tables import averages, doubts, plus_minus
from groundwork.report.tables import show as show_table

MOST_LEAVES = 12  # if there are more, only the chosen networks are shown one by one
NOTE = (
    "{values} are the {averages}, of variables as "
    "they are loaded from the files. Bytes are those of the whole file on disk, the mean over "
    "replicates; × is how many times smaller it is than the original's parameters as float32 "
    "numbers. “kept” is the share of prunable weights that is not pruned, “bits” are those of a "
    "quantised weight before coding. Networks are chosen by mean {metric} on the {split} split."
)
LAYERS = (
    "Bits of one stored weight or index: at one width for all → as Huffman-coded (the entropy, "
    "which no code of single symbols undercuts; symbols coded in groups can). With an index, they "
    "are bits of a kept weight; without one, all weights are stored, and they are bits of any. A "
    "layer that replicates store in different ways has a row for each. A layer's "
    f"bytes include its codebook; what has no bits here is in “{tables.SHARED}”. × of a layer "
    "counts 4 bytes per weight, that of the total the original's parameters. Means over replicates."
)
TIMES = (
    "Seconds are the median time to load a file. Milliseconds are medians (quartiles) of calls "
    "that took turns with the original's, on this machine; × is its own divided by the original's."
)


def show(folders: Sequence[Path]) -> None:
    """Draws the figures of each run, writes its page, and prints its tables."""
    runs = [results.read(folder) for folder in folders]
    pages = [page_lib.said(functools.partial(_write_page, run)) for run in runs]
    for run, page in zip(runs, pages, strict=True):
        show_table(f"{run.name}: networks", tables.networks(run))
        chosen = run.chosen()
        if run.leaves:
            show_table(f"{run.name}: measured times", tables.times(_few(run, chosen)))
        for network in chosen[:1]:
            show_table(f"{run.name}: stages of {network.name}", tables.stages(run, network))
            show_table(f"{run.name}: layers of {network.name}", tables.layers(network))
        for line in tables.remarks(run):
            terminal.say(line)
        terminal.say(page)


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs, with their smallest networks, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a finished original.
    """
    runs = dict(zip(comparison.names(folders), map(results.read, folders), strict=True))
    metric = comparison.metric_of(list(runs.values()))
    curves = [
        Curve(
            label=name,
            costs=[network.mean_bytes for network in run.networks],
            accuracies=[network.test for network in run.networks],
        )
        for name, run in runs.items()
    ]
    figure = comparison.folder(folders) / f"{metric.name}.png"
    return comparison.make(
        "Deep compression: a comparison",
        folders,
        figure=comparison.draw(curves, "bytes of the file", figure, metric),
        summary="The smallest",
        header=["original", *next(iter(runs.values())).losses],
        rows={name: _smallest(run) for name, run in runs.items()},
        tables={name: tables.networks(run) for name, run in runs.items()},
        records=[
            _record(name, network, metric) for name, run in runs.items() for network in run.networks
        ],
        metric=metric,
    )


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    run = results.read(folder)
    return [_record(name, network, run.metric) for network in run.networks]


def _smallest(run: Results) -> list[str]:
    """Returns a row: the original's test accuracy, and the smallest network for each loss."""
    cells = [plus_minus(run.original.test)]
    for loss in run.losses.values():
        network = run.smallest(loss)
        chosen = f"{network.mean_bytes:,.0f} B, {plus_minus(network.test)}" if network else ""
        cells.append(chosen or "none")
    return cells


def _record(name: str, network: Network, metric: Metric) -> dict[str, Any]:
    return {
        "run": name,
        "network": network.name,
        "replicates": len(network.test),
        "bytes": network.mean_bytes,
        "parameters": round(np.mean(network.parameters)),
        **{f"ms_of_{batch}": both[1] for batch, both in network.milliseconds.items()},
        **comparison.accuracy_fields(network.test, metric),
    }


def _write_page(run: Results) -> Path:
    chosen = run.chosen()
    note = NOTE.format(
        averages=averages(len(run.original.test)),
        split=run.judged_by,
        metric=run.metric.words,
        values=run.metric.plural.capitalize(),
    )
    sections = [("What is counted", page_lib.paragraph(note))]
    sections.append(("The smallest", page_lib.bullets(tables.remarks(run))))
    sections += _drawn(run, chosen)
    for network in chosen:
        rows = tables.stages(run, network)
        sections.append(
            (f"Stages of {network.name}", page_lib.table(*rows, caption="What each stage leaves."))
        )
    for place, network in enumerate(_few(run, chosen)):
        text = page_lib.table(*tables.layers(network))
        text = text if place else page_lib.paragraph(LAYERS) + text
        sections.append((f"Layers of {network.name}", text))
    sections.append(("Networks", page_lib.table(*tables.networks(run))))
    if run.leaves:
        text = page_lib.table(*tables.times(run.leaves))
        text += page_lib.warning(doubts(network.milliseconds for network in run.leaves))
        sections.append(("Measured times", page_lib.paragraph(TIMES) + text))
    return page_lib.write_run(run, f"Compression: {run.name}", sections)


def _drawn(run: Results, chosen: Sequence[Network]) -> list[tuple[str, str]]:
    """Returns the sections that have figures."""
    folder = run.folder / "figures"
    sections = []
    if len(run.networks) > 1:
        drawn = plots.accuracy(run, folder / f"{run.metric.name}.png")
        sections.append((f"{run.metric.title} against size", page_lib.picture(*drawn)))
    if run.leaves:
        drawn = plots.parts(run, folder / "bytes.png")
        sections.append(("Where the bytes go", page_lib.picture(*drawn)))
    if answers := judged.pictures(run, _compared(run, chosen), folder / "answers.png"):
        sections.append(("Test examples", page_lib.picture(*answers)))
    for network in chosen:
        weights = plots.centroids(run, network, folder / f"weights_{network.name}.png")
        if weights:
            sections.append((f"Weights of {network.name}", page_lib.picture(*weights)))
    return sections


def _compared(run: Results, chosen: Sequence[Network]) -> dict[str, Any]:
    """Returns what the original and the smallest network answer, the smallest of the chosen."""
    smallest = min(chosen or run.networks, key=lambda network: network.mean_bytes)
    return {network.name: network.shown for network in (run.original, smallest)}


def _few(run: Results, chosen: Sequence[Network]) -> list[Network]:
    """Returns the chosen networks, and the leaves if they are few."""
    leaves = run.leaves if len(run.leaves) <= MOST_LEAVES else []
    return list({network.name: network for network in [*chosen, *leaves]}.values())


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
