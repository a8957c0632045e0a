"""One page with the networks of many runs: choose the axes, filter, see the Pareto front."""

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundwork import atomic
from groundwork.report import page as page_lib
from groundwork.report.charts import looks
from groundwork.report.tables import Rows

Record = Mapping[str, Any]
NAMES = ("network", "branch", "method", "engine")  # fields that name a network within its run
NUMBERED = ("level", "exit")  # and those that number one
FIRST = ("run", "command", *NAMES, *NUMBERED)
COSTS = {  # field of a record → words, in the order in which they are offered
    "macs": "multiply-adds",
    "bytes": "bytes",
    "parameters": "parameters",
    "milliseconds": "milliseconds",
    "ms_of_1": "milliseconds of 1 example",
    "ms_of_128": "milliseconds of 128 examples",
    "density": "density (kept / prunable)",
}
NOTE = (
    "Every point is a network: the mean over its run's replicates, bars are one standard "
    "deviation. Networks without the chosen numbers are not drawn. The line joins those that no "
    "other beats in both. What is filtered applies to the table, the figure and what is copied."
)


def write(folder: Path, records: Sequence[Record], signs: Mapping[str, int]) -> Path:
    """Writes report.html, networks.csv and networks.tex; returns the page's path.

    Args:
      folder: where they go.
      records: of networks; each names its `run`.
      signs: measure, such as `accuracy_mean` → 1 if more of it is better, else −1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / "networks.csv", as_csv(records))
    atomic.write(folder / "networks.tex", as_latex(records))
    sections = [
        ("Networks", page_lib.paragraph(NOTE) + _figure(records, signs)),
        ("Table", _buttons() + page_lib.table(*table(records), caption="One row per network.")),
    ]
    page = page_lib.render("Networks compared", sections, scripts=("survey.js",))
    atomic.write(folder / "report.html", page)
    return folder / "report.html"


def fields(records: Sequence[Record]) -> list[str]:
    """Returns the fields that some record has: names first, then measures, then costs."""
    found = list(dict.fromkeys(field for record in records for field in record))
    measures = [field for field in found if field.endswith(("_mean", "_deviation"))]
    known = [field for field in (*FIRST, *measures, *COSTS) if field in found]
    return [*known, *(field for field in found if field not in known)]


def table(records: Sequence[Record]) -> Rows:
    """Returns one row per network; a mean has its deviation beside it."""
    shown = [f for f in fields(records) if f not in FIRST and not f.endswith("_deviation")]
    header = ["run", "network", *(_words(field) for field in shown)]
    rows = [[_cell(record, field) for field in shown] for record in records]
    names = [[str(record["run"]), _name(record)] for record in records]
    return header, [[*name, *row] for name, row in zip(names, rows, strict=True)]


def _name(record: Record) -> str:
    """Returns the name of a network within its run, such as `ticket level 3`."""
    parts = [str(record[field]) for field in NAMES if record.get(field)]
    parts += [f"{field} {record[field]}" for field in NUMBERED if record.get(field) is not None]
    return " ".join(parts)


def _words(field: str) -> str:
    return COSTS.get(field, field.removesuffix("_mean").replace("_", " "))


def _cell(record: Record, field: str) -> str:
    value = record.get(field)
    if value is None or isinstance(value, str):
        return value or ""
    text = looks.number(value)
    deviation = record.get(field.removesuffix("_mean") + "_deviation")
    has_spread = (
        field.endswith("_mean") and deviation is not None and record.get("replicates", 2) > 1
    )
    return f"{text}±{deviation:.4f}" if has_spread else text


def as_csv(records: Sequence[Record]) -> str:
    """Returns the records as comma-separated values, with all their digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields(records), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_latex(records: Sequence[Record]) -> str:
    """Returns the table for a paper, in LaTeX's tabular with booktabs' rules."""
    header, rows = table(records)
    lines = [" & ".join(map(_latex, row)) + r" \\" for row in (header, *rows)]
    columns = "ll" + "r" * (len(header) - 2)  # two name a network
    top = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*top, *lines[1:], r"\bottomrule", r"\end{tabular}", ""])


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: rf"\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text).replace("±", r"$\pm$")


def _figure(records: Sequence[Record], signs: Mapping[str, int]) -> str:
    """Returns the controls, the place of the figure, and what the script knows."""
    numbers = [f for f in fields(records) if any(_is_number(r.get(f)) for r in records)]
    measures = [field for field in numbers if field.endswith("_mean")]
    costs = [field for field in COSTS if field in numbers]
    others = [f for f in numbers if f not in (*measures, *costs) and not f.endswith("_deviation")]
    words = {field: _words(field) for field in numbers}
    x = _choice("x", "horizontal axis", [*costs, *others, *measures], words)
    y = _choice("y", "vertical axis", [*measures, *costs, *others], words)
    data = {"records": list(records), "signs": dict(signs), "words": words}
    inside = json.dumps(data, ensure_ascii=False, default=float).replace("</", "<\\/")
    return (
        f"<form class='controls'>{x}{y}"
        "<label>filter <input name='filter' type='search' placeholder='words of a row'></label>"
        "<label><input name='log' type='checkbox' checked> logarithmic</label>"
        "<label><input name='front' type='checkbox' checked> Pareto front</label></form>"
        "<figure class='survey'><div class='legend' role='group' aria-label='runs'></div>"
        "<div class='panel' role='img' aria-label='networks: see the table below'>"
        "<div aria-hidden='true'></div></div>"
        "<p class='count' role='status'></p>"
        f"<script type='application/json'>{inside}</script></figure>"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _choice(name: str, label: str, options: Sequence[str], words: Mapping[str, str]) -> str:
    inner = "".join(
        f"<option value='{html.escape(o)}'>{html.escape(words[o])}</option>" for o in options
    )
    return f"<label>{label} <select name='{name}'>{inner}</select></label>"


def _buttons() -> str:
    return (
        "<p class='controls'><button type='button' data-form='csv'>Save as CSV</button>"
        "<button type='button' data-form='latex'>Copy as LaTeX</button></p>"
    )
