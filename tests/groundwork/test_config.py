import dataclasses
import json
from pathlib import Path

import ml_collections
import pytest
from ml_collections import config_dict

from groundwork import config as config_lib
from groundwork import overrides
from groundwork.errors import UserError

FILE = """
import ml_collections
from ml_collections import config_dict

def get_config(variant="plain"):
    config = ml_collections.ConfigDict()
    config.levels = 3
    config.variant = variant
    config.data = dict(name="digits", standardize=True)
    config.train = dict(steps=100)
    config.optimizer = dict(learning_rate=0.1, drop_steps=(10, 20), prunable=("*kernel",))
    config.prune = dict(rate=config_dict.FieldReference(0.2, field_type=object))
    config.prune.rate = {"*": 0.2, "output": 0.1}
    config.branches = dict(random_mask=config_dict.FieldReference((), object))
    return config
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_config.py").write_text('"""A story."""\n' + FILE)
    return "my_config.py"


def parsed(*argv):
    """Flat dict of the config that the arguments give."""
    config, _ = config_lib.parse(argv, "usage: …")
    return config_lib.flatten(config_lib.resolve(config))


def refused(*argv):
    with pytest.raises(UserError) as caught:
        config_lib.parse(argv, "usage: …")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# overrides


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("levels", "12", 12),
        ("levels", "-1", -1),
        ("optimizer.learning_rate", "1e-3", 1e-3),
        ("optimizer.learning_rate", "2", 2.0),
        ("data.name", "mnist", "mnist"),
        ("data.name", "", ""),
        ("data.name", "12", "12"),
        ("data.name", "a=b", "a=b"),
        ("data.standardize", "false", False),
        ("data.standardize", "True", True),
        ("optimizer.drop_steps", "(5, 6, 7)", [5, 6, 7]),
        ("optimizer.drop_steps", "(5,)", [5]),
        ("optimizer.drop_steps", "()", []),
        ("optimizer.prunable", "('fc1/*', '*bias')", ["fc1/*", "*bias"]),
        ("prune.rate", "0.3", 0.3),
        ("prune.rate", "0", 0),
        ("branches.random_mask", "all", "all"),
        ("branches.random_mask", "(4, 8)", [4, 8]),
        ("branches.random_mask", "4", 4),
    ],
)
def test_one_key_is_overridden_and_the_others_stay(file, key, text, value):
    before, after = parsed(f"--config={file}"), parsed(f"--config={file}", f"--config.{key}={text}")
    assert after.pop(key) == value
    # a mapping's keys are flattened too, so they go with it
    assert after == {k: v for k, v in before.items() if k != key and not k.startswith(key + ".")}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", int), ("1.5", float)],
)
def test_a_number_keeps_the_type_of_its_default(file, text, value):
    keys = {int: "levels", float: "optimizer.learning_rate"}
    assert type(parsed(f"--config={file}", f"--config.{keys[value]}={text}")[keys[value]]) is value


def test_a_mapping_replaces_a_mapping_whole(file):
    after = parsed(f"--config={file}", "--config.prune.rate={'*': 0.4}")
    assert {k: v for k, v in after.items() if k.startswith("prune")} == {"prune.rate.*": 0.4}


def test_a_mapping_replaces_a_number(file, tmp_path):
    text = FILE.replace('{"*": 0.2, "output": 0.1}', "0.3")
    assert text != FILE
    (tmp_path / file).write_text(text)
    after = parsed(f"--config={file}", "--config.prune.rate={'*': 0.4, 'fc1': 0.1}")
    assert (after["prune.rate.*"], after["prune.rate.fc1"]) == (0.4, 0.1)
    assert "prune.rate" not in after


METHODS = ["values", "keys", "items", "get", "copy", "update", "lock", "to_dict", "type"]


@pytest.mark.parametrize("name", METHODS)
def test_a_key_may_have_the_name_of_a_method(tmp_path, name):
    text = FILE.replace("return config", f"config.share = dict({name}='first')\n    return config")
    (tmp_path / "named.py").write_text(text)
    typed = [f"--config={tmp_path / 'named.py'}", f"--config.share.{name}=mean"]
    assert parsed(*typed)[f"share.{name}"] == "mean"
    assert parsed(typed[0])[f"share.{name}"] == "first"


def test_keys_may_be_patterns(tmp_path):
    text = FILE.replace("return config", "config.rates = {'*': 0.2, 'fc1': 0.1}\n    return config")
    (tmp_path / "rates.py").write_text(text)
    config, _ = config_lib.parse([f"--config={tmp_path / 'rates.py'}", "--config.rates.*=0.4"], "")
    assert config_lib.resolve(config)["rates"] == {"*": 0.4, "fc1": 0.1}


def test_a_key_of_a_section_that_was_replaced_before_is_refused(file):
    said = refused(f"--config={file}", "--config.data={'dir': ''}", "--config.data.name=x")
    assert "--config.data.name is no key of what --config.data was set to" in said


def test_a_space_does_for_an_equals_sign(file):
    config, workdir = config_lib.parse(
        ["--config", file, "--config.levels", "7", "--workdir", "some where"], ""
    )
    assert (config.levels, workdir) == (7, Path("some where"))
    assert parsed(f"--config={file}", "--config.levels", "-7")["levels"] == -7


def test_the_last_of_two_overrides_counts(file):
    assert parsed(f"--config={file}", "--config.levels=4", "--config.levels=5")["levels"] == 5


def test_overrides_may_come_before_the_config(file):
    assert parsed("--config.levels=4", "--config", file)["levels"] == 4


def test_a_variant_is_handed_to_get_config(file):
    assert parsed(f"--config={file}")["variant"] == "plain"
    assert parsed(f"--config={file}:smoke")["variant"] == "smoke"


def test_the_run_folder_is_by_default_named_after_the_config(file):
    for path in (file, f"{file}:smoke"):
        _, workdir = config_lib.parse([f"--config={path}"], "")
        assert workdir == Path("runs/my_config")


# what is refused


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("config.prune.rte=0.3", "config.prune.rate"),
        ("config.levls=2", "config.levels"),
        ("config.prune.levels=2", "config.levels"),
        ("config.optimiser.learning_rate=1", "config.optimizer.learning_rate"),
        ("config.rate=0.3", "config.prune.rate"),
    ],
)
def test_a_misspelt_key_suggests_the_near_one(file, wrong, near):
    said = refused(f"--config={file}", f"--{wrong}")
    assert repr(wrong.partition("=")[0]) in said
    assert f"did you mean {near!r}?" in said


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("--profil=1:2", "profile"),
        ("--workdr=x", "workdir"),
        ("--levels=2", "config.levels"),
        ("--work-dir=x", "workdir"),
    ],
)
def test_an_unknown_flag_suggests_the_near_one(file, wrong, near):
    said = refused(f"--config={file}", wrong)
    assert wrong.lstrip("-").partition("=")[0] in said
    assert f"did you mean {near!r}?" in said


def test_a_key_that_is_like_nothing_is_named_without_a_suggestion(file):
    said = refused(f"--config={file}", "--config.zzzzzzzz=1")
    assert "config.zzzzzzzz" in said
    assert "did you mean" not in said


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("levels", "2.5"),
        ("levels", "two"),
        ("levels", ""),
        ("optimizer.learning_rate", "fast"),
        ("data.standardize", "maybe"),
        ("prune", "3"),
        ("train", "fast"),
        ("train", "{'a.b': 1}"),
        ("optimizer.drop_steps", "{'a': 1}"),
        ("optimizer.drop_steps", "1, a"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_key(file, key, text):
    assert f"config.{key}={text}" in refused(f"--config={file}", f"--config.{key}={text}")


def test_a_section_that_would_undo_a_key_before_it_is_refused(file):
    said = refused(f"--config={file}", "--config.branches.random_mask=4", "--config.branches={}")
    assert said.startswith("cannot read the command line: ")
    assert "--config.branches is provided after --config.branches.random_mask" in said


def test_a_key_without_a_value_is_named(file):
    assert "--config.levels" in refused(f"--config={file}", "--config.levels")


@pytest.mark.parametrize("where", [1, 0])
def test_a_stray_argument_is_named(file, where):
    argv = [f"--config={file}"]
    argv.insert(where, "levels=3")
    said = refused(*argv)
    assert "levels=3" in said
    assert "--config.KEY=VALUE" in said


def test_a_missing_file_suggests_the_near_one(file):
    said = refused("--config=./my_confg.py")
    assert "my_confg.py does not exist" in said
    assert "did you mean" in said
    assert file in said.partition("did you mean")[2]


def test_a_missing_file_that_is_like_nothing_is_named(file):
    assert "config file /nowhere/x.py does not exist" in refused("--config=/nowhere/x.py")


def test_a_folder_is_no_config_file(file, tmp_path):
    assert str(tmp_path) in refused(f"--config={tmp_path}")


def test_without_a_config_one_is_asked_for():
    assert "--config=FILE" in refused("--workdir=x")


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("\n\ndef get_config():\n    number = 0\n    return 1 / number\n", "division by zero", 5),
        ("import numpy\nimport no_such_package\n", "no_such_package", 2),
        ("\ndef get_config(:\n", "invalid syntax", 2),
        ("\nimport json\n\nx = json.loads('{')\n", "property name", 4),
        ("\ndef get_config():\n    raise KeyError('two\\nlines')\n", "two", 3),
    ],
    ids=["raises", "imports", "syntax", "raises within a library", "two lines"],
)
def test_a_config_file_that_fails_is_named_with_its_reason_and_line(tmp_path, text, reason, line):
    (tmp_path / "bad.py").write_text(text)
    said = refused(f"--config={tmp_path / 'bad.py'}")
    assert f"{tmp_path / 'bad.py'} fails" in said
    assert reason in said
    assert said.endswith(f"line {line})")


@pytest.mark.parametrize("text", ["", "def get_config():\n    return None\n"])
@pytest.mark.parametrize("also", [[], ["--help"]])
def test_a_file_that_gives_no_config_is_named(tmp_path, text, also):
    (tmp_path / "bad.py").write_text(text)
    said = refused(f"--config={tmp_path / 'bad.py'}", *also)
    assert f"{tmp_path / 'bad.py'}" in said
    assert "get_config" in said
    assert "(line" not in said  # there is none to blame


# help


@pytest.mark.parametrize("help_", ["--help", "-h"])
def test_help_prints_usage_story_and_keys_and_exits_0(file, capsys, help_):
    with pytest.raises(SystemExit) as caught:
        config_lib.parse([f"--config={file}", help_], "usage: so and so")
    out, err = capsys.readouterr()
    assert caught.value.code == 0
    assert not err
    assert out.startswith("usage: so and so\n")
    assert "A story." in out
    assert "--config.levels=3\n" in out
    assert "--config.optimizer.drop_steps=" in out
    for key in ("variant", "data.name", "train.steps", "prune.rate", "branches.random_mask"):
        assert f"--config.{key}" in out


def test_what_help_prints_of_each_key_can_be_typed(file, capsys):
    with pytest.raises(SystemExit):
        config_lib.parse([f"--config={file}", "--help"], "")
    typed = [line.strip() for line in capsys.readouterr().out.splitlines() if "--config." in line]
    assert len(typed) >= 8
    assert parsed(f"--config={file}", *typed) == parsed(f"--config={file}")


@pytest.mark.parametrize("argv", [["--help"], []])
def test_help_needs_no_config(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        config_lib.parse(argv, "usage: so and so")
    assert caught.value.code == 0
    assert capsys.readouterr().out == "usage: so and so\n"


# build, flatten, resolve


@dataclasses.dataclass(frozen=True)
class Spec:
    steps: int
    rate: float

    def __post_init__(self):
        if self.steps < 1:
            raise UserError(f"steps={self.steps}")


def test_a_section_becomes_its_dataclass():
    assert config_lib.build(Spec, {"rate": 0.5, "steps": 3}, "train") == Spec(3, 0.5)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"steps": 3, "rate": 1, "stps": 4}, r"'train\.stps'; did you mean 'train\.steps'\?"),
        ({"steps": 3}, r"train\.rate"),
        ({"steps": 0, "rate": 1}, "steps=0"),
    ],
    ids=["unknown", "missing", "refused by the dataclass"],
)
def test_a_section_that_does_not_fit_is_refused(section, said):
    with pytest.raises(UserError, match=said):
        config_lib.build(Spec, section, "train")


def test_a_config_that_cannot_be_resolved_is_refused():
    config = ml_collections.ConfigDict({"levels": 3, "names": []})
    config.names.append(config.names)
    with pytest.raises(UserError, match="names is nested in more than 32 levels"):
        config_lib.resolve(config)
    config = ml_collections.ConfigDict({"kwargs": config_dict.FieldReference({}, object)})
    overrides.apply(config, {"kwargs": "{'a': {'b.c': 1}}"})
    with pytest.raises(UserError, match=r"does not accept dots"):
        config_lib.resolve(config)
    config = ml_collections.ConfigDict({"train": {"steps": 3}})
    config.train.batch_size = config_dict.required_placeholder(int)
    with pytest.raises(UserError, match=r"leaves train\.batch_size open: give a value"):
        config_lib.resolve(config)
    overrides.apply(config, {"train.batch_size": "8"})
    assert config_lib.resolve(config)["train"] == {"steps": 3, "batch_size": 8}


def test_a_flat_config_has_dotted_keys_and_what_json_gives_back(file):
    flat = parsed(f"--config={file}")
    assert flat["prune.rate.output"] == 0.1
    assert flat["optimizer.drop_steps"] == [10, 20]
    assert json.loads(json.dumps(flat)) == flat


def test_a_resolved_config_is_plain_and_survives_json(file):
    config, _ = config_lib.parse([f"--config={file}"], "")
    resolved = config_lib.resolve(config)
    assert type(resolved) is type(resolved["prune"]) is type(resolved["prune"]["rate"]) is dict
    again = json.loads(json.dumps(resolved))
    assert config_lib.flatten(again) == config_lib.flatten(resolved)


def test_of_a_key_that_is_given_twice_the_last_counts(file):
    twice = ["--config.optimizer.drop_steps=(5,)", "--config.train.steps=7"]
    more = ["--config.optimizer.drop_steps", "(6,)", "--config.train.steps=8"]
    found = parsed(f"--config={file}", *twice, *more)
    assert (found["optimizer.drop_steps"], found["train.steps"]) == ([6], 8)


def test_the_steps_of_a_profile_are_first_and_stop(file):
    assert config_lib.profiled([f"--config={file}"]) is None
    assert config_lib.profiled(["--profile=1:2", "--profile", "100:110"]) == (100, 110)
    assert parsed(f"--config={file}", "--profile=100:110") == parsed(f"--config={file}")


@pytest.mark.parametrize(
    "wrong", ["", "=", "=100", "=5:5", "=7:5", "=-1:5", "=a:b", "=1:2:3", "=1.0:2", "=" + 99 * "9"]
)
def test_steps_that_are_none_are_refused(file, wrong):
    with pytest.raises(UserError, match="must be FIRST:STOP") as refusal:
        config_lib.profiled([f"--profile{wrong}"])
    with pytest.raises(UserError, match="must be FIRST:STOP"):
        parsed(f"--config={file}", f"--profile{wrong}")
    assert str(refusal.value).startswith(f"--profile{wrong or '='}"[:20])


def test_a_story_fits_and_its_commands_stay_as_they_are():
    listed = "Keys:\n- a: one\n- b: two\n1. first"
    assert config_lib._filled(listed) == listed
    command = "    python -m lottery.main --config=" + "a" * 60
    long = " ".join(["early-bird"] * 20)
    told = config_lib._filled(f"{long}\nand more.\n\n{command}\n    next\n\nEnd.\n")
    *words, end = told.split(f"\n\n{command}\n    next\n\n")
    assert end == "End.\n"
    assert " ".join(words[0].split()) == f"{long} and more."
    assert max(map(len, words[0].splitlines())) <= 80
    assert all(line.endswith(("early-bird", "more.")) for line in words[0].splitlines())
