"""Tables on the terminal, and how tables show numbers."""

import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from groundwork.runs.metrics import mean_and_spread

Rows = tuple[list[str], list[list[str]]]  # header, rows of texts


def console() -> Console:
    """Returns a console on standard output; where that is no terminal, of 120 columns."""
    return Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)


def text_table(title: str, rows: Rows) -> Table:
    """Returns a table for the console."""
    header, lines = rows
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for column in header:
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def plus_minus(values: Sequence[float], digits: int = 3) -> str:
    """Returns "mean±sample standard deviation" over replicates; one value has no deviation."""
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f}" + (f"±{spread:.{digits}f}" if len(values) > 1 else "")


def time_header(batches: Sequence[str]) -> list[str]:
    """Returns the columns of `time_cells`."""
    header = []
    for batch in batches:
        images = "1 image" if batch == "1" else f"{batch} images"
        header += [f"{images}: original, ms", "own, ms", "×"]
    return header


def time_cells(milliseconds: Mapping[str, Sequence[float]], batches: Sequence[str]) -> list[str]:
    """Returns the times of the original and of a network, and their ratio, per batch size.

    Args:
      milliseconds: batch size → the original's and the network's; cells without any are empty.
      batches: the batch sizes of the columns.
    """
    cells = []
    for batch in batches:
        if batch in milliseconds:
            original, network = milliseconds[batch]
            cells += [f"{original:.3f}", f"{network:.3f}", f"{network / original:.2f}"]
        else:
            cells += ["", "", ""]
    return cells


def averages(replicates: int) -> str:
    """Returns the words for what `plus_minus` shows."""
    if replicates == 1:
        return "value of one replicate"
    return f"mean ± sample standard deviation over {replicates} replicates"
