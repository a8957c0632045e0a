"""Every public function has an example in its docstring, and the example shows what it says.

An example may use `jax`, `jnp` and `np`; what else it needs it imports as its users would.
"""

import doctest
import importlib
import inspect
import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from website import reference

from tests.test_public_names import PACKAGES


def functions_of(package: str) -> Iterator[Callable[..., Any]]:
    """Of the package's public names, and of those that are modules."""
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            public = [inner for inner in dir(value) if inner[0] != "_"]
            for inner in getattr(value, "__all__", public):
                function = inspect.unwrap(getattr(value, inner))
                if inspect.isfunction(function) and function.__module__.startswith(value.__name__):
                    yield function
        elif not inspect.isclass(value) and callable(value):
            yield inspect.unwrap(value)


def functions_of_groundwork() -> Iterator[Callable[..., Any]]:
    """What the reference lists of it."""
    for module, names in reference.GROUNDWORK.items():
        for name in names:
            function = inspect.unwrap(getattr(importlib.import_module(module), name))
            if inspect.isfunction(function):
                yield function


def by_module() -> dict[str, dict[str, Callable[..., Any]]]:
    found: dict[str, dict[str, Callable[..., Any]]] = {}
    of_packages = itertools.chain.from_iterable(map(functions_of, PACKAGES))
    for function in (*of_packages, *functions_of_groundwork()):
        found.setdefault(function.__module__, {})[function.__name__] = function
    return found


FUNCTIONS = by_module()


@pytest.mark.parametrize("module", sorted(FUNCTIONS))
def test_public_functions_have_examples_that_hold(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(recurse=False, exclude_empty=False)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    without, said = [], []
    for name, function in FUNCTIONS[module].items():
        names = {"jax": jax, "jnp": jnp, "np": np}
        (example,) = finder.find(function, f"{module}.{name}", module=False, globs=names)
        if not example.examples:
            without.append(name)
        runner.run(example, out=said.append)
    assert not without, "no example"
    assert runner.failures == 0, "".join(said)
