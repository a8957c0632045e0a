"""A process that hangs ends itself, so that whoever started it can start it again.

A collective whose peer has stopped waits for ever, and so does a read from a dead disk. A thread
watches whether training moves, since the main thread cannot while it is inside XLA.
"""

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from groundwork.devices import processes

HUNG = 76  # the exit code; it lies beside interruption.PREEMPTED
WRITE_SECONDS = 5.0  # the disk or the terminal may be what hangs
STDERR = 2


class Watchdog:
    """Ends this process once its training has not moved for some time.

    Only time in which the process could run counts: one that was stopped (Ctrl-Z) goes on.
    """

    def __init__(self, seconds: float, log: Path, keep: Callable[[], None] = lambda: None) -> None:
        """Watches for `seconds` without a move, 0 = never, and writes the stacks into `log`.

        The first process calls `keep` after that.
        """
        self._seconds, self._log, self._keep = seconds, log, keep
        self._poll = min(1.0, seconds / 10)
        self._moves = 0

    def moved(self) -> None:
        """Notes that training has moved."""
        self._moves += 1

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """Watches what is done inside; `name` is what the error calls it."""
        if not self._seconds:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(name, over), name="watchdog", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, name: str, over: threading.Event) -> None:
        quiet, moves, before = 0.0, self._moves, time.monotonic()
        while not over.wait(self._poll):
            now = time.monotonic()
            quiet += min(now - before, 2 * self._poll)  # it is longer if the process was stopped
            before = now
            if self._moves != moves:
                quiet, moves = 0.0, self._moves
            if quiet >= self._seconds:
                self._end(name)
                return

    def _end(self, name: str) -> None:
        """Writes the stacks of all threads, and ends the process."""
        writer = threading.Thread(target=self._tell, args=(name,), daemon=True)
        writer.start()
        writer.join(WRITE_SECONDS)
        # The others hang too, and notice it within two looks. If one left at once, they would see a
        # lost peer, and their exit codes would say so. JAX ends all at once when the first leaves.
        looks = 4 if processes.first() else 2
        time.sleep(looks * self._poll if processes.count() > 1 else 0)
        os._exit(HUNG)

    def _tell(self, name: str) -> None:
        said = (
            f"error: {name} has not moved for {self._seconds:g} s (checkpoint.hang_seconds): this "
            f"process ends with code {HUNG}, and the same command continues. Where a step or an "
            "evaluation takes so long, set it higher, or to 0. What its threads were doing:\n"
        )
        with contextlib.suppress(OSError):  # the terminal may be gone; the log is to have it still
            os.write(STDERR, said.encode())
            faulthandler.dump_traceback(STDERR, all_threads=True)
        if processes.first():
            with contextlib.suppress(OSError), open(self._log, "a", encoding="utf-8") as log:
                log.write(f"{time.strftime('%H:%M:%S')} {said}")
                log.flush()
                faulthandler.dump_traceback(log, all_threads=True)
            self._keep()
