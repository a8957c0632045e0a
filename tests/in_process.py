"""Commands in this process, from the repository's root: the real code path of a user's run."""

import contextlib
import dataclasses
import io
from collections.abc import Sequence

from groundwork import study
from groundwork.study import Study


def run(command: Study, argv: Sequence[str]) -> str:
    """Trains and reports; returns what was printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        study.conduct(command, argv)
    return printed.getvalue()


def train(command: Study, argv: Sequence[str]) -> None:
    """As `run`, without the report, which takes seconds to draw and which nobody looks at."""
    study.conduct(dataclasses.replace(command, show=lambda folders: None), argv)
