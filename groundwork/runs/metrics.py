"""metrics.jsonl: one row per evaluation and replicate, exact after any interruption.

A row's measures, the loss and its counts, lie between its `split` and its `seconds`.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import atomic

Row = dict[str, Any]


def append(path: Path, rows: Iterable[Row]) -> None:
    """Appends rows and hands them to the operating system."""
    with open(path, "ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")  # ends a row that a crash cut off
        file.writelines(json.dumps(row).encode() + b"\n" for row in rows)


def sync(path: Path) -> None:
    """Waits until the rows are on the disk, which must precede a checkpoint that relies on them."""
    with open(path, "a", encoding="utf-8") as file:
        os.fsync(file.fileno())


def measured(row: Row) -> list[str]:
    """Returns the names of a row's measures, such as `loss` and `accuracy`."""
    names = list(row)
    return names[names.index("split") + 1 : names.index("seconds")]


def tensorboard(folder: Path) -> Callable[[list[Row]], None]:
    """Returns a function that shows rows in TensorBoard: one chart per split and measure."""
    from tensorboardX import SummaryWriter  # only imported if it is asked for

    writers: dict[str, SummaryWriter] = {}

    def write(rows: list[Row]) -> None:
        for row in rows:
            name = f"{row['unit']}/replicate-{row['replicate']}"
            chart = "-".join([row["split"], *([row["at"]] if "at" in row else [])])
            if name not in writers:
                writers[name] = SummaryWriter(str(folder / name), flush_secs=2)
            for value in measured(row):
                writers[name].add_scalar(f"{chart}/{value}", row[value], row["step"])

    return write


def read(path: Path) -> list[Row]:
    """Returns all rows up to the first line that a crash or a power cut left unreadable."""
    rows: list[Row] = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:  # no checkpoint relies on rows from here on
            break
    return rows


def keep(path: Path, unit: str, rows: int) -> None:
    """Drops what `unit` wrote after its first `rows` rows, since that work will be repeated."""
    if not path.exists():
        return
    kept, seen = [], 0
    for row in read(path):
        seen += row["unit"] == unit
        if row["unit"] != unit or seen <= rows:
            kept.append(json.dumps(row) + "\n")
    if "".join(kept).encode() != path.read_bytes():
        atomic.write(path, "".join(kept))


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and the sample standard deviation (0 for one value)."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else 0.0
