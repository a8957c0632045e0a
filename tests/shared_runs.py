"""Runs that several files of tests read: one of all the workers makes each, the others copy it."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def finished(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], str | None]
) -> tuple[Path, str]:
    """A folder of this worker's own, and what was printed, with this folder in the other's place.

    `make` fills a folder and returns what it printed. It is called once for all workers.
    """
    own = factory.mktemp(name) / "run"
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return own, make(own) or ""
    first = factory.getbasetemp().parent / f"{name}-made-once"
    note = first / "printed.json"
    first.mkdir(exist_ok=True)
    with open(first / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            shutil.rmtree(first / "run", ignore_errors=True)
            note.write_text(json.dumps(make(first / "run") or ""), encoding="utf-8")
    shutil.copytree(first / "run", own)
    return own, json.loads(note.read_text(encoding="utf-8")).replace(str(first / "run"), str(own))
