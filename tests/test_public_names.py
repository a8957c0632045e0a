"""What `import lottery` and its like show, and how little they import for it."""

import ast
import importlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGES = ("compress", "deploy", "lottery", "lowrank", "msdnet", "pruning")


def static_names(package):
    """The names that a static checker sees."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in block.body for alias in node.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_all_public_names_are_there_listed_and_known_to_static_checkers(package):
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    assert {name for name in dir(module) if name[0] != "_"} == set(module.__all__)
    assert static_names(package) == set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_no_public_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        _ = importlib.import_module(package).nonsense


def test_public_functions_are_those_of_their_modules():
    import lottery
    import lowrank
    from lottery import tickets
    from lowrank.factorization.network import factorize

    assert lottery.load is tickets.load
    assert lowrank.factorize is factorize


def test_an_import_of_a_package_imports_neither_jax_nor_numpy():
    code = (
        f"import sys, {', '.join(PACKAGES)}; print(*{{'jax', 'numpy', 'flax'}} & {{*sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_public_module_is_there_without_an_import_of_its_own():
    code = "import lottery; print(lottery.masks.prune.__name__, lottery.tickets.load.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("prune load\n", "")
