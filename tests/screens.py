"""Outputs that commands write to: terminals of some width, pipes, streams of other encodings."""

import contextlib
import io
import re
from collections.abc import Callable


class Screen(io.TextIOWrapper):
    """Standard output that keeps what it is told."""

    def __init__(self, encoding: str = "utf-8", terminal: bool = True):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)


def shown(
    monkeypatch, call: Callable[[], object], columns: int | None = None, encoding: str = "utf-8"
) -> str:
    """What a call prints on a terminal of so many columns; in a pipe if there are none."""
    screen = Screen(encoding, terminal=columns is not None)
    with monkeypatch.context() as patched:
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TERM", "COLUMNS"):
            patched.delenv(name, raising=False)
        patched.setenv("NO_COLOR", "1")
        if columns is not None:
            patched.setenv("COLUMNS", str(columns))
        with contextlib.redirect_stdout(screen):
            call()
    return screen.text


def numbers(text: str) -> list[str]:
    """All words that have a digit."""
    return re.findall(r"\S*\d\S*", text)
