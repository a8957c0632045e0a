"""The files of configs: users' own, and the shipped ones, which are found from every folder.

The shipped ones are `configs/` of a clone, and `groundwork/configs/` where the code is installed.
They import one another as `configs`, and so does a user's file that builds on one of them.
"""

import contextlib
import difflib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import cast

from groundwork import paths, small_files
from groundwork.errors import UserError, short

PACKAGE = "configs"
KIND = "config file"
MOST_BYTES = 2**20


def shipped() -> Path:
    """Returns the folder of the shipped configs."""
    here = Path(__file__).resolve().parent
    installed = here / PACKAGE
    return installed if installed.is_dir() else here.parent / PACKAGE


def find(name: str) -> Path:
    """Returns the file at a path, or else the shipped config of that name.

    The names of a shipped config are `lottery/digits.py` and `configs/lottery/digits.py`.

    Raises:
      UserError: there is neither (the error suggests what is most like it), or it is not a Python
        file of a config's size that can be read.
    """
    if not name:
        raise UserError("--config is empty: give --config=FILE, yours or a shipped one")
    path, files = paths.given(name), _shipped_files()
    try:
        small_files.check(path, KIND, MOST_BYTES)
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise
        if name.removeprefix(f"{PACKAGE}/") not in files:
            raise UserError(f"{error}{_hint(path, list(files))}") from error
        path = files[name.removeprefix(f"{PACKAGE}/")]
    if path.suffix != ".py":
        raise UserError(f"config file {short(name)} is not a Python file")
    return path


def run(file: Path) -> ModuleType:
    """Runs a config's file and returns it as a module. Call it inside `importing`."""
    loader = SourceFileLoader("config_file", str(file.absolute()))
    module = _module(loader)
    loader.exec_module(module)
    return module


@contextlib.contextmanager
def importing(file: Path) -> Iterator[None]:
    """Lets a config's file import `configs`, and afterwards forgets what was imported for it.

    If the file itself is in a package `configs`, as the shipped ones are, this one is meant;
    otherwise that of its user is. What a user's package lacks is taken from the shipped one.
    """
    homes = [p for p in file.resolve().parents if p.name == PACKAGE and _init(p).is_file()]
    with _only(homes[0]) if homes else contextlib.nullcontext():
        finder = _Finder()
        sys.meta_path.append(finder)  # the last one, so that a user's own modules come first
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            _forget_shipped()


class _Finder:
    """Finds modules of `configs` among the shipped files."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        package, *parts = name.split(".")
        if package != PACKAGE:
            return None
        place = shipped().joinpath(*parts)
        file = _init(place) if place.is_dir() else place.with_suffix(".py")
        if not file.is_file():
            return None
        spec = importlib.util.spec_from_loader(name, _Loader(name, str(file)))
        if spec is not None and place.is_dir():
            spec.submodule_search_locations = []  # its modules are asked for here, too
        return spec


class _Loader(SourceFileLoader):
    """Runs a shipped module among shipped ones alone: `configs.base` is not a user's to it."""

    def exec_module(self, module: ModuleType) -> None:
        with _only(shipped()):
            super().exec_module(module)


@contextlib.contextmanager
def _only(folder: Path) -> Iterator[None]:
    """Makes `configs` the package in a folder; afterwards it is again what it was before."""
    before = {name: sys.modules.pop(name) for name in _imported()}
    try:
        loader = SourceFileLoader(PACKAGE, str(_init(folder)))
        sys.modules[PACKAGE] = _module(loader)
        loader.exec_module(sys.modules[PACKAGE])
        yield
    finally:
        for name in _imported():
            del sys.modules[name]
        sys.modules.update(before)


def _module(loader: SourceFileLoader) -> ModuleType:
    spec = importlib.util.spec_from_loader(loader.name, loader)
    return importlib.util.module_from_spec(cast(ModuleSpec, spec))


def _init(folder: Path) -> Path:
    return folder / "__init__.py"


def _imported() -> list[str]:
    return [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]


def _forget_shipped() -> None:
    """Drops the modules that `_Finder` has found, also as attributes of a user's package."""
    for name in _imported():
        module = sys.modules[name]
        if isinstance(getattr(module.__spec__, "loader", None), _Loader):
            del sys.modules[name]
            parent, _, leaf = name.rpartition(".")
            if parent in sys.modules and getattr(sys.modules[parent], leaf, None) is module:
                delattr(sys.modules[parent], leaf)


def _shipped_files() -> dict[str, Path]:
    """Returns the shipped configs: `lottery/digits.py` → its path."""
    folder = shipped()
    files = (path for path in sorted(folder.rglob("*.py")) if path.name != "__init__.py")
    return {path.relative_to(folder).as_posix(): path for path in files}


def _hint(path: Path, names: Sequence[str]) -> str:
    """Returns which files a path may have meant: one beside it, or a shipped one."""
    beside = [str(file) for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
    known = [*beside, *names, *(f"{PACKAGE}/{name}" for name in names)]
    near = difflib.get_close_matches(str(path), known, n=1)
    same = [name for name in names if Path(name).name == str(path)]
    if same or near:
        return f"; did you mean {' or '.join(same or near)}?"
    return f"; {shipped()} has the shipped ones"
