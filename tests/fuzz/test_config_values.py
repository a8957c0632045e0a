"""Any value for any key of any command: what it asks for, or one line that says what is wrong."""

import dataclasses
import functools
import time
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

import compress.main
import lottery.main
import lowrank.main
import msdnet.main
from groundwork import config as config_lib
from groundwork import overrides
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from tests.conftest import ROOT
from tests.fuzz.cases import generators

STUDIES = {
    m.STUDY.command: m.STUDY for m in (lottery.main, msdnet.main, lowrank.main, compress.main)
}
LONGEST = 1000
SECONDS = 5.0  # of a slow machine: nothing is allocated, listed or compiled


class Thing:
    """No value of a config."""

    def __repr__(self) -> str:
        return "a thing\nof two lines"


WRONG: list[Any] = [
    *(
        None,
        "",
        "yes",
        "nan",
        "1",
        "a\nb",
        "[(",
        "x" * 5000,
        "nul\0",
        "\udc80",
        "../..",
        ":",
        "a:b",
    ),
    *(True, False, -1, 0, 1, 2, 1.5, -0.5, float("nan"), float("inf"), -float("inf"), 1e300),
    *(2**31 - 1, 2**31, 2**32, 2**63, 10**20, 10**400, 10**5000, 10**6, 10**9),
    *([], (), (1, 2), [3], (0.5,), (None,), (True,), ("a",), ("a", "a"), [[]], ((1,),), (10**9,)),
    *({}, {"a": 1}, {1: 2}, {"*": 0.2}, {"*": None}, {"a": {"b": []}}, {"train": {}, "eval": {}}),
    *(np.float32(0.5), np.float64("nan"), np.int64(3), np.bool_(True), np.str_("a")),
    *(np.array([1, 2]), np.array(3), np.array([None]), np.zeros((2, 2)), np.array([], np.float32)),
    *(b"bytes", Thing(), Thing, len, {1, 2}, 1j, range(3), Ellipsis),
]
TEXTS = [
    *("", " ", "None", "nan", "-inf", "1e999", "True", "yes", "0x10", "1_0", "-1", "0", "3", "0.5"),
    *(
        "[",
        "(1,",
        "((1,2),)",
        "{'a': 1}",
        "{1: 2}",
        "{1, 2}",
        "{'a': {'b.c': 1}}",
        "()",
        "[]",
        "{}",
        "'a'",
    ),
    *("a\nb", "a b", "a,b", "\0", "\udc80", "9" * 5000, "(" * 300, "x" * 5000, "--", "=", "#", "é"),
    *("f()", "1+1", "10**9", "1j", "b'x'", "...", "lambda: 1", "a:b", "os:system", ":", "*", "%s"),
    *(
        "2147483647",
        "2147483648",
        "99999999999999999999",
        "1000000000",
        "1e300",
        "digits",
        "before",
    ),
]


@functools.cache
def defaults(command: str) -> Any:
    config = config_lib.load(str(ROOT / f"configs/{command}/digits.py"))
    if command == "msdnet":  # tracing is slow
        config.networks = ("msdnet",)
        config.msdnet.update(blocks=2, base=1, step=1)
    return config


def changed(command: str, values: dict[str, Any]) -> dict[str, Any]:
    """The resolved config with these values, as a config file could set them."""
    config = defaults(command).copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        for key, value in values.items():
            *section, leaf = key.split(".")
            holder = overrides.get(config, section)
            del holder[leaf]  # a ConfigDict makes numbers of truths where a number was
            holder[leaf] = value
    return config_lib.resolve(config)


def begun(command: str, config: dict[str, Any]) -> Any:
    """The spec, once all is done that a command does before it compiles."""
    study = STUDIES[command]
    spec = study.check(config)
    dataset = data_lib.load(config)
    study.prepare(spec, config, dataset).begin()
    assert all(isinstance(name, str) for name in study.units(spec))
    return spec


