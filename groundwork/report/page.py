"""The page that every report ends with: one HTML file that has everything inside."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from groundwork import atomic, buckets, copies, terminal
from groundwork import config as config_lib
from groundwork.errors import UserError, check_text
from groundwork.runs.results import RunResults

CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #eee;vertical-align:bottom}
td{white-space:nowrap}
td:first-child,th:first-child{text-align:left}
td:first-child{white-space:normal;min-width:7rem}h1,h2,p,li{overflow-wrap:anywhere}
img{max-width:100%}figcaption{color:#555;font-size:.9rem}figure{margin:1rem 0}
pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;font-size:.85rem}
"""


PHONE = "<meta name='viewport' content='width=device-width,initial-scale=1'>"


def render(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Returns a self-contained HTML page of (heading, HTML) sections."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>{text}" for heading, text in sections)
    head = f"<meta charset='utf-8'>{PHONE}<title>{html.escape(title)}</title><style>{CSS}</style>"
    page = f"<!doctype html><html lang='en'>{head}<h1>{html.escape(title)}</h1>{body}</html>\n"
    return page.encode("utf-8", "backslashreplace").decode()  # names of files may be any bytes


def write(folder: Path, title: str, sections: Sequence[tuple[str, str]]) -> Path:
    """Writes a page of (heading, HTML) sections to `report.html` in a folder; returns its path."""
    path = folder / "report.html"
    atomic.write(path, render(title, sections))
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
    return write(run.folder, title, [*sections, *last])


def picture(path: Path, caption: str) -> str:
    """Returns a figure as HTML, with the image inside."""
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    image = f"<img alt='{text}' src='data:image/png;base64,{data}'>"
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns an HTML table of texts."""
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = "".join(
        "<tr>" + "".join(f"<td>{_broken(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"


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
    return "<pre>" + html.escape("\n".join(f"{k} = {v}" for k, v in values.items())) + "</pre>"


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
    drawn = ("report.html", "figures/*.png") if single else ("comparison/*",)
    drawn = (f"{into}/*",) if into else drawn
    made = [path for pattern in drawn for path in folder.glob(pattern)]
    bucket.send([path.relative_to(folder).as_posix() for path in made], folder)
    terminal.say(f"kept in {bucket.url}; the copy on this machine is removed")
