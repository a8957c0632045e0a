"""Every public function has an example in its docstring, and the example shows what it says.

An example may use `jax`, `jnp` and `np`; what else it needs it imports as its users would.
"""

import doctest
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from website import reference


def by_module() -> dict[str, dict[str, Callable[..., Any]]]:
    """What the reference lists: module → name → function, under its source's module."""
    found: dict[str, dict[str, Callable[..., Any]]] = {}
    for module in itertools.chain.from_iterable(reference.modules().values()):
        for value in reference.names(module).values():
            if reference.kind(value) == "function":
                function = inspect.unwrap(value)
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
