"""Random command lines end in a config, in help, or in one line that says what is wrong."""

import contextlib
import importlib
import io
import os
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from groundwork import config as config_lib
from groundwork.errors import LONGEST, UserError
from groundwork.report import page
from launch import jobset, slurm, sweep
from tests.fuzz.cases import generators

COMMANDS = ["compress", "lottery", "lowrank", "msdnet"]
HEAD = "import ml_collections\nfrom ml_collections import config_dict\n"
MADE = f"{HEAD}def get_config({{}}):\n    config = ml_collections.ConfigDict(dict(levels=3))\n"
FILES = {
    "plain.py": "",
    "own.py": "    config.own = config\n",
    "placeholder.py": "    config.a = config_dict.placeholder(int)\n",
    "required.py": "    config.a = config_dict.required_placeholder(int)\n",
    "ratio.py": "    config.part = 6 / config.get_ref('levels')\n",
    "keys.py": "    config.a = ml_collections.ConfigDict({3: 4})\n",
}
FILES = {name: MADE.format("") + body + "    return config\n" for name, body in FILES.items()}
FILES |= {
    "variant.py": MADE.format("kind") + "    return config\n",
    "empty.py": "",
    "exit.py": "import sys\nsys.exit(5)\n",
    "raises.py": "class E(Exception):\n    def __str__(self): raise self\nraise E\n",
    "recursive.py": "def get_config(): return get_config()\n",
    "dict.py": "def get_config(): return {}\n",
    "nul.py": "\0",
    "points": "levels=1 seed=2\nlevels=2\n",
}
VALUES = [
    *("", "0", "1", "7", "-1", "1.5", "nan", "1e999", "99999999999", "9" * 5000, "None", "True"),
    *(
        "()",
        "(1,",
        "(1, 2)",
        "[",
        "{}",
        "{'a': 1}",
        "{'*': 0.2}",
        "'",
        '"',
        "\\",
        "a=b",
        "a b",
        "é",
    ),
    *("all", "\udcff", "a\0b", "a\nb", "\x1b[31m", "%s", "{0}", "[bold]", "-", "--", "1,2", "1,1"),
    *(",", "(" * 300, "x" * 3000),
]
KEYS = [
    *("levels", "seed", "train", "train.steps", "train.steps.more", "data.name", "prune.rate"),
    *("prune", "optimizer.drop_steps", "stages", "networks", "model.kwargs", "model.kwargs.a"),
    *("branches.random_mask", "levls", "", ".", "..", "train.", ".train", "é", "a b", "own.levels"),
]
FLAGS = [
    *("config", "workdir", "set", "points", "executor", "parallel", "module", "dry-run", "nodes"),
    *("hours", "memory", "sbatch", "logs", "name", "image", "claim", "resource", "node", "help"),
    *("helpfull", "flagfile", "undefok", "save-seconds", "times", "gpus-per-node", "max-restarts"),
    *("namespace", "", "-", "="),
]


def a_config(rng: np.random.Generator, command: str) -> str:
    odd = [*FILES, ".", "folder.py", "pipe.py", "/dev/zero", "nowhere.py", "", ":", "x" * 300, "\0"]
    names = [f"{command}/base.py", "plain.py", *odd]
    weights = np.array([4.0, 3.0] + [0.3] * len(odd))
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    return name + rng.choice(["", "", "", "", ":x", ":"])


def a_word(rng: np.random.Generator, command: str) -> str:
    """One argument: an override, a flag, or anything."""
    value = VALUES[rng.integers(len(VALUES))]
    key = KEYS[rng.integers(len(KEYS))]
    flag = FLAGS[rng.integers(len(FLAGS))]
    return [
        lambda: f"--config.{key}={value}",
        lambda: f"--config.levels={rng.integers(1, 9)}",
        lambda: f"--config.{key}",
        lambda: f"--set={key}={value}",
        lambda: f"--set=levels={rng.integers(1, 9)},{value}",
        lambda: f"--{flag}={value}",
        lambda: f"--{flag}",
        lambda: f"-{flag}",
        lambda: f"--config={a_config(rng, command)}",
        lambda: str(value),
        lambda: "--",
        lambda: "--help" if rng.random() < 0.1 else "--workdir=runs/x",
        lambda: ["--points=points", "--points=.", "--points=pipe.py"][rng.integers(3)],
    ][rng.integers(13)]()


def words(rng: np.random.Generator, command: str) -> list[str]:
    made = [a_word(rng, command) for _ in range(rng.integers(0, 5))]
    if rng.random() < 0.9:
        made.insert(0, f"--config={a_config(rng, command)}")
    return made


def ends_well(run: Callable[[], object]) -> object:
    """Returns what a command gives, or None if it helps or refuses, as is right."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return run()
    except (UserError, SystemExit) as ended:
        end = ended
    if isinstance(end, SystemExit):
        assert end.code == 0
        return None
    said = str(end)
    assert said.isprintable()
    assert 0 < len(said) <= LONGEST + 5
    said.encode()
    return None


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    return tmp_path


def levels_of(argv: Sequence[str]) -> list[int]:
    """The whole numbers that `levels` is set to."""
    given = [word.removeprefix("--config.levels=") for word in argv if "config.levels=" in word]
    return [int(text) for text in given if text.isascii() and text.isdigit()]


def test_the_commands_take_or_refuse_any_words(here):
    for rng in generators(300):
        command = COMMANDS[rng.integers(len(COMMANDS))]
        usage = importlib.import_module(f"{command}.main").STUDY.usage
        argv = words(rng, command)
        parsed = ends_well(lambda argv=argv, usage=usage: config_lib.parse(argv, usage))
        if parsed is not None:
            config, workdir = parsed
            assert str(workdir) != "."
            flat = config_lib.flatten(config_lib.resolve(config))
            if levels_of(argv):
                assert flat["levels"] == levels_of(argv)[-1], argv
    left = {path.name for path in here.iterdir()} - {"__pycache__"}
    assert left == {*FILES, "folder.py", "pipe.py"}


def test_the_reports_take_or_refuse_any_words(here):
    for rng in generators(200):
        report = importlib.import_module(f"{COMMANDS[rng.integers(len(COMMANDS))]}.report")
        argv = words(rng, "lottery")[-rng.integers(1, 4) :]
        ends_well(lambda argv=argv, show=report.show: page.draw_again(show, "usage", argv))


def test_the_launchers_take_or_refuse_any_words(here):
    """They only show what they would do."""
    for rng in generators(300):
        argv = words(rng, "lottery")
        if "--" in argv:
            argv.insert(argv.index("--"), "--dry-run")
        else:
            argv += ["--dry-run", "--", "python", "-m", "lottery.main"][: rng.choice([1, 5])]
        main = [sweep.main, slurm.main, jobset.main][rng.integers(3)]
        if main is jobset.main:
            argv[:0] = ["--name=n", "--image=i"]
        if main is not sweep.main:
            argv = [word for word in argv if not word.startswith(("--config", "--set", "--points"))]
        ends_well(lambda argv=argv, main=main: main(argv))
