"""python launch/local.py --processes=2 [--devices=4] -- python -m lottery.main …

Starts N processes of one run on this machine, as a rehearsal for a pod or a cluster. They find one
another as they would there; CPU devices talk through sockets. `python` is the interpreter that
runs this file. The first process has the terminal; lines of the others carry their number. If one
dies, it is named, and the others are ended if they take more than ten seconds to end; SIGTERM and
Ctrl-C are passed on to all. The exit code is the processes', or that of the first that failed.
"""

import argparse
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import IO, NoReturn

GRACE_SECONDS = 10.0  # how long the others may take to end by themselves once one has failed
STOPPED = (75, 130)  # the codes of a command that was told to stop, and has saved
LAST_SECONDS = 5.0  # for the last lines of a process; what it left behind may hold its output open
POLL_SECONDS = 0.05
MOST = 1000  # processes, and devices of each


def main(argv: Sequence[str]) -> int:
    """Start the processes, wait for all, and say which one failed."""
    flags = _parse(argv)
    port = _free_port()
    if flags.dry_run:
        for index in range(flags.processes):
            shown = " ".join(f"{k}={v}" for k, v in _environment(flags, port, index).items())
            print(shown, shlex.join(flags.command))
        return 0
    early: list[int] = []  # signals that come before all processes are there
    _watch(lambda number, frame: early.append(number))
    children: list[subprocess.Popen] = []
    try:
        for index in range(flags.processes):
            children.append(_start(flags, port, index))
    except OSError as error:
        for child in children:
            _kill(child)
        _say(f"error: {flags.command[0]}: {error.strerror}")
        return 2
    readers = [_relay(child, index) for index, child in enumerate(children) if index]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    _watch(pass_on)
    for number in early:
        pass_on(number, None)
    code = _wait(children)
    for reader in readers:
        reader.join(LAST_SECONDS)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end."""
        _say(f"error: {message} (--help has all flags)".encode(errors="replace").decode())
        sys.exit(2)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="launch/local.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="python launch/local.py --processes=N [--devices=D] [--dry-run] -- COMMAND …",
    )
    parser.add_argument("--processes", type=int, required=True, help="how many to start")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices each (0: JAX's own)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be started")
    parser.add_argument("command", nargs="+", help="what each of them runs")
    if any("\udc80" <= letter <= "\udcff" for letter in "".join(argv)):
        parser.error("an argument is no UTF-8 text")
    flags = parser.parse_args(argv)
    if not 1 <= flags.processes <= MOST or not 0 <= flags.devices <= MOST:
        parser.error(f"--processes must be 1 to {MOST}, --devices 0 to {MOST}")
    if flags.command[0] in ("python", "python3"):
        flags.command[0] = sys.executable
    return flags


def _watch(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals that ask us to stop; a lost terminal too, unless we are to outlive it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under `nohup`
        signal.signal(signal.SIGHUP, handler)


def _environment(flags: argparse.Namespace, port: int, index: int) -> dict[str, str]:
    """Returns the variables that tell a process which one it is."""
    variables = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(flags.processes),
        "JAX_PROCESS_ID": str(index),
        # A process that has lost another says nothing and waits: the line about it comes from here.
        "LOCAL_LAUNCHER_SECONDS": f"{GRACE_SECONDS:g}",
    }
    if flags.devices:
        variables |= {"JAX_NUM_CPU_DEVICES": str(flags.devices), "JAX_PLATFORMS": "cpu"}
        # XLA's pool has one thread per device, and collectives block them: leave some for the rest.
        variables["NPROC"] = os.environ.get("NPROC", str(4 * flags.devices))
    return variables


def _start(flags: argparse.Namespace, port: int, index: int) -> subprocess.Popen:
    """Start a process in a session of its own, so that Ctrl-C reaches it only once, from here."""
    pipe = subprocess.PIPE if index else None
    return subprocess.Popen(
        flags.command,
        env={**os.environ, **_environment(flags, port, index)},
        stdout=pipe,
        stderr=subprocess.STDOUT if index else None,
        start_new_session=True,
    )


def _relay(child: subprocess.Popen, index: int) -> threading.Thread:
    """Print what a process says, each line with its number."""

    def copy(stream: IO[bytes]) -> None:
        for line in stream:
            _say(f"[{index}] {line.decode(errors='replace').removesuffix(os.linesep)}")

    thread = threading.Thread(target=copy, args=(child.stdout,), daemon=True)
    thread.start()
    return thread


def _wait(children: Sequence[subprocess.Popen]) -> int:
    """Wait for all, end the rest soon after one has failed, and return the first failure's code."""
    failure, deadline = 0, float("inf")
    while True:
        codes = [child.poll() for child in children]
        for index, code in enumerate(codes):
            if code and not failure:
                failure, deadline = code, time.monotonic() + GRACE_SECONDS
                _say(_story(index, code, len(children), codes.count(None)))
        if None not in codes:
            for child, code in zip(children, codes, strict=True):
                if code:
                    _kill(child)  # what it has started, such as those that read its data
            return 128 - failure if failure < 0 else failure
        if time.monotonic() > deadline:
            for child in children:
                if child.poll() is None:
                    _kill(child)
        time.sleep(POLL_SECONDS)


def _kill(child: subprocess.Popen) -> None:
    """Kill a process and all that it has started, which would keep its output open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _story(index: int, code: int, count: int, left: int) -> str:
    """Returns the line about the process that ended first: how, and what becomes of the rest."""
    line = f"process {index} of {count} "
    if code < 0:
        line = f"error: {line}was killed by {_name(-code)}"
        line += " (memory may be short)" if code == -signal.SIGKILL else ""
        line += "; the same command continues the run"
    else:
        line = f"{line if code in STOPPED else 'error: ' + line}ended with code {code}"
    those = "the other one" if left == 1 else f"the other {left}"
    return f"{line}; {those} may take {GRACE_SECONDS:g} s to end" if left else line


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # those between the first and the last real-time signal have no name
        return f"signal {number}"


def _say(line: str) -> None:
    """Write a line to stderr; it must not stop us if nobody reads any more."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
