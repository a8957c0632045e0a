"""SIGTERM and Ctrl-C: a run finishes its step, saves, and leaves with a code that says so.

A scheduler that takes the machine away sends SIGTERM; code 75 tells it to start the same command
again. Several processes agree on the step at which they stop, through JAX's preemption service.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from jax.experimental import multihost_utils

from groundwork.devices import processes

PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again later
BY_HAND = 128 + signal.SIGINT


class Interrupted(BaseException):
    """The run was asked to stop, and has saved its state.

    It is no error, so that what answers a user's code that fails does not take it for one.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class Interruption:
    """Knows whether this run has been asked to stop."""

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._checks = 0

    def reached(self) -> bool:
        """Returns whether to stop at this step. All processes must call it at the same steps."""
        self._checks += 1
        if processes.count() > 1:
            return multihost_utils.reached_preemption_sync_point(self._checks)
        return self._asked is not None

    def stop(self, where: str) -> Interrupted:
        """Returns the exception to raise once everything is saved."""
        by_hand = self._asked == signal.SIGINT
        code = BY_HAND if by_hand else PREEMPTED
        cause = "interrupted" if by_hand else "asked to stop"
        return Interrupted(f"{cause}; saved at {where}; the same command continues", code)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the second one is final
            print("finishing the running step and saving; Ctrl-C again stops at once", flush=True)
            if processes.count() > 1:
                os.kill(os.getpid(), signal.SIGTERM)  # JAX tells the other processes of it


@contextlib.contextmanager
def watched(interruption: Interruption | None = None) -> Iterator[Interruption]:
    """Turns signals into requests to stop. It must be entered after `processes.start`.

    With several processes JAX handles SIGTERM itself. Outside the main thread, where Python
    delivers no signals, nothing is watched.
    """
    interruption = interruption or Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    watch = [signal.SIGINT] if processes.count() > 1 else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, interruption._ask) for number in watch}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
