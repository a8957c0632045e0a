"""Folders in a bucket: `s3://BUCKET/PATH` through s3fs, `gs://BUCKET/PATH` through gcsfs.

An object is written whole or not at all, and whoever reads later sees it. Nothing can be appended,
renamed or locked; `create` alone tells two writers apart.
"""

import contextlib
import dataclasses
import errno
import functools
import importlib
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from groundwork import atomic, paths
from groundwork.errors import UserError, reason

CLASSES = {
    "s3": ("s3fs", "S3FileSystem"),
    # The package's newer class asks a service of its own of which kind each bucket is.
    "gs": ("gcsfs.core", "GCSFileSystem"),
}
LOGINS = {
    "s3": "`aws configure`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; another server than "
    "Amazon's is AWS_ENDPOINT_URL",
    "gs": "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS",
}
LOGIN = ("AWS_", "CLOUDSDK_", "GOOGLE_", "GCSFS_", "STORAGE_")  # variables with which they log in
LOCKS = "lock/"  # of a run's folder: objects that are no files of the run


class BucketError(UserError):
    """A bucket does not answer as it should; the text begins with its address."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bucket:
    """A folder in a bucket. Names are relative to it, with / between their parts.

    Attributes:
      url: its address, without / at the end.
      files: fsspec's view of all that the scheme reaches.
    """

    url: str
    files: Any

    def names(self, below: str = "") -> list[str]:
        """Returns the names of all objects in the folder, or in one below it, sorted.

        Raises:
          BucketError: there is no such bucket, or it does not answer; or an object has a name that
            no file below a folder can have.
        """
        with _answered(self.url):
            found = self.files.find(f"{self.url}/{below}".rstrip("/"))
        start = len(self.url.partition("://")[2]) + 1
        names = sorted(name[start:] for name in found if name[start:] and name[-1] != "/")
        for name in names:
            if any(part in ("", ".", "..") for part in name.split("/")):
                raise BucketError(f"{self.url} has an object {name!r}, which cannot be a file's")
        return names

    def read(self, name: str) -> bytes | None:
        """Returns what an object holds; None if there is none."""
        with _answered(self.url):
            try:
                return self.files.cat_file(f"{self.url}/{name}")
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Writes an object, in the place of one of that name."""
        with _answered(self.url):
            self.files.pipe_file(f"{self.url}/{name}", data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes an object if there is none of that name; returns whether it did.

        The store decides: of several that try at once, one succeeds.
        """
        with _answered(self.url):
            try:
                self.files.pipe_file(f"{self.url}/{name}", data, mode="create")
            except OSError as error:  # not all stores say that it exists in the same words
                found = self.read(name)
                if found is None and not isinstance(error, FileExistsError):
                    raise
                return found == data  # an answer may get lost, and ours be tried again
        return True

    def bring(self, names: Iterable[str], folder: Path) -> None:
        """Copies objects to files below a folder.

        Raises:
          UserError: its disk is full, or the bucket does not answer.
        """
        names = list(names)
        if names:
            remote = [f"{self.url}/{name}" for name in names]
            try:
                with _answered(self.url):
                    self.files.get(remote, [str(folder / name) for name in names])
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise UserError(
                    f"{self.url}: there is no room for a copy of it in {tempfile.gettempdir()}: "
                    "free some, or let TMPDIR name a folder on another disk"
                ) from error

    def send(self, names: Iterable[str], folder: Path) -> None:
        """Copies files below a folder to objects."""
        names = list(names)
        if names:
            remote = [f"{self.url}/{name}" for name in names]
            with _answered(self.url):
                self.files.put([str(folder / name) for name in names], remote)

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects, one after the other."""
        with _answered(self.url):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self.files.rm_file(f"{self.url}/{name}")


def is_url(path: str | Path) -> bool:
    """Returns whether a path is an address, such as `s3://bucket/folder`."""
    return isinstance(path, str) and paths.ADDRESS.match(path) is not None


def bucket(url: str, line: str = "") -> Bucket:
    """Returns a folder of a bucket. Nothing is asked of it yet.

    Args:
      url: its address.
      line: the name of the connections through which it is reached. They are few, so that what must
        not wait for large copies needs others than these.

    Raises:
      UserError: the address is of another kind, or the package that reaches it is missing.
    """
    scheme, _, place = url.partition("://")
    if scheme not in CLASSES:
        raise UserError(f"{url}: {scheme}:// is unknown; buckets are s3://… and gs://…")
    place = place.rstrip("/")
    if any(part in ("", ".", "..") for part in place.split("/")):
        raise UserError(f"{url} is no address: give {scheme}://BUCKET/FOLDER")
    if re.search(r"[*?\[\]\\#\0]", place):
        raise UserError(f"{url}: the name of a folder in a bucket must do without * ? [ ] \\ #")
    with _answered(url):
        login = (pair for pair in os.environ.items() if pair[0].startswith(LOGIN))
        files = _files(scheme, line, *login)
    return Bucket(url=f"{scheme}://{place}", files=files)


def write(path: str | Path, data: bytes) -> None:
    """Writes a file, here or in a bucket, which exists whole or not at all.

    Raises:
      UserError: no path or address is like this; or the bucket does not answer.
      OSError: the file cannot be written.
    """
    if is_url(path):
        url, _, name = str(path).rpartition("/")
        bucket(url).write(name, data)
    else:
        atomic.write(paths.given(path), data)


@functools.cache
def _files(scheme: str, _line: str, *_login: tuple[str, str]) -> Any:
    """Returns fsspec's view of a scheme; each line, and each login of the environment, has its own.

    Raises:
      UserError: its package is missing.
    """
    module, name = CLASSES[scheme]
    package = module.partition(".")[0]
    try:
        cls = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(
            f"{scheme}:// needs {package}, which is missing: "
            f"pip install 'compression-and-dynamic-networks[{scheme}]', or {package} alone"
        ) from error
    logging.getLogger(package).setLevel(logging.CRITICAL)  # what it logs it raises as well
    # Listings would be remembered, and fsspec's own cache keeps clients of earlier logins.
    return cls(use_listings_cache=False, skip_instance_cache=True)


@contextlib.contextmanager
def _answered(url: str) -> Iterator[None]:
    """Turns what botocore, Google's clients and aiohttp raise into one line.

    Raises:
      BucketError: names the address, what is wrong, and what to look at.
    """
    try:
        yield
    except (UserError, FileExistsError):
        raise
    except Exception as error:  # these packages' errors have no base in common
        if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
            raise  # of this machine's disk
        scheme = url.partition("://")[0]
        words = f"{type(error).__name__} {error}".lower()
        if isinstance(error, FileNotFoundError):
            said = "there is no such bucket or object: make the bucket first"
        elif isinstance(error, PermissionError) or re.search(
            r"credential|anonymous|forbidden|\b40[13]\b", words
        ):
            _files.cache_clear()  # it remembers what it logged in with
            said = f"it is refused ({reason(error)}): log in ({LOGINS[scheme]}), or ask its owner"
        else:
            said = f"it cannot be reached ({reason(error)}): look at the network and the address"
        raise BucketError(f"{url}: {said}") from error
