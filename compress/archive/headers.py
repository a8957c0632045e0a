"""The description of a network in an archive's header, and its checks. Read `to_json` first."""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn

from compress.archive import entries
from compress.archive.entries import Entry
from compress.form import Form
from groundwork import architectures
from groundwork.errors import UserError
from lowrank.factorization.layers import METHODS

KEYS = ("model", "classes", "example", "plan", "share", "activations", "kept", "arrays")
MOST = 1 << 20  # the largest width, number of classes, or size of an example's axis
MOST_SETTING = 64  # the largest integer among a network's settings, such as its groups
MOST_FACTOR = 4  # the largest of other numbers, such as what multiplies its depth
DEPTH = 64  # the most names in a path
PATHS = 4096  # the most that are tied, or whose inputs are rounded
BITS = (2, 16)  # the fewest and the most for inputs
_SHOWN = 80  # characters of a path in errors


def to_json(
    form: Form, example: tuple[int, ...] | None, arrays: Mapping[str, Entry]
) -> dict[str, Any]:
    """Returns the header of a network, whose keys `compress.archive.files` explains."""
    header: dict[str, Any] = {}
    if (description := architectures.described(form.model)) is not None:
        header["model"], header["classes"] = description
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
    """Returns the entries of a header, path → entry.

    Raises:
      ValueError: a key of the header is unknown, or an entry is invalid.
    """
    if not isinstance(header.get("arrays"), dict):
        raise ValueError("its header has no arrays")
    if unknown := sorted(set(header) - set(KEYS)):
        raise ValueError(
            f"its header has {shown(unknown[0])}, which is not known here: a later one?"
        )
    _check_names(list(header["arrays"]))
    arrays = {}
    for name, given in header["arrays"].items():
        try:
            arrays[name] = entries.from_json(given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return arrays


def form(header: Mapping[str, Any], model: nn.Module | None) -> Form:
    """Returns the form of the network. `fitting` checks that the module can have it.

    Args:
      header: of a file.
      model: the module, if the file does not describe it.

    Raises:
      ValueError: the header does not describe a form.
      UserError: there is no model, or its name, width or dtype does not exist.
    """
    built = _model(header) if model is None else model
    groups = tied(header.get("share", []))
    return Form(built, _plan(header), groups, rounded(header.get("activations", {})))


def example(header: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Returns the shape of an example; None if the header has none.

    Raises:
      ValueError: the header's example is not a shape.
    """
    shape = header.get("example")
    if shape is None:
        return None
    if not isinstance(shape, list) or not 1 <= len(shape) <= 8:
        raise ValueError("its example is not a shape")
    if not all(type(size) is int and 1 <= size <= MOST for size in shape):
        raise ValueError("its example is not a shape")
    return tuple(shape)


def tied(groups: Any) -> tuple[tuple[str, ...], ...]:
    """Returns the groups of tied layers or leaves, checked, as `compress.share` takes them.

    Raises:
      ValueError: a group is not a list of two paths or more, a path is in two groups or within
        another path, or there are more than `PATHS` paths.
    """
    if not isinstance(groups, list | tuple):
        raise ValueError("share is not a list of groups of paths")
    seen: set[str] = set()
    for group in groups:
        if not isinstance(group, list | tuple) or not all(map(_is_path, group)):
            raise ValueError("share has a group that is not a list of paths")
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
        if around := next((parent for parent in above(path) if parent in seen), None):
            raise ValueError(f"share ties {shown(path)}, and {shown(around)} around it")
    return tuple(map(tuple, groups))


def rounded(activations: Any) -> dict[str, int]:
    """Returns path of a layer → bits of its inputs, checked.

    Raises:
      ValueError: it is not a dict from paths to integers within `BITS`, or has more than `PATHS`.
    """
    if not isinstance(activations, Mapping) or len(activations) > PATHS:
        raise ValueError(f"activations must give bits by path, for at most {PATHS} layers")
    least, most = BITS
    for path, bits in activations.items():
        if not (path == "" or _is_path(path)):
            raise ValueError(f"activations has {shown(path)}, which is not the path of a layer")
        if type(bits) is not int or not least <= bits <= most:
            raise ValueError(
                f"activations of {shown(path)}: bits must be an integer in {least}…{most}"
            )
    return dict(activations)


def shown(path: Any) -> str:
    """Returns the text that errors use for a path: one line of limited length."""
    return repr(str(path)[:_SHOWN])


def above(path: str) -> Iterable[str]:
    """Yields the paths of all that a path lies within, the outermost first."""
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))


def _model(header: Mapping[str, Any]) -> nn.Module:
    if "model" not in header:
        raise UserError("it does not describe its network: give the module, load(path, model)")
    section, classes = header["model"], header.get("classes")
    kinds = {"name": str, "width": float, "dtype": str}
    if not isinstance(section, dict):
        raise ValueError("its model is not a section of a config")
    settings = section.get("kwargs", {})
    if {k: type(v) for k, v in section.items() if k != "kwargs"} != kinds:
        raise ValueError("its model is not a section of a config")
    if ":" in section["name"]:  # which would be imported and called
        raise ValueError("its model names code: give the module, load(path, model)")
    if section["width"] > MOST:
        raise ValueError("its network is too wide")
    if type(classes) is not int or not 1 <= classes <= MOST:
        raise ValueError("its number of classes is invalid")
    usual = architectures.build({key: section[key] for key in kinds}, classes)
    if not isinstance(settings, dict) or not all(
        _is_setting(getattr(usual, key, None), value) for key, value in settings.items()
    ):
        raise ValueError("its network has a setting of another kind, or too large a one")
    return architectures.build(section, classes)


def _is_setting(usual: Any, given: Any) -> bool:
    """Returns whether a setting of a network is of the usual one's kind, and no large number."""
    if isinstance(usual, bool | str):
        return type(given) is type(usual)
    if usual is None or isinstance(usual, int):
        return usual is None or (type(given) is int and 0 <= given <= MOST_SETTING)
    return type(given) in (int, float) and 0 <= given <= MOST_FACTOR


def _plan(header: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the plan of the low-rank layers. `fitting` checks the ranks."""
    plan = header.get("plan", {})
    if not isinstance(plan, dict):
        raise ValueError("its plan is invalid")
    known = {method for methods in METHODS.values() for method in methods}
    for path, entry in plan.items():
        valid = isinstance(entry, dict) and entry.keys() == {"method", "rank"}
        if not valid or not isinstance(entry["method"], str) or entry["method"] not in known:
            raise ValueError(f"its plan has no method and rank for {shown(path)}")
    return plan


def _check_names(names: list[str]) -> None:
    """Refuses names that are not paths in a tree of variables, or lie within another array."""
    known = set(names)
    for name in names:
        if not _is_path(name) or "/" not in name:
            raise ValueError(f"{shown(name)} is not the path of an array")
        if not known.isdisjoint(above(name)):
            raise ValueError(f"{shown(name)} lies within an array")
    if not any(name.startswith("params/") for name in names):
        raise ValueError("it has no params")


def _is_path(path: Any) -> bool:
    if not isinstance(path, str) or not path.isprintable():
        return False
    parts = path.split("/")
    return len(parts) <= DEPTH and all(parts)
