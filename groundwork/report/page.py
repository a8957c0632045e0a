"""The page that every report ends with: one HTML file that has everything inside."""

import base64
import functools
import html
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from groundwork import atomic, buckets, copies, terminal
from groundwork import config as config_lib
from groundwork.errors import UserError, check_text
from groundwork.report.charts import words
from groundwork.runs import operations
from groundwork.runs.results import RunResults

CHART = "class='chart'"  # the class of figures that say their numbers
REFRESH = "REPORT_REFRESH_SECONDS"  # of a process that draws the page of a run that goes on
ASSETS = Path(__file__).parent / "assets"
PHONE = "<meta name='viewport' content='width=device-width,initial-scale=1'>"


def render(
    title: str,
    sections: Sequence[tuple[str, str]],
    refresh: float = 0.0,
    scripts: Sequence[str] = (),
) -> str:
    """Returns a self-contained HTML page of (heading, HTML) sections.

    Args:
      title: of the page.
      sections: in order.
      refresh: seconds after which a browser loads the page again; 0 for never.
      scripts: more of the assets, which draw figures.
    """
    body = "".join(f"<section><h2>{html.escape(h)}</h2>{text}</section>" for h, text in sections)
    again = f"<meta http-equiv='refresh' content='{refresh:g}'>" if refresh else ""
    head = f"<meta charset='utf-8'>{PHONE}{again}<title>{html.escape(title)}</title>"
    head += f"<style>{_asset('page.css')}</style>"
    drawn = CHART in body or scripts
    script = f"<script>(() => {{{_asset('vega.js')}}})();</script>" if drawn else ""
    script += "".join(f"<script>{_asset(name)}</script>" for name in ("page.js", *scripts))
    page = f"<!doctype html>\n<html lang='en'><head>{head}</head><body><main>"
    page += f"<h1>{html.escape(title)}</h1>{body}</main>{script}</body></html>\n"
    return page.encode("utf-8", "backslashreplace").decode()  # names of files may be any bytes


@functools.cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def write(
    folder: Path, title: str, sections: Sequence[tuple[str, str]], refresh: float | None = None
) -> Path:
    """Writes a page of (heading, HTML) sections to `report.html` in a folder; returns its path.

    Args:
      folder: where it goes.
      title: of the page.
      sections: in order.
      refresh: see `render`; by default what `live` has said to the process that draws.
    """
    path = folder / "report.html"
    seconds = float(os.environ.get(REFRESH, 0)) if refresh is None else refresh
    atomic.write(path, render(title, sections, seconds))
    return path


def said(write: Callable[[], Path]) -> str:
    """Writes figures and a page; returns the line that says where, or that a disk forbids it."""
    try:
        return f"report: {write()}"
    except OSError as error:
        if error.errno not in atomic.READ_ONLY:
            raise
        return f"no report.html: {error.filename} cannot be written ({error.strerror})"


def write_run(run: RunResults, title: str, sections: Sequence[tuple[str, str]]) -> Path:
    """Writes the page of a run, which ends with its config and software; returns its path."""
    origin = [("Config", run.config), ("Made with", run.about)]
    last = [(heading, listing(config_lib.flatten(values))) for heading, values in origin]
    typed = operations.typed(run.folder)
    first = [("The command", command(typed))] if typed else []
    return write(run.folder, title, [*sections, *first, *last])


