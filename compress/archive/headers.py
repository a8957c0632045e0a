"""What an archive's header says of a network, and what it may say. Read `to_json` first."""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn

from compress.archive import entries
from compress.archive.entries import Entry
from compress.form import Form
from groundwork import architectures
from groundwork.errors import UserError
from lowrank.factorization.layers import METHODS

KEYS = ("model", "classes", "example", "plan", "share", "activations", "arrays")
MOST = 1 << 20  # of what is a width, a number of classes or of pixels
DEPTH = 64  # dicts within each other
PATHS = 4096  # that are tied, or whose inputs are rounded
BITS = (2, 16)  # of inputs, least and most
_SHOWN = 80  # characters of a path in errors


def to_json(
    form: Form, example: tuple[int, ...] | None, arrays: Mapping[str, Entry]
) -> dict[str, Any]:
    """The header of a network; its keys are said in `compress.archive`."""
    header: dict[str, Any] = {}
    if (known := architectures.described(form.model)) is not None:
        header["model"], header["classes"] = known
    if example is not None:
        header["example"] = list(example)
    if form.plan:
        header["plan"] = {path: dict(entry) for path, entry in form.plan.items()}
    if form.groups:
        header["share"] = [list(group) for group in form.groups]
    if form.activations:
        header["activations"] = dict(form.activations)
    header["arrays"] = {name: entry.to_json() for name, entry in arrays.items()}
    return header


def arrays(header: Mapping[str, Any]) -> dict[str, Entry]:
    """The entries of a header, all of whose keys are known.

    Raises:
      ValueError: one is not known, or no entry.
    """
    if not isinstance(header.get("arrays"), dict):
        raise ValueError("its header has no arrays")
    if more := sorted(set(header) - set(KEYS)):
        raise ValueError(f"its header has {shown(more[0])}, which is not known here: a later one?")
    _check_names(list(header["arrays"]))
    found = {}
    for name, given in header["arrays"].items():
        try:
            found[name] = entries.from_json(given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found


def form(header: Mapping[str, Any], model: nn.Module | None) -> Form:
    """The form of the network; whether one of this model has it, `fitting` says.

    Args:
      header: of a file.
      model: the module, where the file does not describe it.

    Raises:
      ValueError: the header's description is none.
      UserError: there is no model; a name, width or dtype that does not exist.
    """
    built = _model(header) if model is None else model
    groups = tied(header.get("share", []))
    return Form(built, _plan(header), groups, rounded(header.get("activations", {})))


def example(header: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of an example, if the header has it.

    Raises:
      ValueError: it is none.
    """
    shape = header.get("example")
    if shape is None:
        return None
    if not isinstance(shape, list) or not 1 <= len(shape) <= 8:
        raise ValueError("its example has no shape")
    if not all(type(size) is int and 1 <= size <= MOST for size in shape):
        raise ValueError("its example has no shape")
    return tuple(shape)


def tied(groups: Any) -> tuple[tuple[str, ...], ...]:
    """Groups of tied layers or leaves, as `compress.share` has them.

    Raises:
      ValueError: they are none: no lists of two paths or more, a path in two groups or within
        another, more than `PATHS` paths.
    """
    if not isinstance(groups, list | tuple):
        raise ValueError("share is no list of groups of paths")
    seen: set[str] = set()
    for group in groups:
        if not isinstance(group, list | tuple) or not all(map(_is_path, group)):
            raise ValueError("share has a group that is no list of paths")
        if len(group) < 2:
            raise ValueError(f"share has a group of {len(group)}: two paths or more are tied")
        if twice := next((path for path in group if path in seen), None):
            raise ValueError(f"share ties {shown(twice)} twice")
        seen.update(group)
        if len(set(group)) < len(group):
            raise ValueError(f"share ties {shown(group[0])} and others, one of them twice")
        if len(seen) > PATHS:
            raise ValueError(f"share has more than {PATHS} paths")
    for path in seen:
        if within := next((above for above in _above(path) if above in seen), None):
            raise ValueError(f"share ties {shown(path)}, and {shown(within)} around it")
    return tuple(map(tuple, groups))


def rounded(activations: Any) -> dict[str, int]:
    """Bits of the inputs of layers, by path.

    Raises:
      ValueError: they are none: no dict of paths and of integers within `BITS`, more than `PATHS`.
    """
    if not isinstance(activations, Mapping) or len(activations) > PATHS:
        raise ValueError(f"activations has no bits by path, of {PATHS} layers at most")
    least, most = BITS
    for path, bits in activations.items():
        if not (path == "" or _is_path(path)):
            raise ValueError(f"activations has {shown(path)}, which is no path of a layer")
        if type(bits) is not int or not least <= bits <= most:
            raise ValueError(f"activations of {shown(path)}: bits are no integer of {least}…{most}")
    return dict(activations)


def shown(path: Any) -> str:
    """A path as errors say it: one line, not long."""
    return repr(str(path)[:_SHOWN])


def _model(header: Mapping[str, Any]) -> nn.Module:
    if "model" not in header:
        raise UserError("it does not describe its network: give the module, load(path, model)")
    section, classes = header["model"], header.get("classes")
    kinds = {"name": str, "width": float, "dtype": str}
    if not isinstance(section, dict) or {k: type(v) for k, v in section.items()} != kinds:
        raise ValueError("its model is no section of a config")
    if section["width"] > MOST:
        raise ValueError("its network is too wide")
    if type(classes) is not int or not 1 <= classes <= MOST:
        raise ValueError("its number of classes is none")
    return architectures.build({"model": section}, classes)


def _plan(header: Mapping[str, Any]) -> dict[str, Any]:
    """Of the low-rank layers. Ranks are checked by `fitting`."""
    found = header.get("plan", {})
    if not isinstance(found, dict):
        raise ValueError("its plan is none")
    known = {method for methods in METHODS.values() for method in methods}
    for path, entry in found.items():
        fits = isinstance(entry, dict) and entry.keys() == {"method", "rank"}
        if not fits or not isinstance(entry["method"], str) or entry["method"] not in known:
            raise ValueError(f"its plan has no method and rank for {shown(path)}")
    return found


def _check_names(names: list[str]) -> None:
    """Refuse what is no path of a tree of variables, or lies within another array."""
    known = set(names)
    for name in names:
        if not _is_path(name) or "/" not in name:
            raise ValueError(f"{shown(name)} is no path of an array")
        if not known.isdisjoint(_above(name)):
            raise ValueError(f"{shown(name)} lies within an array")
    if not any(name.startswith("params/") for name in names):
        raise ValueError("it has no params")


def _is_path(path: Any) -> bool:
    if not isinstance(path, str) or not path.isprintable():
        return False
    parts = path.split("/")
    return len(parts) <= DEPTH and all(parts)


def _above(path: str) -> Iterable[str]:
    """What a path lies within, by their paths."""
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))
