"""What reports share: tables on the terminal, the command that draws them again."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from groundwork.errors import UserError
from groundwork.runs.metrics import mean_and_spread

Rows = tuple[list[str], list[list[str]]]  # header, rows of texts


def console() -> Console:
    """The terminal, or 120 columns of a file."""
    return Console(width=None if sys.stdout.isatty() else 120)


def text_table(title: str, rows: Rows) -> Table:
    """A table for the console."""
    header, lines = rows
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for column in header:
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def plus_minus(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± sample standard deviation over replicates; one value has no deviation."""
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f}" + (f"±{spread:.{digits}f}" if len(values) > 1 else "")


def averages(replicates: int) -> str:
    """What `plus_minus` shows, in words."""
    if replicates == 1:
        return "value of one replicate"
    return f"mean ± sample standard deviation over {replicates} replicates"


def draw_again(
    show: Callable[[Sequence[Path]], Any], usage: str | None, argv: Sequence[str]
) -> None:
    """Draw the reports of the runs named on the command line.

    Raises:
      UserError: an argument is a flag.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(usage)
        return
    for folder in argv:
        if folder.startswith("-"):
            raise UserError(f"unknown flag {folder}: give the folders of runs")
    show([Path(folder) for folder in argv])
