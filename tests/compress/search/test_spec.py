"""The config of a search: what is asked for, its units, what is refused in one line."""

import ast
import shlex

import pytest

from compress.search import main, spec
from groundwork import config as config_lib
from groundwork.errors import UserError
from tests import configs
from tests.compress.search import small
from tests.conftest import ROOT

NAMES = configs.files("search")


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(spec.evolve, "check_installed", lambda: None)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_passes_the_spec(name):
    checked = spec.from_config(config_lib.resolve(config_lib.load(f"configs/search/{name}")))
    assert spec.unit_names(checked)[:3] == ["networks/original", "knowledge", "candidates/0000"]
    assert (f"`search/{name}`" in (ROOT / "configs/README.md").read_text()) == (name != "base.py")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "base.py"])
def test_the_commands_of_a_docstring_can_be_typed(name):
    docstring = ast.get_docstring(ast.parse((ROOT / "configs/search" / name).read_text())) or ""
    lines = docstring.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.strip().startswith("python -m")]
    assert commands
    for words in commands:
        assert words[:3] == ["python", "-m", "compress.search"]
        config, _ = config_lib.parse(words[3:], main.STUDY.usage)
        main.STUDY.check(config_lib.resolve(config))


def test_units_are_the_original_what_is_known_candidates_and_the_chosen_one():
    checked = spec.from_config(small.config(evaluations=2))
    candidates = ["candidates/0000", "candidates/0001"]
    rest = [*candidates, "chosen/0002"]
    assert spec.unit_names(checked) == ["networks/original", "knowledge", *rest]
    control = spec.from_config(small.config(evaluations=2, search={"control": "random"}))
    assert spec.unit_names(control) == ["networks/original", *rest]


def test_costs_that_are_asked_for_are_those_with_a_budget_or_the_one_that_is_least():
    several = spec.from_config(small.config(budget={"bytes": 1000, "milliseconds": 0.5}))
    assert several.budget.asked == {"bytes": 1000, "milliseconds": 0.5}
    assert several.objectives == ("bytes", "milliseconds")
    loss = small.config(budget={"bytes": 0}, accuracy={"loss": 0.0, "cost": "parameters"})
    assert spec.from_config(loss).objectives == ("parameters",)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"budget": {"bytes": 0}}, "nothing is asked for: set a budget, such as budget.bytes="),
        ({"accuracy": {"loss": 0.01}}, "budget.bytes and accuracy.loss=0.01 are both set"),
        ({"budget": {"bytes": -1}}, "budget.bytes=-1 must be at least 0"),
        ({"accuracy": {"cost": "byte"}}, "unknown accuracy.cost 'byte'; did you mean 'bytes'?"),
        ({"evaluations": 0}, "evaluations=0 must be at least 1"),
        ({"search": {"sampler": "nsga"}}, "unknown search.sampler 'nsga'"),
        ({"search": {"control": "rnd"}}, "unknown search.control 'rnd'"),
        ({"search": {"rungs": (3, 1)}}, r"search.rungs=\(3, 1\) must be rising counts"),
        ({"search": {"around": ()}}, r"search.around=\(\) must be numbers above 0"),
        ({"search": {"promoted": 0.0}}, "search.promoted=0.0 must be in"),
        ({"search": {"choice": "nowhere.json"}}, "search.choice: nowhere.json does not exist"),
        ({"search": {"choice": "README.md"}}, "search.choice=README.md is no choice.json"),
        ({"data": {"validation_examples": 0}}, "data.validation_examples=0: candidates are chosen"),
        ({"space": {"densities": (1.5,)}}, r"space.densities=\(1.5,\) must lie in"),
        ({"search": {"steps": 0}}, "search.steps=0 trains nothing, and nothing would make up for"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(sections, said):
    with pytest.raises(UserError, match=said):
        spec.from_config(small.config(**sections))


@pytest.mark.parametrize(
    ("sections", "key", "said"),
    [
        ({}, "budget.engine", "no milliseconds are asked for"),
        ({}, "accuracy.cost", "budgets say which costs count"),
        ({"search": {"control": "random"}}, "search.around", "search.control knows nothing"),
        ({"search": {"control": "random"}}, "search.sampler", "search.control=random"),
        ({}, "search.member", "search.board is not set"),
        (
            {"search": {"board": "b"}},
            "search.board",
            "search.parallel=1: runs would wait for each other",
        ),
    ],
)
def test_a_setting_without_effect_is_named(sections, key, said):
    config = small.config(**sections)
    checked = spec.from_config(config)
    assert spec.without_effect(checked, config, [key]) == [f"{key} has no effect: {said}"]
    assert spec.without_effect(checked, config, ["budget.bytes", "evaluations"]) == []
