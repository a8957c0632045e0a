"""Who holds the folder of a run that is in a bucket, where no file can be locked.

lock/00000007.json  the holder of the highest number has the folder: host, process, sign of life

A number is taken by an object that is only written if there is none, so that one of several
succeeds. The holder writes it anew every ten seconds. One that gives no sign for a minute counts
as dead, and the next number is taken. A holder that finds a higher number than its own must stop.
"""

import contextlib
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from groundwork import jsons, terminal
from groundwork.buckets import LOCKS, Bucket, BucketError
from groundwork.errors import UserError

BEAT_SECONDS = 10.0  # between two signs of life
DEAD_SECONDS = 60.0  # without any
POLL_SECONDS = 2.0


class Lease:
    """The hold on a folder of a bucket, from `take` to `free`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._about = {**_this_process(), "token": secrets.token_hex(8)}
        self._number = 0
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def take(self) -> None:
        """Takes the folder; if its holder gives no sign of life, after a minute.

        Raises:
          UserError: another process holds it.
        """
        seen, data = 0, b""
        since = time.monotonic()
        while True:
            number = self._newest()
            now = self._bucket.read(_name(number)) if number else None
            about = _read(now)
            if not about or about.get("free") or _has_ended(about):
                self._number = number + 1
                if self._bucket.create(_name(self._number), self._sign(0)):
                    break
                continue  # another one was faster
            if (number, now) != (seen, data):
                if seen:
                    raise UserError(f"{self._bucket.url} is in use by {_who(about)}: {ADVICE}")
                _say(f"{self._bucket.url}: waiting whether {_who(about)} still works there")
                seen, data, since = number, now or b"", time.monotonic()
            elif time.monotonic() - since > DEAD_SECONDS:
                self._number = number + 1
                if self._bucket.create(_name(self._number), self._sign(0)):
                    break
            time.sleep(POLL_SECONDS)
        self._beats.start()
        self._bucket.remove(n for n in self._names() if n < _name(self._number))

    def check(self) -> None:
        """Checks that no other process has taken the folder meanwhile.

        Raises:
          UserError: one has.
        """
        if self._newest() > self._number:
            raise UserError(
                f"{self._bucket.url} was taken over by another process, since this one gave no "
                f"sign of life for {DEAD_SECONDS:.0f} s: this one stops"
            )

    def free(self) -> None:
        """Leaves the folder to others."""
        self._over.set()
        if self._beats.ident is not None:
            self._beats.join()
            with contextlib.suppress(BucketError):  # without a word others wait for a minute
                if self._newest() == self._number:
                    self._bucket.write(_name(self._number), self._sign(-1, free=True))

    def _beat(self) -> None:
        beat = 0
        while not self._over.wait(BEAT_SECONDS):
            beat += 1
            try:
                if self._newest() <= self._number:
                    self._bucket.write(_name(self._number), self._sign(beat))
            except BucketError:  # the next sign may get through; `check` sees if it was too late
                continue

    def _sign(self, beat: int, free: bool = False) -> bytes:
        return json.dumps({**self._about, "beat": beat, "free": free}).encode()

    def _names(self) -> list[str]:
        names = self._bucket.names(LOCKS)
        return [name for name in names if re.fullmatch(rf"{LOCKS}\d{{8}}\.json", name)]

    def _newest(self) -> int:
        return max((int(Path(name).stem) for name in self._names()), default=0)


ADVICE = "wait for it, or stop it"


def _name(number: int) -> str:
    return f"{LOCKS}{number:08d}.json"


def _who(about: dict[str, Any]) -> str:
    return f"process {about.get('pid')} of {about.get('host')}"


def _say(text: str) -> None:
    print(terminal.fitting(text, sys.stderr), file=sys.stderr, flush=True)


def _read(data: bytes | None) -> dict[str, Any]:
    """Returns what a lock says; nothing if it was removed, or is not readable."""
    try:
        about = jsons.parse(data or b"{}")
    except ValueError:
        return {"host": "unknown", "pid": "unknown"}
    return about if isinstance(about, dict) else {"host": "unknown", "pid": "unknown"}


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "machine": _machine()}


def _machine() -> str:
    """Returns where numbers of processes mean the same; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # a container has its own numbers
    except OSError:
        return ""


def _has_ended(about: dict[str, Any]) -> bool:
    """Returns whether a holder is certainly dead: it was a process of this machine, and is gone."""
    machine, pid = about.get("machine"), about.get("pid")
    if not machine or machine != _machine() or type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives, and is another user's
        return False
    return False
