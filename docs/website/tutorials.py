"""Tutorials: executed on demand, and shown on the site with the outputs of the last execution."""

import re
import shutil
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError

from website import pages

ROOT = Path(__file__).parent.parent.parent
WRITTEN = ROOT / "docs" / "tutorials"
EXECUTED = ROOT / "build" / "tutorials"
NOTE = (
    "```{note}\nThis copy was built without the outputs: `make tutorials` runs the cells, and the"
    " next `make docs` shows what they say.\n```\n"
)


def written() -> list[Path]:
    """Returns the tutorials' sources."""
    return sorted(path for path in WRITTEN.glob("*.md") if path.stem not in ("README", "index"))


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Returns what decides whether outputs belong to a source."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def execute(path: Path, into: Path = EXECUTED) -> float:
    """Runs all cells in an empty folder, writes the notebook, and returns the seconds that it took.

    Raises CellControlSignal where a cell fails or takes too long.
    """
    notebook, began = jupytext.read(path, fmt="md:myst"), time.monotonic()
    folder = into / f"{path.stem}_files"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, resources=place).execute()
    jupytext.write(notebook, into / f"{path.stem}.ipynb")
    return time.monotonic() - began


def place(out: Path) -> None:
    """Puts each tutorial there with its outputs; without any, a note says how to get them."""
    where = pages.places()
    for path in written():
        notebook, executed = jupytext.read(path, fmt="md:myst"), EXECUTED / f"{path.stem}.ipynb"
        if executed.is_file() and cells(jupytext.read(executed)) == cells(notebook):
            notebook = jupytext.read(executed)
        else:
            title, _, rest = notebook.cells[0].source.partition("\n")
            notebook.cells[0].source = f"{title}\n\n{NOTE}{rest}"
        notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "python"}
        file = f"docs/tutorials/{path.name}"
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = pages.turned(cell.source, file, f"tutorials/{path.stem}", where)
        jupytext.write(notebook, out / f"{path.stem}.ipynb")
    index = out / "index.md"
    linked = re.findall(r"\]\((\w+)\.ipynb\)", index.read_text())
    listed = "\n".join(dict.fromkeys(linked))
    index.write_text(f"{index.read_text()}\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n")


def main() -> int:
    """Executes all tutorials, or those that are named, and says how long each took."""
    named, known = sys.argv[1:], [path.stem for path in written()]
    if unknown := set(named) - set(known):
        print(f"no tutorial {', '.join(sorted(unknown))}: there are {', '.join(known)}")
        return 1
    failed = 0
    for path in (path for path in written() if not named or path.stem in named):
        try:
            print(f"{path.stem}: {execute(path):.0f} s", flush=True)
        except (CellControlSignal, DeadKernelError) as wrong:
            print(f"{path.stem}: {wrong}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
