"""The page of a run that goes on: drawn again while it trains, by a process of its own."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from groundwork.devices import processes
from groundwork.report import page as page_lib
from groundwork.runs.run import Run

SECONDS = 10.0  # between two looks whether there is more to show
NICE = 10  # how little priority drawing has
BEGUN = (
    "The run has begun. This page shows each unit of work that is finished; it loads itself again."
)


@contextlib.contextmanager
def page(command: str, folder: Path, shown: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Draws the report of a run again whenever a unit was finished, as long as the block runs.

    Training does not wait for it: `python -m COMMAND.report` draws, with little priority. Pages
    load themselves again until the last one, which the command writes when all is done.

    Args:
      command: whose report it is, such as `lottery`.
      folder: of the run.
      shown: whether there is to be a page at all.
      say: takes a line, such as why nothing can be drawn yet.
    """
    if not shown or not processes.first():
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(command, folder, over, say), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(command: str, folder: Path, over: threading.Event, say: Callable[[str], None]) -> None:
    done: list[str] = []
    if not (folder / "report.html").exists():
        sections = [("Not finished", page_lib.paragraph(BEGUN))]
        page_lib.write(folder, folder.resolve().name, sections, refresh=SECONDS)
    while True:
        units = Run(folder).units()
        if units != done:
            done = units
            if why := _draw(command, folder, over):
                say(f"report.html is not drawn: {why}")
        if over.wait(SECONDS):
            return


def _draw(command: str, folder: Path, over: threading.Event) -> str:
    """Draws the page; returns why it is not drawn, such as that no network is finished yet."""
    drawing = subprocess.Popen(
        [sys.executable, "-m", f"{command}.report", str(folder)],
        env={**os.environ, page_lib.REFRESH: f"{SECONDS:g}", "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, drawing.pid, NICE)
    while True:
        try:
            _, errors = drawing.communicate(timeout=0.1)
        except subprocess.TimeoutExpired:
            if not over.is_set():
                continue
            drawing.terminate()
            drawing.communicate()
            return ""
        said = errors.strip().splitlines() or [f"code {drawing.returncode}"]
        return said[-1] if drawing.returncode else ""
