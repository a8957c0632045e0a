"""Texts on a real terminal, on streams that are closed, and in encodings that lack characters."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading

import pytest

from groundwork import terminal
from tests import screens
from tests.conftest import ROOT

PREPARED = "import sys; from groundwork import terminal; terminal.prepare()\n"
TABLE = """
from groundwork.report import tables
tables.show("a table", ([f"column {i}" for i in range(30)], [[f"{i},456,789" for i in range(30)]]))
"""
ERROR = """
from groundwork import entry, errors
def main(argv):
    raise errors.UserError("no folder a\\nb\\x1b[1m\\udcff")
entry.run_main(main)
"""
TEXT = r"""
print("\u5b57 [a] \xb1 \xd7 \u2026 \udcff")
assert sys.stdout or open("/dev/null").fileno() > 2
"""
SPELLED = b"\\u5b57 [a] +- x ... \\udcff\n"
C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
COLOURLESS = {
    k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
}


def start(body, shell='exec "$@"', env=(), **options):
    words = ["sh", "-c", shell, "sh", sys.executable, "-c", PREPARED + body]
    env = {**COLOURLESS, "TERM": "xterm-256color", **dict(env)}
    return subprocess.Popen(words, cwd=ROOT, env=env, **options)


def typed(body, columns, **env):
    """What a terminal of so many columns shows of a command."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    read = []

    def listen():
        with contextlib.suppress(OSError):  # which Linux raises where the other end is closed
            while data := os.read(ours, 1 << 16):
                read.append(data)

    listener = threading.Thread(target=listen)
    with start(body, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        listener.start()
        assert process.wait(60) == 0
    listener.join()
    os.close(ours)
    return b"".join(read).decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("columns", "env", "styled"),
    [(80, {}, True), (200, {"NO_COLOR": "1"}, False), (100, {"TERM": "dumb"}, False)],
)
def test_a_terminal_shows_all_within_its_width(columns, env, styled):
    said = typed(TABLE, columns, **env)
    assert ("\x1b[" in said) == styled
    lines = said.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert columns - 25 < max(map(len, lines)) <= columns
    assert all(f"{i},456,789" in said for i in range(30))


@pytest.mark.parametrize(
    ("shell", "env", "said"),
    [
        ('exec "$@" >&-', {}, b""),
        ('exec "$@"', {"PYTHONIOENCODING": "ascii"}, SPELLED),
        ('exec "$@"', C, SPELLED),
    ],
    ids=["closed", "ascii", "C"],
)
def test_print_writes_any_text_to_any_output(shell, env, said):
    with start(TEXT, shell, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.communicate(timeout=60) == (said, b"")
    assert process.returncode == 0


def test_an_error_is_one_line_whatever_was_typed():
    with start(ERROR, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (2, b"error: no folder a\\nb\\x1b[1m\\udcff\n")


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "runs/[a] :smile: 字 ± \\udcff\\n"),
        ("latin-1", "runs/[a] :smile: \\u5b57 ± \\udcff\\n"),
        ("ascii", "runs/[a] :smile: \\u5b57 +- \\udcff\\n"),
    ],
)
def test_a_line_is_said_as_it_is(monkeypatch, encoding, said):
    text = "runs/[a] :smile: 字 ± \udcff\n"
    assert screens.shown(monkeypatch, lambda: terminal.say(text), 20, encoding) == said + "\n"
