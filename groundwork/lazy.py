"""Public names of packages that are imported when they are first asked for."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attributes(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` of a package, so that its import takes no time.

    Args:
      package: its `__name__`.
      names: module → the names that are imported from it; from the package itself, its modules.
    """
    origin = {name: module for module, some in names.items() for name in some}

    def getattr_(name: str) -> Any:
        if name not in origin:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if origin[name] == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(__import__(origin[name], fromlist=[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def dir_() -> list[str]:
        return sorted({*origin, *filter(lambda name: name[0] == "_", vars(sys.modules[package]))})

    return getattr_, dir_