def picture(path: Path, caption: str) -> str:
    """Returns a figure as HTML, with everything inside.

    It says its numbers where `figures.save` wrote a description beside the PNG. Browsers without
    scripts show the PNG, and so do all where there is no description.
    """
    text = html.escape(caption)
    data = base64.b64encode(path.read_bytes()).decode()
    image = f"<img alt='{text}' src='data:image/png;base64,{data}'>"
    described = path.with_suffix(".json")
    if not described.exists():
        return f"<figure>{image}<figcaption>{text}</figcaption></figure>"
    panels = json.loads(described.read_text(encoding="utf-8"))
    places = "".join(
        f"<div class='panel' role='img' aria-label='{html.escape(words.said(panel))}'>"
        "<div aria-hidden='true'></div></div>"
        for panel in panels
    )
    inside = json.dumps(panels, ensure_ascii=False).replace("</", "<\\/")
    return (
        f"<figure {CHART}><div class='legend' role='group' aria-label='series'></div>"
        f"<div class='panels'>{places}</div><figcaption>{text}</figcaption>"
        f"<noscript>{image}</noscript><script type='application/json'>{inside}</script></figure>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Returns an HTML table of texts, which can be sorted by its columns.

    Args:
      header: of the columns.
      rows: the first cell names the row.
      caption: what the table has; by default, what its rows are.
    """
    caption = caption or f"One row per {header[0] or 'entry'}."
    cells = "".join(
        f"<th scope='col'><button type='button'>{html.escape(cell)}</button></th>"
        if cell
        else "<td></td>"
        for cell in header
    )
    lines = "".join(f"<tr>{_row(row)}</tr>" for row in rows)
    said = html.escape(caption)
    return (
        f"<div class='scroll' role='group' tabindex='0' aria-label='{said}'><table>"
        f"<caption>{said}</caption><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _row(row: Sequence[str]) -> str:
    first, *others = row
    return f"<th scope='row'>{_broken(first)}</th>" + "".join(
        f"<td>{_broken(cell)}</td>" for cell in others
    )


def command(argv: Sequence[str]) -> str:
    """Returns a command line as HTML, with a button that copies it."""
    typed = html.escape(shlex.join(argv))
    button = "<button type='button'>Copy</button>"
    return f"<div class='command'><pre tabindex='0'>{typed}</pre>{button}</div>"


def warning(text: str) -> str:
    """Returns a text that readers must not miss, as HTML; nothing if it is empty."""
    return f"<p class='warning'>{html.escape(text)}</p>" if text else ""


def _broken(cell: str) -> str:
    """Returns a text as HTML; a line may end after each part of a path."""
    return html.escape(cell).replace("/", "/<wbr>")


def paragraph(text: str) -> str:
    """Returns a text as an HTML paragraph."""
    return f"<p>{html.escape(text)}</p>"


def bullets(lines: Sequence[str]) -> str:
    """Returns texts as an HTML list."""
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def listing(values: Mapping[str, Any]) -> str:
    """Returns keys and values as HTML, as they would be typed."""
    return lines("\n".join(f"{k} = {v}" for k, v in values.items()))


def lines(text: str) -> str:
    """Returns lines of text as HTML, as they stand; long ones scroll."""
    return f"<pre tabindex='0'>{html.escape(text)}</pre>"


def draw_again(
    show: Callable[[Sequence[Path]], Any],
    usage: str | None,
    argv: Sequence[str],
    into: str = "",
) -> None:
    """Draws the reports of the runs that are named on the command line.

    Args:
      show: draws those of run folders.
      usage: the text that `--help` prints.
      argv: the command line without the program's name.
      into: the folder in which `show` draws, in that of one run or beside the first of several; by
        default the page and figures of the run, or `comparison`.

    Raises:
      UserError: an argument is a flag, is empty, or is no text.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(usage)
        return
    check_text(argv)
    for folder in argv:
        if not folder:
            raise UserError("an argument is empty: give the folders of runs")
        if folder.startswith("-"):
            raise UserError(f"unknown flag {folder}: give the folders of runs")
    folders = [copies.near(folder) for folder in argv]
    show(folders)
    if buckets.is_url(argv[0]):
        _send(argv, folders, into)


def _send(argv: Sequence[str], folders: Sequence[Path], into: str) -> None:
    """Copies up what was drawn: the report of one run in a bucket, or the comparison of several."""
    single = len(argv) == 1
    bucket = buckets.bucket(argv[0] if single else argv[0].rstrip("/").rpartition("/")[0])
    folder = folders[0] if single else folders[0].parent
    drawn = ("report.html", "figures/*") if single else ("comparison/*",)
    drawn = (f"{into}/*",) if into else drawn
    made = [path for pattern in drawn for path in folder.glob(pattern)]
    bucket.send([path.relative_to(folder).as_posix() for path in made], folder)
    terminal.say(f"kept in {bucket.url}; the copy on this machine is removed")
