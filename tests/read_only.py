"""A folder on a read-only disk, as Python sees it; whoever may do everything meets no other."""

import builtins
import errno
import io
import os
from pathlib import Path

import pytest


def make(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Lets nothing be written below a folder."""

    def refuse(path) -> None:
        if isinstance(path, str | Path) and Path(path).is_relative_to(folder):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def guarded(function):
        def call(path, *args, **kwargs):
            refuse(path)
            return function(path, *args, **kwargs)

        return call

    def guarded_open(opened):
        def call(path, mode="r", *args, **kwargs):
            if set(mode) & set("wax+"):
                refuse(path)
            return opened(path, mode, *args, **kwargs)

        return call

    patch.setattr(builtins, "open", guarded_open(builtins.open))
    patch.setattr(io, "open", guarded_open(io.open))
    for name in ("rename", "replace", "unlink", "rmdir", "symlink"):
        patch.setattr(os, name, guarded(getattr(os, name)))
