"""Tables on the terminal, and how tables show numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from groundwork import terminal
from groundwork.numerics.times import Times
from groundwork.runs.metrics import mean_and_spread

Rows = tuple[list[str], list[list[str]]]  # header, rows of texts
Block = list[tuple[int, int]]  # column, width
GAP = 3  # between two columns
RULED = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)  # a rule below the header


def show(title: str, rows: Rows, keys: int = 1) -> None:
    """Prints a table. Nothing in it is ever cut.

    On a terminal that is too narrow, headers take several lines; then the columns are shown in
    blocks, all of which begin with the keys; and at last lines run over. Where there is no
    terminal, every row is one line.

    Args:
      title: the line above it.
      rows: its header and its rows.
      keys: how many of the first columns name a row.
    """
    header, *lines = [[terminal.fitting(cell) for cell in row] for row in (rows[0], *rows[1])]
    header = [" ".join(name.split()) for name in header]
    room = terminal.columns()
    terminal.say(title)
    for block in blocks((header, lines), room, keys):
        table = Table(box=RULED, show_edge=False, pad_edge=False)
        for column, width in block:
            table.add_column(Text(header[column]), justify="right", vertical="bottom", width=width)
        for line in lines:
            table.add_row(*(Text(line[column]) for column, _ in block))
        terminal.console(width=max(_width(block), room or 0)).print(table)
        terminal.say("")


def blocks(rows: Rows, room: int | None, keys: int) -> list[Block]:
    """Returns the blocks of columns that a table is shown in: see `show`.

    Args:
      rows: the header and the rows.
      room: the columns of the terminal; None if all fits.
      keys: how many of the first columns all blocks begin with.
    """
    header, lines = rows
    cells = [max((cell_len(line[i]) for line in lines), default=0) for i in range(len(header))]
    words = [max(map(cell_len, name.split()), default=1) for name in header]
    widest = [(i, max(cell_len(header[i]), cells[i], 1)) for i in range(len(header))]
    if room is None:
        return [widest]
    narrow = [(i, max(words[i], cells[i])) for i in range(len(header))]  # headers of several lines
    found = [narrow[:keys]]
    for column in narrow[keys:]:
        if len(found[-1]) > keys and _width([*found[-1], column]) > room:
            found.append(narrow[:keys])
        found[-1].append(column)
    wide = [[widest[column] for column, _ in block] for block in found]
    return [w if _width(w) <= room else n for w, n in zip(wide, found, strict=True)]


def _width(block: Block) -> int:
    return sum(width for _, width in block) + GAP * (len(block) - 1)


def plus_minus(values: Sequence[float], digits: int = 3) -> str:
    """Returns "mean±sample standard deviation" over replicates; one value has no deviation."""
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f}" + (f"±{spread:.{digits}f}" if len(values) > 1 else "")


def time_header(batches: Sequence[str]) -> list[str]:
    """Returns the columns of `time_cells`."""
    header = []
    for batch in batches:
        examples = "1 example" if batch == "1" else f"{batch} examples"
        header += [f"{examples}: {what}" for what in ("original, ms", "own, ms", "×")]
    return header


def time_cells(milliseconds: Mapping[str, Sequence[Any]], batches: Sequence[str]) -> list[str]:
    """Returns the times of the original and of a network, and their ratio, per batch size.

    Args:
      milliseconds: batch size → `Times`, whose quartiles stand behind; cells without any are empty.
      batches: the batch sizes of the columns.
    """
    cells = []
    for batch in batches:
        if batch in milliseconds:
            times = Times(*milliseconds[batch])
            cells += [
                f"{times.original:.3f}{_between(times.original_low, times.original_high)}",
                f"{times.own:.3f}{_between(times.own_low, times.own_high)}",
                f"{times.own / times.original:.2f}",
            ]
        else:
            cells += ["", "", ""]
    return cells


def _between(low: float | None, high: float | None) -> str:
    """Returns quartiles as they stand behind a median; runs of older versions have none."""
    return "" if low is None or high is None else f" ({low:.3f}–{high:.3f})"


def doubts(milliseconds: Iterable[Mapping[str, Sequence[Any]]]) -> str:
    """Returns a warning if the machine was busy while networks were timed; else nothing.

    Args:
      milliseconds: of networks; see `time_cells`.
    """
    times = [Times(*values) for one in milliseconds for values in one.values()]
    shares = [one.others for one in times if one.is_doubtful and one.others is not None]
    if not shares:
        return ""
    return (
        f"The machine was busy: during {len(shares)} of {len(times)} measurements other processes "
        f"took up to {max(shares):.0%} of the processors' time. Take these times again when "
        "nothing else runs."
    )


def averages(replicates: int) -> str:
    """Returns the words for what `plus_minus` shows."""
    if replicates == 1:
        return "value of one replicate"
    return f"mean ± sample standard deviation over {replicates} replicates"
