"""python -m lottery.early_bird.report RUN [RUN…]: tables, figures and page of each, drawn again."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import terminal
from groundwork.entry import run_main
from groundwork.report import comparison, tables
from groundwork.report import page as page_lib
from groundwork.report.comparison import Comparison, Curve
from groundwork.report.tables import Rows, averages, plus_minus
from lottery.early_bird import plots, results
from lottery.early_bird.results import PASSES, Network, Results

NOTE = (
    "{Values} are the {averages}, on the test split, at the last step; before: of what was drawn, "
    "without further training. The ticket is drawn at the epoch at which the detector of the last "
    "replicate fires, since replicates are trained together. The dense training goes on after it "
    "for the controls alone: the ticket's cost has the epochs until then, and its own training. "
    "Training multiply-adds are those of convolutions and linear layers for one example, from the "
    f"traced computation, times the examples of all steps, times {PASSES} for the way forward and "
    "back, of one replicate; × is their share of the dense network's. Masked weights are still "
    "multiplied, so that masks of weights save in the search alone. Seconds were spent in these "
    "steps, with their evaluations and without compilation, for all replicates together on this "
    "run's machine."
)
CONTROLS = (
    "late: the ticket that the end of the dense training draws, trained as long; reinit: the "
    "ticket's mask with new weights; random: as many entries of each layer, drawn at random, with "
    "the ticket's weights."
)
LOW = (
    " The dense training, and so the dense network and all masks, saw weights and gradients of "
    "{bits} bits, and is evaluated with weights that are not rounded; the others were trained in "
    "float32."
)


def show(folders: Sequence[Path]) -> None:
    """Draws the figures of each run, writes its page, and prints its tables."""
    for folder in folders:
        run = results.read(folder)
        page = page_lib.said(functools.partial(_write_page, run))
        tables.show(f"{run.name}: networks", network_table(run))
        tables.show(f"{run.name}: the detector", detector_table(run))
        for line in _said(run):
            terminal.say(line)
        terminal.say(page)


def compare(folders: Sequence[Path]) -> Comparison:
    """Compares runs, with their tickets, in `comparison/` beside the first.

    Raises:
      UserError: a folder has no run with a finished dense network.
    """
    runs = dict(zip(comparison.names(folders), map(results.read, folders), strict=True))
    metric = comparison.metric_of(list(runs.values()))
    curves = [
        Curve(
            label=name,
            costs=[float(network.training_macs) for network in _all(run).values()],
            accuracies=[network.test for network in _all(run).values()],
        )
        for name, run in runs.items()
    ]
    figure = comparison.folder(folders) / f"{metric.name}.png"
    return comparison.make(
        "Early-bird tickets: a comparison",
        folders,
        figure=comparison.draw(curves, "multiply-adds of the training", figure, metric),
        summary="The tickets",
        header=["ratio", "epoch", "dense", "ticket", "×"],
        rows={name: _ticket(run) for name, run in runs.items()},
        tables={name: network_table(run) for name, run in runs.items()},
        records=[record for name, run in runs.items() for record in _records(name, run)],
        metric=metric,
    )


def _ticket(run: Results) -> list[str]:
    row = [f"{run.config['early_bird']['ratio']:g}", _epoch(run.epoch), plus_minus(run.dense.test)]
    if "ticket" not in run.networks:
        return [*row, "none", ""]
    ticket = run.networks["ticket"]
    return [*row, plus_minus(ticket.test), f"{_share(ticket, run):.2f}"]


def records(name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns one record per network of the run in a folder; see `groundwork.compare`."""
    return _records(name, results.read(folder))


def _records(name: str, run: Results) -> list[dict[str, Any]]:
    """Returns one record per network."""
    return [
        {
            "run": name,
            "network": label,
            "replicates": len(network.test),
            "epoch": network.epoch,
            "macs": network.macs,
            "training_macs": network.training_macs,
            "seconds": network.seconds,
            **comparison.accuracy_fields(network.test, run.metric),
        }
        for label, network in _all(run).items()
    ]


def _write_page(run: Results) -> Path:
    folder, metric = run.folder / "figures", run.metric
    note = NOTE.format(
        averages=averages(run.config["replicates"]), Values=metric.plural.capitalize()
    )
    if (bits := run.config["early_bird"]["bits"]) < 32:
        note += LOW.format(bits=bits)
    sections = [
        ("What is counted", page_lib.paragraph(note)),
        ("Networks", page_lib.table(*network_table(run)) + page_lib.paragraph(CONTROLS)),
        ("What came out", page_lib.bullets(_said(run))),
        (
            f"{metric.title} against computation",
            page_lib.picture(*plots.accuracy(run, folder / f"{metric.name}.png")),
        ),
        (
            "Distances between masks",
            page_lib.picture(*plots.distances(run, folder / "distances.png")),
        ),
        ("The detector", page_lib.table(*detector_table(run))),
    ]
    return page_lib.write_run(run, f"Early-bird tickets: {run.name}", sections)


def network_table(run: Results) -> Rows:
    """Returns one row per network."""
    header = ["network", "epoch", "MACs", "before", "after", "training MACs", "×", "seconds"]
    rows = [
        [
            name,
            str(network.epoch),
            _short(network.macs),
            "" if name == "dense" else plus_minus(network.before),
            plus_minus(network.test),
            _short(network.training_macs),
            f"{_share(network, run):.2f}",
            "" if network.seconds is None else f"{network.seconds:.1f}",
        ]
        for name, network in _all(run).items()
    ]
    return header, rows


def detector_table(run: Results) -> Rows:
    """Returns one row per replicate: when its detector fired, and how far masks are apart."""
    header = ["replicate", "fires at", "drawn at", "to the last epoch", "to its own mask"]
    rows = []
    for r, fired in enumerate(run.fired):
        row = [str(r), _epoch(fired), _epoch(run.epoch), "", ""]
        if run.epoch is not None:
            row[3] = f"{run.distances[r, run.epoch - 1, -1]:.3f}"
            row[4] = f"{run.from_own[r]:.3f}" if run.from_own else ""
        rows.append(row)
    return header, rows


def _said(run: Results) -> list[str]:
    """Returns what the ticket saves and loses, or why there is none, in lines."""
    lines = [f"{name} is not made: {why}" for name, why in run.absent.items()]
    ticket = run.networks.get("ticket")
    if ticket is None:
        return lines
    share = ticket.epoch / run.distances.shape[1]
    lines.append(f"the ticket is drawn after {ticket.epoch} epochs, {share:.2f} of the training")
    for name, other in {"dense": run.dense, "late": run.networks.get("late")}.items():
        if other is None:
            continue
        saved = 1 - ticket.training_macs / other.training_macs
        gained = float(np.mean(ticket.test) - np.mean(other.test))
        how = "saved" if saved >= 0 else "on top"
        line = f"beside {name}: {abs(saved):.2f} of the multiply-adds of the training {how}"
        if ticket.seconds is not None and other.seconds:
            line += f", in {ticket.seconds / other.seconds:.2f} of its seconds"
        lines.append(f"{line}; {run.metric.words} {gained:+.4f}")
    return lines


def _all(run: Results) -> dict[str, Network]:
    return {"dense": run.dense, **run.networks}


def _share(network: Network, run: Results) -> float:
    return network.training_macs / run.dense.training_macs


def _short(count: int) -> str:
    """Returns a number in three digits, such as 944, 6.74k or 1.48T."""
    value = float(count)
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}P"


def _epoch(number: int | None) -> str:
    return "never" if number is None else str(number)


main = functools.partial(page_lib.draw_again, show, __doc__)

if __name__ == "__main__":
    run_main(main)
