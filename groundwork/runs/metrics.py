"""metrics.jsonl: one row per evaluation and replicate, exact after any interruption.

A row's measures, the loss and its counts, lie between its `split` and its `seconds`. Rows with a
`kind` are about something else (see `operations`), and are read by those alone who ask for them.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import atomic, jsons

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


def read(path: Path, kind: str = "") -> list[Row]:
    """Returns all rows; lines that are none, as a crash or a power cut leaves them, are left out.

    Whether rows are missing that a checkpoint relies on is what `summary` tells.

    Args:
      path: of metrics.jsonl.
      kind: of the rows; by default they are those of evaluations, which have none.
    """
    name = json.dumps(kind).encode()
    return [row for line in _lines(path) if name in line or not kind for row in _rows(line, kind)]


def by_unit(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Returns the name of a unit → its rows."""
    units: dict[str, list[Row]] = {}
    for row in rows:
        units.setdefault(row["unit"], []).append(row)
    return units


def of_unit(path: Path, unit: str) -> list[Row]:
    """Returns the rows of one unit; other lines, of which there are many, are not parsed."""
    name = json.dumps(unit).encode()
    rows = (row for line in _lines(path) if name in line for row in _rows(line))
    return [row for row in rows if row["unit"] == unit]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Returns the number of rows and their SHA-256, by which a checkpoint knows them again."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row).encode() + b"\n")
    return {"rows": len(rows), "rows_sha256": total.hexdigest()}


def keep(path: Path, unit: str, rows: int) -> None:
    """Drops what `unit` wrote after its first `rows` rows, since that work will be repeated.

    Rows with a `kind` stay: they tell what was done, repeated or not.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    kept, seen = [], 0
    for row in (row for line in _lines(path) for row in _rows(line, None)):
        counted = row["unit"] == unit and not row.get("kind")
        seen += counted
        if not counted or seen <= rows:
            kept.append(json.dumps(row) + "\n")
    if "".join(kept).encode() != content:
        atomic.write(path, "".join(kept))


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and the sample standard deviation (0 for one value)."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else 0.0


def _lines(path: Path) -> list[bytes]:
    """Returns the lines of a file; what stands behind the last one was cut off."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _rows(line: bytes, kind: str | None = "") -> list[Row]:
    """Returns the row of a line, if it is one, and of this kind; None = of any."""
    try:
        row = jsons.parse(line)
    except ValueError:
        return []
    if not isinstance(row, dict) or not isinstance(row.get("unit"), str):
        return []
    return [row] if kind is None or row.get("kind", "") == kind else []
