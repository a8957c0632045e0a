"""The reference: one page for each package, from the docstrings of its public names."""

import functools
import importlib
import inspect
import itertools
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from website import docstrings

PACKAGES = ("lottery", "msdnet", "lowrank", "pruning", "compress", "deploy")
# Of groundwork, what users' own code calls.
GROUNDWORK: dict[str, tuple[str, ...]] = {
    "groundwork.architectures": ("MODELS", "build", "count", "shapes"),
    "groundwork.architectures.blocks": (
        "InvertedResidual", "Stage", "depthwise", "dilated", "group", "pointwise", "separable",
        "shuffle", "squeeze_excite", "standard",
    ),
    "groundwork.architectures.pretrained": ("from_torch", "load", "read", "save", "to_torch"),
    "groundwork.architectures.unfolded": (
        "by_im2col", "by_mec", "im2col", "im2col_bytes", "mec", "mec_bytes",
    ),
    "groundwork.compare": ("compare",),
    "groundwork.numerics.npz": ("read",),
    "groundwork.numerics.safetensors": ("read", "write"),
    "groundwork.runs.trained": ("load", "save"),
    "groundwork.traced.macs": ("multiply_adds",),
    "groundwork.traced.memory": ("peak_bytes",),
    "groundwork.traced.predictions": ("Predictor", "predictor"),
    "groundwork.traced.reach": ("Reached", "layers"),
    "groundwork.train.losses": (
        "Counts", "Judge", "Loss", "cross_entropy", "language_model", "mean_squared_error",
        "of_examples", "sigmoid_cross_entropy", "squeezedet",
    ),
}  # fmt: skip
INDEX = """# Reference
What `dir(package)` lists, from the docstrings. Each name's source is a click away.

```{{toctree}}
{}
```
"""
Names = dict[str, Any]  # full public name → function, class or value


def modules() -> dict[str, tuple[str, ...]]:
    """Returns page → the modules whose public names it has, the package itself first."""
    pages = {}
    for package in PACKAGES:
        public = importlib.import_module(package)
        inner = [n for n in public.__all__ if isinstance(getattr(public, n), types.ModuleType)]
        pages[package] = (package, *(f"{package}.{name}" for name in inner))
    return {**pages, "groundwork": tuple(GROUNDWORK)}


def names(module: str) -> Names:
    """Returns the functions, classes and values that a module shows, without those of others."""
    public = _module(module)
    listed = GROUNDWORK.get(module) or getattr(public, "__all__", None)
    found: Names = {}
    for name in sorted(listed or (name for name in vars(public) if name[0] != "_")):
        value = getattr(public, name)
        home = getattr(inspect.unwrap(value) if callable(value) else value, "__module__", "") or ""
        callable_here = inspect.isfunction(inspect.unwrap(value)) or inspect.isclass(value)
        if isinstance(value, types.ModuleType) or not (listed or callable_here):
            continue
        if listed or home.startswith(public.__name__):
            found[f"{module}.{name}"] = value
    return found


