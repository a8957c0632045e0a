"""python -m deploy.report RUN [RUN…]: tables, figures and the page of each run, drawn again."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy import plots, results, tables
from deploy.results import Network, Results
from groundwork import terminal
from groundwork.entry import run_main
from groundwork.report import comparison
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison, Curve
from groundwork.report.tables import Rows
from groundwork.report.tables import show as show_table

NOTE = (
    "Each engine ran each file in a process of its own, pinned to as many processors as it had "
    "threads; after a warm-up, all processes of a network took turns in several rounds, and one "
    "computed at a time. ms is the median of a call, beside it are the lower and the upper "
    "quartile; × is how many times faster than JAX's floats on as many threads it was. {Values} "
    "are those of the engine's own outputs on the test split. “as JAX” is the share of examples "
    "for which it names JAX's class; the error is the largest difference from JAX's outputs, "
    "relative to their largest; int8 networks cut off what lies beyond the calibrated ranges. All "
    "three are of the most examples and threads; outputs of the other calls were compared with "
    "these. Peak memory is what the process had resident above what it had before the engine was "
    "imported; loading is that of the file alone. KiB are those of all files of the network for "
    "this engine, kind and number of examples. JAX's numbers are of the network as it was, compiled"
    " by jax.jit. Energy is not measured."
)
PRECISION = (
    "What the engine computes in integers and what in floats, as its own graph of the file tells; "
    "engines that do not tell have no row. Conversions between the two count as floats."
)


def show(folders: Sequence[Path]) -> None:
    """Draws the figures of each run, writes its page, and prints its tables."""
    for folder in folders:
        run = results.read(folder)
        page = page_lib.said(functools.partial(_write_page, run))
        for network in run.networks:
            for title, rows, keys in _tables(run, network):
                show_table(f"{run.name}: {title}", rows, keys)
            if network.graph:
                for line in (f"{run.name}: {network.name}: graph", *network.graph.split("\n"), ""):
                    terminal.say(line)
            for line in tables.remarks(network):
                terminal.say(line)
        terminal.say("energy is not measured")
        terminal.say(page)


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs, with their fastest engines, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a network that has files.
    """
    runs = dict(zip(comparison.names(folders), map(results.read, folders), strict=True))
    metric = comparison.metric_of(list(runs.values()))
    records = [record for name, run in runs.items() for record in _records(name, run)]
    curves = [
        Curve(
            label=name,
            costs=[r["milliseconds"] for r in records if r["run"] == name],
            accuracies=[r["values"] for r in records if r["run"] == name],
        )
        for name in runs
    ]
    figure = comparison.folder(folders) / f"{metric.name}.png"
    return comparison.make(
        "Engines: a comparison",
        folders,
        figure=comparison.draw(curves, "milliseconds of a call", figure, metric),
        summary="The fastest",
        header=["network", "engine", "threads", "ms", metric.words],
        rows={name: _fastest([r for r in records if r["run"] == name]) for name in runs},
        tables={
            f"{name}: {title}": rows
            for name, run in runs.items()
            for network in run.networks
            for title, rows, _ in _tables(run, network)
        },
        records=[{k: v for k, v in record.items() if k != "values"} for record in records],
        metric=metric,
    )


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    found = _records(name, results.read(folder))
    return [{k: v for k, v in record.items() if k != "values"} for record in found]


def _records(name: str, run: Results) -> list[dict[str, Any]]:
    """Returns one record per network, engine, kind, threads and batch that was measured."""
    found = []
    for network in run.networks:
        for one in network.times:
            answer = network.answers.get((one.engine, one.kind))
            failed = one.measured.failure or not one.measured.milliseconds
            if failed or answer is None or not answer.values:
                continue
            values = [answer.values[-1]]
            found.append(
                {
                    "run": name,
                    "network": network.name,
                    "engine": one.name,
                    "threads": one.threads,
                    "batch": one.batch,
                    "milliseconds": one.measured.milliseconds[1],
                    "peak_bytes": one.measured.peak_bytes,
                    "values": values,
                    **comparison.accuracy_fields(values, run.metric),
                }
            )
    return found


def _fastest(records: list[dict[str, Any]]) -> list[str]:
    """Returns a row: the fastest call of the smallest batch."""
    if not records:
        return ["", "", "", "", ""]
    best = min(records, key=lambda record: (record["batch"], record["milliseconds"]))
    time, value = f"{best['milliseconds']:.3f}", f"{best['values'][0]:.4f}"
    return [best["network"], best["engine"], str(best["threads"]), time, value]


def _tables(run: Results, network: Network) -> list[tuple[str, Rows, int]]:
    """Returns the tables of a network: title, rows, and how many columns name a row."""
    found: list[tuple[str, Rows, int]] = []
    for batch in tables.batches(network):
        of = tables.examples(batch)
        found.append((f"{network.name}, {of}", tables.times(run, network, batch), 2))
        found.append((f"{network.name}, {of}: costs", tables.costs(network, batch), 2))
    if (rows := tables.integers(network))[1]:
        found.append((f"{network.name}: operations", rows, 1))
    return found


def _write_page(run: Results) -> Path:
    note = NOTE.format(Values=run.metric.plural.capitalize())
    sections = [("What is measured", page_lib.paragraph(note))]
    for batch, threads in plots.settings(run):
        path = run.folder / "figures" / f"{run.metric.name}_{batch}_{threads}.png"
        drawn = page_lib.picture(*plots.quality(run, batch, threads, path))
        where = f"{tables.examples(batch)}, {tables.threads(threads)}"
        heading = f"{run.metric.title} against time: {where}"
        sections.append((heading, drawn))
    for network in run.networks:
        for title, rows, _ in _tables(run, network):
            text = page_lib.table(*rows)
            explained = page_lib.paragraph(PRECISION) if title.endswith(": operations") else ""
            sections.append((title, explained + text))
        picture = run.folder / "figures" / f"graph_{network.name.replace('/', '_')}.png"
        if network.graph:
            text = page_lib.lines(network.graph)
            if picture.exists():
                text += page_lib.picture(picture, "Operations, and which reads what of which.")
            sections.append((f"{network.name}: graph", text))
        lines = page_lib.bullets(tables.remarks(network))
        sections.append((f"{network.name}: remarks", lines))
    return page_lib.write_run(run, f"Engines: {run.name}", sections)


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
