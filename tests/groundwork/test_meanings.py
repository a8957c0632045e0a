"""What `--help` says of keys is what the comments of the configs say."""

import itertools

import pytest

from groundwork import config as config_lib
from groundwork import meanings
from groundwork.config_made import makers
from tests.conftest import ROOT

COMMANDS = ["compress", "lottery", "lowrank", "msdnet"]
CONFIGS = sorted(
    path.relative_to(ROOT / "configs").as_posix()
    for command in COMMANDS
    for path in (ROOT / "configs" / command).glob("[a-z]*.py")
)
MINE = """
from configs.lottery import base
STEPS = 3

def sizes(config):
    config.model.width = 0.5  # half of it

def get_config():
    import ml_collections
    config = base.get_config()
    config.train.update(steps=STEPS)  # few
    config["levels"] = 2  # only two
    # What I have read about,
    # in a paper.
    config.prune.criterion = config.mine = "random"

    # Not about the next one.

    config.eval_every = 1
    config.seed = 5  # noqa
    config.rewind = dict(step=1, restore="state")  # as they do
    config.prune.rate = {
        "*": 0.1,  # of every layer
        "output": 0.2,
    }
    config.other = ml_collections.ConfigDict({
        "one": 1,  # the first
        "two": dict(three=3),  # the third
    })
    config.copy = config.train.copy_and_resolve_references()
    sizes(config)
    return config
"""


def shown(capsys, path):
    """Key → meaning, as `--help` prints them, in lines that a terminal of 80 columns shows."""
    with pytest.raises(SystemExit):
        config_lib.parse([f"--config={path}", "--help"], "")
    lines = capsys.readouterr().out.partition("what they mean:\n")[2].splitlines()
    found = {}
    for line in lines:
        if not line or line[0] != " ":  # between groups, and what one is about
            assert len(line) <= 80
        elif line.startswith("  --config."):
            key = line.removeprefix("  --config.").partition("=")[0]
            found[key] = ""
        else:
            assert line.startswith("      ")
            assert len(line) <= 80
            found[key] = f"{found[key]} {line.strip()}".strip()
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_of_every_shipped_config_has_a_meaning(name, capsys):
    found = shown(capsys, name)
    assert len(found) > 40
    assert [key for key, meaning in found.items() if not meaning] == []


def test_no_line_of_help_is_wider_than_a_terminal():
    from compress import main

    assert max(map(len, main.STUDY.usage.splitlines())) <= 80


def test_a_users_own_comments_come_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    before = shown(capsys, "lottery/base.py")
    after = shown(capsys, "mine.py")
    changed = {key: after[key] for key in after if after[key] != before.get(key)}
    assert changed == {
        "train.steps": "few",
        "levels": "only two",
        "prune.criterion": "What I have read about, in a paper.",
        "mine": "What I have read about, in a paper.",
        "rewind.step": "as they do",
        "rewind.restore": "as they do",
        "prune.rate": "of every layer",
        "other.one": "the first",
        "other.two.three": "the third",
        "copy.batch_size": before["train.batch_size"],
        "copy.steps": "few",
        "model.width": "half of it",
    }
    assert after["data.name"] == before["data.name"] != ""


def test_files_count_in_the_order_in_which_they_are_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    mine = tmp_path / "mine.py"
    with makers(mine) as files:
        config_lib.load("mine.py")
    shipped = [ROOT / "configs/lottery/base.py", ROOT / "configs/base.py"]
    assert files == [mine, *shipped]


def test_odd_comments_do_no_harm(tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(
        "a.b().c = 1  # one\n(x, y) = 1, 2  # two\nz[0].q = 2  # three\nk = dict(**{})\n#\n"
    )
    assert meanings.of([file], ["c", "x", "0.q", "k"]) == {"0.q": "three"}
    file.write_text("")
    assert meanings.of([file], ["c"]) == {}


def test_keys_stand_in_groups_in_the_order_of_their_files(capsys):
    keys = list(shown(capsys, "configs/lottery/digits.py"))
    tops = [key.partition(".")[0] if "." in key else "" for key in keys]
    sections = [section for section, _ in itertools.groupby(tops)]
    assert len(sections) == len(set(sections))  # each stands together
    assert sections[0] == ""
    assert sections[-4:] == ["data", "mesh", "checkpoint", "log"]
    assert keys.index("prune.rate") < keys.index("checkpoint.poll_steps")
    first = [key for key in keys if key.startswith("checkpoint.")]
    assert first == ["checkpoint.every_seconds", "checkpoint.poll_steps", "checkpoint.hang_seconds"]