def _shared(name: str, source: str) -> int:
    """Counts the parts at the beginning that two dotted names share."""
    pairs = zip(name.split("."), source.split("."), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


@functools.cache
def homes() -> dict[str, str]:
    """Returns each public name → the one under which it is documented: nearest to its source."""
    called: dict[Any, list[str]] = {}
    for module in (module for group in modules().values() for module in group):
        for name, value in names(module).items():
            called.setdefault(name if kind(value) == "data" else id(value), []).append(name)
    found: dict[str, str] = {}
    for group in called.values():
        value = names(group[0].rpartition(".")[0])[group[0]]
        source = f"{getattr(value, '__module__', '')}.{group[0].rpartition('.')[2]}"
        home = max(group, key=lambda name: _shared(name, source))
        found |= dict.fromkeys(group, home)
    return found


def _module(name: str) -> types.ModuleType:
    """A public module may be one of another package, by a second name (`lottery.masks`)."""
    package, _, inner = name.partition(".")
    if package in PACKAGES and inner:
        return getattr(importlib.import_module(package), inner)
    return importlib.import_module(name)


def kind(value: Any) -> str:
    """Returns "function", "class", or "data" for types by another name and for constants."""
    if inspect.isfunction(inspect.unwrap(value) if callable(value) else value):
        return "function"
    alias = isinstance(value, types.GenericAlias) or value.__class__.__module__ == "typing"
    return "class" if inspect.isclass(value) and not alias else "data"


def undocumented() -> list[str]:
    """Returns the public names, and the public methods of classes, that have no docstring."""
    missing = []
    for module in (module for group in modules().values() for module in group):
        for name, value in names(module).items():
            if kind(value) == "data":
                continue
            if not _own_doc(value):
                missing.append(name)
            missing += [f"{name}.{m}" for m, _ in _methods(value) if not _method_doc(value, m)]
    return missing


def _own_doc(value: Any) -> str:
    """Without what `NamedTuple` and `dataclass` write of themselves."""
    doc = inspect.unwrap(value).__doc__ or ""
    return "" if doc.startswith(f"{value.__name__}(") else inspect.cleandoc(doc)


def _methods(value: Any) -> Iterator[tuple[str, Any]]:
    if inspect.isclass(value):
        for name, method in vars(value).items():
            inner: Any = (
                method.__func__ if isinstance(method, (classmethod, staticmethod)) else method
            )
            inner = inner.fget if isinstance(inner, property) else inspect.unwrap(inner)
            written = inspect.isfunction(inner) and inner.__module__ == value.__module__
            if written and name[0] != "_" and inner.__qualname__ == f"{value.__name__}.{name}":
                yield name, inner


def _method_doc(value: Any, name: str) -> str:
    """Returns the docstring of a method, or that of the base class for which it stands in."""
    docs = [getattr(vars(base).get(name), "__doc__", None) for base in value.__mro__]
    return inspect.cleandoc(next(filter(None, docs), ""))


def entry(name: str, value: Any) -> str:
    """Returns what the page says of a full name, in its module's section."""
    if kind(value) == "data":  # of no module, as it has no source of its own to lead to
        return f"::::{{py:data}} {name}\n:module:\n:value: {value!r}\n::::\n"
    others = [f"`{other}`" for other, home in homes().items() if home == name != other]
    also = [f"Also as {', '.join(others)}.", ""] if others else []
    name = name.rpartition(".")[2]
    parts = [f"::::::{{py:{kind(value)}}} {name}{docstrings.signature(value)}", ""]
    parts += [docstrings.markdown(_own_doc(value)), "", *also]
    if kind(value) == "class":
        parts += [*docstrings.fields(value), ""]
        for method, function in _methods(value):
            said = docstrings.markdown(_method_doc(value, method))
            parts += [
                f":::::{{py:method}} {method}{docstrings.signature(function)}",
                "",
                said,
                ":::::",
                "",
            ]
    return "\n".join([*parts, "::::::", ""])


def page(package: str, listed: tuple[str, ...]) -> str:
    """Returns the page of a package: its modules, each with a table and then its names."""
    doc = inspect.getdoc(importlib.import_module(package)) or ""
    lines = [f"# {package}", doc, ""]
    for module in listed:
        found = names(module)
        lines += [f"```{{py:currentmodule}} {module}\n```", ""]
        if module != package:
            lines += [f"## {module}", inspect.getdoc(_module(module)) or "", ""]
        if not found:
            continue
        lines += ["| name | what it is |", "|---|---|"]
        for name, value in found.items():
            first = re.split(
                r"(?<=[.?])\s", _own_doc(value) if kind(value) != "data" else "", maxsplit=1
            )[0]
            said = " ".join(first.split()).replace("|", "\\|")
            lines.append(f"| {{py:obj}}`{name.split('.')[-1]} <{homes()[name]}>` | {said} |")
        here = {name: value for name, value in found.items() if homes()[name] == name}
        lines += ["", *(entry(name, value) for name, value in here.items())]
    return "\n".join(lines) + "\n"


def write(out: Path) -> None:
    """Writes all pages and their index. Raises ValueError where a public name has no docstring."""
    missing = undocumented()
    if missing:
        raise ValueError("public names without a docstring: " + ", ".join(missing))
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.md").write_text(INDEX.format("\n".join(modules())))
    for package, listed in modules().items():
        (out / f"{package}.md").write_text(page(package, listed))
