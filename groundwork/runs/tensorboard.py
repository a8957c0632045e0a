"""Rows of metrics as TensorBoard shows them, and the config as a table of its text page."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from groundwork.config import flatten
from groundwork.errors import UserError, reason
from groundwork.runs.metrics import Row, measured

FLUSH_SECONDS = 2.0
OF_PROCESS = ("unit", "kind", "process", "first_step", "step", "time")  # what names such a row


def require() -> None:
    """Checks that tensorboardX is there.

    Raises:
      UserError: it cannot be imported.
    """
    try:
        importlib.import_module("tensorboardX")
    except ImportError as error:
        raise UserError(
            f"log.tensorboard=true needs tensorboardX ({reason(error)}): pip install tensorboardX, "
            "or leave it out"
        ) from error


class Charts(NamedTuple):
    """What shows rows in TensorBoard, and what waits until all of them are written."""

    write: Callable[[list[Row]], None]
    close: Callable[[], None]


def charts(folder: Path, config: Mapping[str, Any]) -> Charts:
    """Returns what shows rows in TensorBoard: one chart per split and measure.

    Each replicate is a line of its chart, and so is their mean. What each process says of its
    operation has charts of its own. The first rows bring a table of the config. Where a unit
    continues, TensorBoard is told to forget what an earlier start wrote of the steps to come.
    """
    from tensorboardX import SummaryWriter  # only imported if it is asked for

    writers: dict[str, SummaryWriter] = {}

    def writer(name: str, step: int) -> SummaryWriter:
        if name not in writers:
            writers[name] = SummaryWriter(
                str(folder / name), flush_secs=FLUSH_SECONDS, purge_step=step
            )
        return writers[name]

    def write(rows: list[Row]) -> None:
        if not writers:
            writer("config", 0).add_text("config", table(config))
        for row in rows:
            name, values = (_of_process if row.get("kind") else _of_replicate)(row)
            for chart, value in values.items():
                writer(name, row["step"]).add_scalar(chart, value, row["step"])
        for name, step, values in _means([row for row in rows if not row.get("kind")]):
            for chart, value in values.items():
                writer(name, step).add_scalar(chart, value, step)

    def close() -> None:
        for name in list(writers):
            writers.pop(name).close()

    return Charts(write, close)


def table(config: Mapping[str, Any]) -> str:
    """Returns the keys of a config and their values as a table in Markdown."""
    lines = ["| key | value |", "|---|---|"]
    for key, value in flatten(config).items():
        said = " ".join(str(value).split()).replace("|", "\\|")
        lines.append(f"| {key} | {said} |")
    return "\n".join(lines)


def _of_replicate(row: Row) -> tuple[str, dict[str, float]]:
    chart = "-".join([row["split"], *([row["at"]] if "at" in row else [])])
    values = {f"{chart}/{name}": row[name] for name in measured(row)}
    return f"{row['unit']}/replicate-{row['replicate']}", values


def _of_process(row: Row) -> tuple[str, dict[str, float]]:
    values = {f"{row['kind']}/{name}": row[name] for name in row if name not in OF_PROCESS}
    return f"{row['unit']}/process-{row['process']}", values


def _means(rows: list[Row]) -> list[tuple[str, int, dict[str, float]]]:
    """Returns name, step and means over the replicates, if there are several.

    The rows are of one evaluation; replicates that stopped at different steps share the mean one.
    """
    if len(rows) < 2:
        return []
    every = [_of_replicate(row)[1] for row in rows]
    means = {chart: float(np.mean([values[chart] for values in every])) for chart in every[0]}
    step = round(float(np.mean([row["step"] for row in rows])))
    return [(f"{rows[0]['unit']}/mean", step, means)]
