"""How a command ends whose output nobody reads, or that is stopped before it has begun."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

MAIN = """
import signal, sys, time
from rich.console import Console
from groundwork.entry import run_main
from groundwork.errors import UserError
signal.signal(signal.SIGINT, signal.default_int_handler)  # however the tests were started
def main(argv):
    {}
run_main(main)
"""
BUFFERED = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}  # as users have it


def start(body, shell='exec "$@"', **options):
    """A command that does this."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = ["sh", "-c", shell, "sh", sys.executable, "-c", MAIN.format(body)]
    return subprocess.Popen(command, cwd=ROOT, env=BUFFERED, text=True, **pipes)


@pytest.fixture
def closed():
    """A pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_sigterm_before_training_begins_exits_with_75_and_says_so():
    with start("print('begun', flush=True); time.sleep(60)") as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (75, "")
    assert err == "asked to stop before training began; the same command starts it\n"


@pytest.mark.parametrize(
    "body",
    ["print('x' * 10**6); time.sleep(60)", "print('short')", "Console().print('rich')"],
    ids=["while it runs", "at the end", "rich"],
)
def test_output_into_a_closed_pipe_ends_a_command_silently_with_141(closed, body):
    with start(body, stdout=closed) as process:
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("print('short'); raise UserError('wrong')", 2),
        ("print('short'); signal.raise_signal(signal.SIGTERM)", 75),
        ("print('short'); signal.raise_signal(signal.SIGINT)", 130),
        ("print('short'); sys.exit(3)", 3),
    ],
)
def test_a_lost_terminal_leaves_the_code_as_it_is(closed, body, code):
    with start(body, stdout=closed, stderr=closed) as process:
        assert process.wait(20) == code


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [("print('short')", 0, ""), ("raise UserError('wrong')", 2, "error: wrong\n")],
)
def test_a_command_without_standard_output_ends_as_it_would_with_one(body, code, said):
    with start("assert not sys.stdout; " + body, shell='exec "$@" >&-') as process:
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (code, said)