def found(spec: Any, key: str) -> Any:
    """The value of a key in a spec; Ellipsis if the spec does not have it as it is."""
    section, _, leaf = key.partition(".")
    holder = (
        spec
        if not leaf
        else getattr(spec, "sections", {}).get(section) or getattr(spec, section, ...)
    )
    if section in ("branches", "loss", "loss_kwargs"):
        return ...
    return (
        holder.get(leaf, ...) if isinstance(holder, dict) else getattr(holder, leaf or section, ...)
    )


def same(given: Any, taken: Any) -> bool:
    """Whether a value is what was given: a truth is no number; lists and NumPy's do not count."""
    if isinstance(given, np.ndarray | np.generic):
        given = given.tolist()
    if isinstance(given, list | tuple):
        return len(given) == len(taken) and all(map(same, given, taken))
    if isinstance(given, ConfigDict):
        given = given.to_dict()
    if isinstance(given, dict):
        taken = dataclasses.asdict(taken) if dataclasses.is_dataclass(taken) else taken
        return given.keys() == taken.keys() and all(same(given[k], taken[k]) for k in given)
    return isinstance(given, bool) == isinstance(taken, bool) and given == taken


def forms(value: Any) -> list[Any]:
    """The same value, as lists or NumPy have it."""
    if isinstance(value, tuple) and value:
        return [list(value), np.array(value), (*value, *value), value[:1]]
    if isinstance(value, bool | int | float | str):
        return [np.array(value)[()], np.asarray(value), value]
    return [value]


def draw(rng: np.random.Generator, command: str) -> dict[str, Any]:
    """Some keys with wrong values, or such of the kind that they have; never one in another."""
    keys = list(overrides.keys(defaults(command)))
    drawn = [keys[i] for i in rng.choice(len(keys), rng.choice([1, 1, 1, 2, 4]), replace=False)]
    values: dict[str, Any] = {}
    for key in drawn:
        if not any(key.startswith(f"{other}.") for other in drawn):
            value = overrides.get(defaults(command), key.split("."))
            alike = [v for v in WRONG if type(v) is type(value)]
            kind = rng.choice(3, p=[0.6, 0.3, 0.1])  # what is right takes longest: it is traced
            choices = [WRONG, alike or WRONG, forms(value)][kind]
            values[key] = choices[rng.integers(len(choices))]
    return values


def said(command: str, action: Any) -> Any:
    """What an action returns, or None if it is refused in one line."""
    start = time.process_time()
    try:
        return action()
    except UserError as error:
        text = str(error)
        assert text.isprintable()
        assert 0 < len(text) <= LONGEST, text
    finally:
        assert time.process_time() - start < SECONDS
    return None


def test_any_value_of_a_config_file_is_taken_as_it_is_or_refused_in_one_line():
    for rng in generators(150):
        command = str(rng.choice(list(STUDIES)))
        values = draw(rng, command)
        spec = said(command, lambda c=command, v=values: begun(c, changed(c, v)))
        for key, value in values.items() if spec is not None else ():
            taken = found(spec, key)
            assert taken is ... or key == "networks" or same(value, taken), (key, value, taken)


def test_any_text_on_the_command_line_is_read_or_refused_in_one_line(tmp_path):
    for rng in generators(150):
        command = str(rng.choice(list(STUDIES)))
        keys = draw(rng, command)
        argv = [f"--config={ROOT}/configs/{command}/digits.py", f"--workdir={tmp_path}"]
        if command == "msdnet":
            argv += ["--config.networks=msdnet", "--config.msdnet.blocks=2"]
        argv += [f"--config.{key}={TEXTS[rng.integers(len(TEXTS))]}" for key in keys]

        def action(command: str = command, argv: list[str] = argv) -> Any:
            return begun(command, config_lib.resolve(config_lib.parse(argv, "")[0]))

        said(command, action)


@pytest.mark.parametrize("command", STUDIES)
def test_every_key_that_help_prints_is_taken_back(command, capsys):
    path = f"--config={ROOT}/configs/{command}/digits.py"
    with pytest.raises(SystemExit):
        config_lib.parse([path, "--help"], "")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    typed = [line for line in lines if line.startswith("--config.")]
    assert len(typed) > 40
    before = config_lib.resolve(config_lib.load(path.removeprefix("--config=")))
    assert config_lib.resolve(config_lib.parse([path, *typed], "")[0]) == before
