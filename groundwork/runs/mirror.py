"""A run in a bucket: it works in a folder of this machine, which is copied up as it grows.

The folder is brought down at the start. `send` copies up what is new: what manifests vouch for
first, manifests next, and only then is removed what is gone here. So the bucket always holds what a
crash of a machine may leave on a disk: whole checkpoints, and rests that no manifest vouches for.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from groundwork import buckets, copies, terminal
from groundwork.buckets import LOCKS, Bucket, BucketError
from groundwork.devices import processes
from groundwork.errors import UserError
from groundwork.runs.checkpoint import MANIFEST
from groundwork.runs.identity import FILE as FIRST
from groundwork.runs.lease import Lease
from groundwork.runs.progress import LOG

WAITS = (2.0, 10.0, 30.0, 60.0)  # seconds before a bucket that does not answer is tried again

Stamp = tuple[int, int, int]


class Mirror:
    """The folder of a run in a bucket, and the one of this machine in which the run works.

    The first process alone sends. Others bring what they read, and add files of their own.
    """

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self.bucket, self.folder = bucket, folder
        self._lease = Lease(buckets.bucket(bucket.url, "signs of life"))
        self._sent: dict[str, Stamp] = {}  # the files that the bucket has as they are here
        self._whole = False  # whether all that the bucket has is here

    def begun(self) -> bool:
        """Returns whether the bucket's folder has a run. The first process calls it.

        Raises:
          UserError: it has other things.
        """
        names = self._names()
        if names and FIRST not in names:
            raise UserError(
                f"{self.bucket.url} is not empty and holds no run: give another --workdir"
            )
        return FIRST in names

    def open(self) -> None:
        """Takes the bucket's folder and brings it down. The first process calls it."""
        self._lease.take()
        self.begun()
        names = self._names()
        self.bucket.bring(names, self.folder)
        self._sent = {name: _stamp(self.folder / name) for name in names}
        self._whole = True

    def close(self) -> None:
        """Copies up what an interrupted run still wrote, such as the last lines of its log.

        Then it leaves the bucket's folder to others. The first process calls it.
        """
        try:
            if self._whole:
                with contextlib.suppress(UserError, OSError):  # the run ends, and has said why
                    self._send()
        finally:
            self._lease.free()

    def send_log(self) -> None:
        """Copies up the log alone, from any thread, before the process ends itself.

        If it cannot, it says nothing: the terminal has the same lines.
        """
        with contextlib.suppress(UserError, OSError):
            self._lease.check()
            self.bucket.send([LOG], self.folder)

    def add(self, folder: Path) -> None:
        """Copies up a folder of this process, of which the first one knows nothing."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        self.bucket.send([path.relative_to(self.folder).as_posix() for path in files], self.folder)

    def send(self) -> None:
        """Copies up what has changed; the first process calls it.

        Raises:
          UserError: another process has taken the folder over.
          BucketError: the bucket does not answer, several times.
        """
        for wait in (*WAITS, None):
            try:
                self._send()
                return
            except BucketError as error:
                if wait is None:
                    raise BucketError(f"{error}. The same command continues") from error
                words = terminal.fitting(f"warning: {error}: trying again", sys.stderr)
                print(words, file=sys.stderr, flush=True)
                time.sleep(wait)

    def bring(self, folder: Path) -> None:
        """Brings a folder of the run as it is in the bucket now; the first process has it."""
        below = folder.relative_to(self.folder).as_posix()
        shutil.rmtree(folder, ignore_errors=True)
        self.bucket.bring(self.bucket.names(below), self.folder)

    def _send(self) -> None:
        self._lease.check()
        here = {
            path.relative_to(self.folder).as_posix(): _stamp(path)
            for path in self.folder.rglob("*")
            if path.is_file() and path.suffix != ".part"
        }
        new = sorted(name for name, stamp in here.items() if self._sent.get(name) != stamp)
        seals = [name for name in new if _is_seal(name)]
        self._forget([name for name in seals if name in self._sent])  # it vouches for other files
        for group in ([n for n in new if n == FIRST], [n for n in new if not _is_seal(n)], seals):
            group = [name for name in group if self._sent.get(name) != here[name]]
            self.bucket.send(group, self.folder)
            self._sent |= {name: here[name] for name in group}
        gone = self._sent.keys() - here.keys()
        self._forget(sorted(gone, key=lambda name: (not _is_seal(name), name)))

    def _forget(self, names: list[str]) -> None:
        for name in names:
            self.bucket.remove([name])
            del self._sent[name]

    def _names(self) -> list[str]:
        return [name for name in self.bucket.names() if not name.startswith(LOCKS)]


@contextlib.contextmanager
def opened(workdir: str | Path) -> Iterator[tuple[Path, Mirror | None]]:
    """Yields the folder in which a run works, and its mirror if `workdir` is an address.

    Raises:
      UserError: the bucket cannot be reached; or what is raised inside, with addresses.
    """
    if not buckets.is_url(workdir):
        yield Path(workdir), None
        return
    bucket = buckets.bucket(str(workdir))
    with copies.scratch() as made:
        folder = made / copies.place_of(bucket.url)
        try:
            yield folder, Mirror(bucket, folder)
        except UserError as error:
            said = str(error)
            if copies.told(said) != said:
                raise UserError(copies.told(said)) from error
            raise


def begun(folder: Path, mirror: Mirror | None) -> bool:
    """Returns whether a folder has a run; all processes call it."""
    return processes.on_first(mirror.begun if mirror else (folder / FIRST).exists)


def _is_seal(name: str) -> bool:
    return name.rpartition("/")[2] == MANIFEST


def _stamp(path: Path) -> Stamp:
    """Returns what changes whenever a file does."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino
