"""One layer of a panel: rows, a mark, and how it shows them."""

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


class Untold(Exception):
    """Something of a figure has no form in a page."""


def layer(rows: Iterable[Row], mark: Row, encoding: Row) -> Row:
    """Returns a layer, whose series can be switched off."""
    said = []
    for row in rows:
        name = "" if row.get("series", "_").startswith("_") else row["series"]
        said.append({"name": name, **row})
    shown: Row = {"data": {"values": said}, "mark": mark, "encoding": encoding}
    if any("series" in row for row in said):
        shown["transform"] = [{"filter": "indexof(hidden, datum.series) < 0"}]
    return shown
