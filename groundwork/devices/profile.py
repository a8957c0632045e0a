"""A trace of a few steps, for TensorBoard's profile page or Perfetto."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from groundwork.devices import processes
from groundwork.errors import reason


class Profile:
    """Traces the steps first … stop - 1 of the first unit that computes step `first`.

    Every process writes what it sees into a folder of its own. Calls of many steps are cut at the
    ends of the trace, and only there does the loop wait for the device; no bit changes.
    """

    def __init__(
        self, span: tuple[int, int] | None, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._first, self._stop = span or (0, 0)
        self._folder = folder / f"process-{processes.index()}"
        self._say, self._unit, self._traced = say, "", not span
        self._running, self._reached = False, 0

    @property
    def missed(self) -> str:
        """A warning, if no unit has computed the first step; else empty."""
        if self._traced:
            return ""
        return f"no unit that was trained now has computed step {self._first}: there is no profile"

    @contextlib.contextmanager
    def unit(self, name: str) -> Iterator[None]:
        """Traces steps of this unit, if it is the one; a trace ends with its unit at the latest."""
        self._unit = name
        try:
            yield
        finally:
            if self._running:
                self._end()

    def cut(self, step: int, following: int) -> int:
        """Returns at which step a call from `step` on must end, at most `following`."""
        ends = () if self._traced and not self._running else (self._first, self._stop)
        self._reached = min([following, *(end for end in ends if end > step)])
        return self._reached

    def reach(self, step: int, tree: Any, end: bool = False) -> None:
        """Begins or ends the trace at its steps, once the arrays of `tree` are computed.

        Args:
          step: which the unit has reached.
          tree: what depends on all steps before.
          end: whether no steps of the unit follow.
        """
        if self._running and step >= self._stop:
            jax.block_until_ready(tree)
            self._end()
        elif not self._traced and step == self._first and not end:
            jax.block_until_ready(tree)
            self._traced = self._running = True
            jax.profiler.start_trace(str(self._folder))

    def _end(self) -> None:
        self._running = False
        steps = f"steps {self._first} to {self._reached - 1}"
        try:
            jax.profiler.stop_trace()
        except RuntimeError as error:  # the disk is full, say: the run does not need the trace
            self._say(f"warning: {self._unit}: the trace of {steps} is lost: {reason(error)}")
        else:
            self._say(f"{self._unit}  {steps} are traced in {self._folder}")
