"""A process of `deploy.measuring_process`, and the requests that it is sent. Read `Child.ask`."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deploy

MODULE = "deploy.measuring_process"
LONGEST_REASON = 200  # characters of a failure


class Failed(Exception):
    """A process of an engine has ended, hangs, or answered with an error."""


class Refused(Failed):
    """It answered with an error."""


class Child:
    """A process, and the requests that it is sent."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Any, limit: float) -> None:
        self._process, self._errors, self._limit = process, errors, limit
        self._rest = b""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Returns the answer to a request.

        Raises:
          Failed: there is none, or it is an error.
        """
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            stdin.flush()
        except OSError:  # it has ended: reading says how
            pass
        answer: dict[str, Any] = json.loads(self._line(do))
        if "error" in answer:
            raise Refused(_short(answer["error"]))
        return answer

    def _line(self, do: str) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        while b"\n" not in self._rest:
            ready, _, _ = select.select([stdout], [], [], self._limit)
            if not ready:
                self._process.kill()
                raise Failed(f"no answer to {do!r} within {self._limit:g} s")
            part = os.read(stdout.fileno(), 2**20)
            if not part:
                raise Failed(self._end(do))
            self._rest += part
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def _end(self, do: str) -> str:
        """Returns how the process ended, and its last words."""
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(words) if line.strip()), "")
        return _short(f"the process ended at {do!r} by {how}" + (f": {last}" if last else ""))


@contextlib.contextmanager
def started(limit: float) -> Iterator[Child]:
    """Starts a process, and ends it with the context.

    Args:
      limit: seconds after which it has failed if it does not answer.
    """
    root = str(Path(deploy.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the parent's, which ends its children in order
        )
        try:
            yield Child(process, errors, limit)
        finally:
            process.kill()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was not sent to one that has ended
                    assert stream is not None
                    stream.close()
            process.wait()


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
