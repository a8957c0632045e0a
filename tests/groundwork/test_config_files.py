"""Shipped configs are found from every folder, and `configs` means what its importer expects."""

import importlib
import sys

import pytest

from groundwork import config as config_lib
from groundwork import config_files
from groundwork.errors import UserError
from tests.conftest import ROOT

OWN = "import ml_collections\ndef get_config():\n    return ml_collections.ConfigDict({'own': 1})\n"
BUILT = """from configs.lottery import base
def get_config():
    config = base.get_config()
    config.levels = 77
    return config
"""


def imported():
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "configs"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder of a user's, on the path; nothing is imported as `configs` yet."""
    before = imported()
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    path = [entry for entry in sys.path if entry and not (ROOT / "configs").is_relative_to(entry)]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in imported():
        del sys.modules[name]


def user_files(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    importlib.invalidate_caches()


def load(name):
    return config_lib.flatten(config_lib.resolve(config_lib.load(name)))


DIGITS = load(str(ROOT / "configs/lottery/digits.py"))
BASE = load(str(ROOT / "configs/lottery/base.py"))
MINE = {**BASE, "levels": 77}
PACKAGE = {
    "configs/__init__.py": "",
    "configs/base.py": OWN,
    "configs/lottery/__init__.py": "",
    "configs/lottery/base.py": OWN,
}


# shipped files


@pytest.mark.parametrize("name", ["lottery/digits.py", "configs/lottery/digits.py"])
def test_a_shipped_config_is_found_from_a_foreign_folder(folder, name):
    assert load(name) == DIGITS
    assert not imported()


def test_a_file_of_the_current_folder_comes_first(folder):
    user_files(folder, {"lottery/digits.py": OWN})
    assert load("lottery/digits.py") == {"own": 1}
    assert load("configs/lottery/digits.py") == DIGITS


def test_a_variant_is_handed_to_a_shipped_config(folder):
    one, two = (load(f"msdnet/cifar10_budgeted.py:{n}") for n in (4, 5))
    assert one != two


def test_to_a_shipped_file_configs_is_the_shipped_package(folder):
    user_files(folder, PACKAGE)
    assert load("lottery/digits.py") == DIGITS
    assert not imported()
    import configs.lottery.base

    before = imported()
    assert configs.lottery.base.get_config().own == 1
    assert load("lottery/digits.py") == DIGITS
    assert imported() == before
    assert sys.modules["configs"].lottery is before["configs.lottery"]


# files of users


def test_a_users_file_builds_on_a_shipped_one(folder):
    user_files(folder, {"mine.py": BUILT})
    finders = list(sys.meta_path)
    assert load("mine.py") == MINE
    assert not imported()
    assert sys.meta_path == finders


def test_get_config_may_import_a_shipped_one_when_it_is_called(folder):
    head, _, rest = BUILT.partition("\n")
    user_files(folder, {"mine.py": rest.replace("():\n", f"():\n    {head}\n")})
    assert load("mine.py") == MINE


def test_a_plain_folder_configs_is_added_to_the_shipped_package(folder):
    """Names that both have are the user's, but not to the shipped files."""
    mine = f"""from configs import base as own
from configs.lottery import two
{BUILT.replace("77", "77; config.own = own.get_config().own + two.TWO")}"""
    user_files(folder, {"configs/base.py": OWN, "configs/lottery/two.py": "TWO = 2\n"})
    user_files(folder, {"configs/lottery/mine.py": mine})
    assert load("configs/lottery/mine.py") == {**MINE, "own": 3}
    left = imported()
    assert set(left) == {"configs", "configs.base", "configs.lottery", "configs.lottery.two"}
    assert not hasattr(left["configs.lottery"], "base")


def test_a_users_package_configs_is_meant_where_there_is_one(folder):
    user_files(folder, {**PACKAGE, "mine.py": BUILT})
    assert load("mine.py") == {"own": 1, "levels": 77}
    assert imported()["configs.lottery.base"].__file__ == str(folder / "configs/lottery/base.py")


def test_what_a_users_package_lacks_is_shipped(folder):
    user_files(folder, {"configs/__init__.py": "", "mine.py": BUILT})
    assert load("mine.py") == MINE
    assert set(imported()) == {"configs"}
    assert not hasattr(sys.modules["configs"], "lottery")


def test_to_a_file_in_a_package_configs_that_package_is_meant(folder):
    """As in another clone, which is not on the path."""
    user_files(folder, {f"clone/{name}": text for name, text in PACKAGE.items()})
    mine = f"from configs import LEVELS\n{BUILT.replace('77', 'LEVELS')}"
    user_files(folder, {"clone/configs/__init__.py": "LEVELS = 78\n"})
    user_files(folder, {"clone/configs/lottery/mine.py": mine})
    assert load("clone/configs/lottery/mine.py") == {"own": 1, "levels": 78}
    assert not imported()


def test_a_file_that_fails_leaves_nothing_behind(folder):
    user_files(folder, {"bad.py": f"{BUILT}\nimport no_such_package\n"})
    finders = list(sys.meta_path)
    with pytest.raises(UserError, match=r"bad\.py fails: .*no_such_package.*line 7"):
        load("bad.py")
    assert not imported()
    assert sys.meta_path == finders


def test_a_module_that_nobody_has_is_named(folder):
    user_files(folder, {"bad.py": "from configs.lotery import base\n"})
    with pytest.raises(
        UserError, match=r"bad\.py fails: ModuleNotFoundError: No module named 'configs\.lotery'"
    ):
        load("bad.py")


# what is refused


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("lottery/digit.py", "lottery/digits.py"),
        ("lotery/mnist1d.py", "lottery/mnist1d.py"),
        ("lottery/mnist1d", "lottery/mnist1d.py"),
        ("configs/lotery/digits.py", "configs/lottery/digits.py"),
        ("mnist1d.py", "lottery/mnist1d.py"),
        ("mine_to.py", "mine_too.py"),
        ("sub/min.py", "sub/mine.py"),
        (
            "digits.py",
            "compress/digits.py or deploy/digits.py or lottery/digits.py or lowrank/digits.py or "
            "msdnet/digits.py or pruning/digits.py or search/digits.py",
        ),
    ],
)
def test_a_missing_file_suggests_a_shipped_one_or_one_beside_it(folder, name, near):
    user_files(folder, {"mine_too.py": OWN, "sub/mine.py": OWN})
    with pytest.raises(UserError) as caught:
        load(name)
    said = f"config file {name} does not exist in {folder}; did you mean {near}?"
    assert str(caught.value) == said


@pytest.mark.parametrize("name", ["x", "../groundwork/study.py", "../groundwork/config.py"])
def test_what_is_like_nothing_says_where_the_shipped_ones_are(folder, name):
    with pytest.raises(UserError) as caught:
        config_files.find(name)
    assert str(caught.value).endswith(f"; {ROOT / 'configs'} has the shipped ones")


def test_a_file_of_another_kind_is_refused(folder):
    user_files(folder, {"mine.json": "{}"})
    with pytest.raises(UserError, match=r"mine\.json is not a Python file"):
        load("mine.json")


# help


def test_help_tells_a_shipped_configs_story_and_where_it_is(folder, capsys):
    with pytest.raises(SystemExit):
        config_lib.parse(["--config=lottery/digits.py", "--help"], "usage")
    out = capsys.readouterr().out
    assert f"\nlottery/digits.py ({ROOT / 'configs/lottery/digits.py'})\n\nDo tickets exist" in out
    assert "--config.prune.rate={'*': 0.5, 'output': 0.25}" in out
