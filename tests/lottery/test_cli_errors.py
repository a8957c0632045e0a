"""What a user sees who asks for something wrong: one line, exit code 2, and nothing is written."""

import json
import struct
import sys

import numpy as np
import pytest

from groundwork import config as config_lib
from groundwork.entry import run_main
from groundwork.runs import run
from lottery import main, tickets
from tests.conftest import ROOT

DIGITS = "--config=configs/lottery/digits.py"
SIZES = {"fc1": 64 * 300, "fc2": 300 * 100, "output": 100 * 10}


class TrainingBeganError(Exception):
    """Nothing was found wrong."""


@pytest.fixture
def typed(monkeypatch, tmp_path):
    """Run the command in this process, from the repository's root, up to where it would train."""

    def begin(*args):
        raise TrainingBeganError

    def call(*args, config=DIGITS):
        overrides = [a if a.startswith("-") else f"--config.{a}" for a in args]
        argv = ["main", config, f"--workdir={tmp_path / 'run'}", *overrides]
        monkeypatch.setattr(sys, "argv", argv)
        run_main(main.main)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tickets, "find_tickets", begin)
    return call


@pytest.fixture
def refused(typed, capsys, tmp_path):
    """Run the command, which must refuse; give its one line on stderr."""

    def call(*args, **kwargs):
        before = contents(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            typed(*args, **kwargs)
        out, err = capsys.readouterr()
        check(caught.value.code, out, err)
        assert contents(tmp_path) == before
        return err

    return call


def check(code, out, err):
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert len(err) < 600
    assert "Traceback" not in err


def contents(folder):
    """Every path below a folder, and what the files hold."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_the_command_that_the_others_here_change_is_itself_accepted(typed, tmp_path):
    with pytest.raises(TrainingBeganError):
        typed()
    assert (tmp_path / "run/config.json").is_file()


CASES = {
    # keys
    "a misspelt key": ("prune.rte=0.3", ["config.prune.rte", "config.prune.rate"]),
    "a misspelt key at the top": ("levls=3", ["config.levls", "config.levels"]),
    "a misspelt section": ("trian.steps=3", ["config.trian.steps", "config.train.steps"]),
    "an unknown flag": ("--workdri=x", ["workdri", "workdir"]),
    "a key without config": ("--levels=3", ["levels", "config.levels"]),
    "a text for a number": ("train.steps=ten", ["config.train.steps", "ten"]),
    # rates
    "a negative rate": ("prune.rate=-0.1", ["prune.rate=-0.1", "[0, 1)"]),
    "rate 1.0": ("prune.rate=1.0", ["prune.rate=1.0", "[0, 1)"]),
    "rate 1": ("prune.rate=1", ["prune.rate=1 ", "[0, 1)"]),
    "rate 1.5": ("prune.rate=1.5", ["prune.rate=1.5", "[0, 1)"]),
    "per cent": ("prune.rate=20", ["prune.rate=20", "[0, 1)"]),
    "rate 1.5 in a mapping": (
        "prune.rate={'*': 0.2, 'fc1': 1.5}",
        ["prune.rate", "1.5", "'fc1'", "[0, 1)"],
    ),
    "a negative rate in a mapping": ("prune.rate={'*': -1}", ["prune.rate", "-1", "'*'"]),
    "rate nan": ("prune.rate=nan", ["prune.rate=nan", "[0, 1)"]),
    "rate inf": ("prune.rate=1e999", ["prune.rate=inf", "[0, 1)"]),
    "a text as rate": ("prune.rate=fast", ["prune.rate=fast", "[0, 1)"]),
    "a text as rate in a mapping": ("prune.rate={'*': 'x'}", ["prune.rate", "'*'", "[0, 1)"]),
    "a list as rate": ("prune.rate=[0.1, 0.2]", ["prune.rate=", "[0, 1)"]),
    "a truth as rate": ("prune.rate=True", ["prune.rate=True", "[0, 1)"]),
    "rate 0": ("prune.rate=0", ["prune.rate", "level 1", "levels=0"]),
    "a layer without a rate": ("prune.rate={'fc*': 0.2}", ["prune.rate", "'output'"]),
    "a pattern without a layer": (
        "prune.rate={'*': 0.2, 'conv1': 0.1}",
        ["prune.rate", "'conv1'", "fc1", "fc2", "output"],
    ),
    "a predicate that matches nothing": (
        "prune.prunable=('*weight',)",
        ["prune.prunable", "*weight", "fc1/kernel"],
    ),
    # counts
    "negative levels": ("levels=-1", ["levels=-1", "at least 0"]),
    "no replicate": ("replicates=0", ["replicates=0", "at least 1"]),
    "negative replicates": ("replicates=-2", ["replicates=-2", "at least 1"]),
    "no step": ("train.steps=0", ["train.steps=0", "at least 1"]),
    "an empty batch": ("train.batch_size=0", ["train.batch_size=0", "at least 1"]),
    "a batch larger than the data": ("train.batch_size=1301", ["train.batch_size=1301", "1300"]),
    "no evaluation": ("eval_every=0", ["eval_every=0", "at least 1"]),
    "a negative rewind step": ("rewind.step=-1", ["rewind.step=-1", "at least 0"]),
    "a rewind to the end": ("rewind.step=200", ["rewind.step=200", "train.steps=200"]),
    "a rewind past the end": ("rewind.step=999", ["rewind.step=999", "train.steps=200"]),
    "a negative seed": ("seed=-1", ["seed=-1", "at least 0"]),
    "a seed of more than 64 bits": (f"seed={2**70}", [f"seed={2**70}"]),
    "a seed that jax would cut": (f"seed={2**32}", [f"seed={2**32}"]),
    "a negative split seed": ("data.split_seed=-1", ["data.split_seed=-1", "at least 0"]),
    "validation that leaves nothing": (
        "data.validation_examples=1500",
        ["data.validation_examples=1500", "1500 training examples"],
    ),
    "negative validation": ("data.validation_examples=-1", ["data.validation_examples=-1"]),
    "a negative checkpoint interval": (
        "checkpoint.every_seconds=-1",
        ["checkpoint.every_seconds=-1", "at least 0"],
    ),
    # names
    "an unknown source": ("data.source=tdfs", ["'tdfs'", "'tfds'", "digits, idx, mnist1d, tfds"]),
    "an unknown data set": ("data.name=digts", ["'digts'", "'digits'"]),
    "an unknown model": (
        "model.name=lenet_300",
        ["'lenet_300'", "did you mean 'lenet_300_100'", "lenet_5", "residual_mlp"],
    ),
    "an unknown optimizer": (
        "optimizer.name=admw",
        ["optimizer.name 'admw'", "did you mean 'adamw'", "momentum, nesterov, sgd"],
    ),
    "an unknown learning-rate schedule": (
        "optimizer.schedule=cosin",
        ["optimizer.schedule 'cosin'", "did you mean 'cosine'", "constant, cosine, step"],
    ),
    "an unknown criterion": (
        "prune.criterion=magnitud",
        ["prune.criterion 'magnitud'", "did you mean 'magnitude'", "magnitude, random"],
    ),
    "an unknown scope": ("prune.scope=globl", ["prune.scope 'globl'", "global, layerwise"]),
    "an unknown pruning schedule": (
        "prune.schedule=lineal",
        ["prune.schedule 'lineal'", "did you mean 'linear'", "geometric, linear"],
    ),
    "an unknown restore": ("rewind.restore=weight", ["rewind.restore 'weight'", "state, weights"]),
    "an unknown branch": (
        "branches={'random_masks': 'all'}",
        ["branch", "'random_masks'", "did you mean 'random_mask'", "small_dense"],
    ),
    "a branch at level 0": ("branches.random_mask=(0, 1)", ["branches.random_mask", "'all'"]),
    "a branch at half a level": ("branches.random_mask=1.5", ["branches.random_mask", "'all'"]),
    "a branch at no level": ("branches.random_mask=None", ["branches.random_mask", "'all'"]),
    "a branch at some level": ("branches.random_mask=some", ["branches.random_mask", "'all'"]),
    # numbers
    "a negative learning rate": (
        "optimizer.learning_rate=-1",
        ["optimizer.learning_rate=-1", "positive"],
    ),
    "learning rate nan": ("optimizer.learning_rate=nan", ["optimizer.learning_rate=nan"]),
    "learning rate inf": ("optimizer.learning_rate=inf", ["optimizer.learning_rate=inf"]),
    "momentum 1": ("optimizer.momentum=1", ["optimizer.momentum=1", "[0, 1)"]),
    "width 0": ("model.width=0", ["model.width=0", "positive"]),
    "width nan": ("model.width=nan", ["model.width=nan", "positive"]),
    "width inf": ("model.width=inf", ["model.width=inf"]),
    "a model that the data do not fit": ("model.name=lenet_5", ["8, 8, 1"]),
    # mesh: this process has four devices
    "replicates that the mesh does not divide": (
        "mesh.replicate=2",
        ["mesh.replicate=2", "replicates=3", "[1, 3]"],
    ),
    "a batch that the mesh does not divide": (
        "mesh.data=3",
        ["mesh.data=3", "train.batch_size=100", "[1, 2, 4]"],
    ),
    "a negative mesh": ("mesh.data=-1", ["mesh.data=-1"]),
    "more devices than there are": ("mesh.data=100", ["mesh.data=100", "100 devices", "are 4"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(refused, case):
    override, expected = CASES[case]
    said = refused(override)
    for part in expected:
        assert part in said


def first_bad_level(rates, sizes, schedule="geometric"):
    """Level, layer, what would happen: a plain loop over the rule of DESIGN.md, decision 3."""
    kept = dict(sizes)
    for level in range(1, 1000):
        for layer, rate in rates.items():
            share = level * rate * sizes[layer] if schedule == "linear" else rate * kept[layer]
            start = sizes[layer] if schedule == "linear" else kept[layer]
            after = start - round(share)
            if after < 1:
                return level, layer, "empty"
            if after == kept[layer]:
                return level, layer, "stop shrinking"
            kept[layer] = after
    raise AssertionError


@pytest.mark.parametrize(
    ("rate", "schedule"),
    [(0.5, "geometric"), (0.2, "geometric"), (0.9, "geometric"), (0.25, "linear"), (0.3, "linear")],
)
def test_levels_that_would_empty_a_layer_or_stop_shrinking_are_refused(refused, rate, schedule):
    level, layer, what = first_bad_level(dict.fromkeys(SIZES, rate), SIZES, schedule)
    said = refused("levels=60", f"prune.rate={rate}", f"prune.schedule={schedule}")
    assert f"level {level} " in said
    assert f"{what} '{layer}'" in said
    assert f"levels={level - 1} or fewer" in said


def test_levels_are_checked_layer_by_layer(refused):
    rates = {"fc1": 0.5, "fc2": 0.5, "output": 0.25}
    level, layer, what = first_bad_level(rates, SIZES)
    said = refused("levels=60")  # digits.py: half, a quarter of the output layer
    assert f"level {level} would {what} '{layer}'" in said


# config files


@pytest.mark.parametrize("path", ["configs/lottery/digit.py", "configs/lotery/digits.py"])
def test_a_missing_config_file_suggests_the_near_one(refused, path):
    said = refused(config=f"--config={path}")
    assert f"{path} does not exist" in said
    assert "did you mean configs/lottery/digits.py?" in said


def edited(tmp_path, edit):
    """A config file of a user's own: digits with one more line."""
    lines = ["from configs.lottery import digits", "def get_config():"]
    lines += ["    config = digits.get_config()", f"    {edit}", "    return config", ""]
    (tmp_path / "own.py").write_text("\n".join(lines))
    return f"--config={tmp_path / 'own.py'}"


SECTIONS = ["data", "model", "train", "optimizer", "prune", "rewind", "branches", "mesh"]


@pytest.mark.parametrize("section", [*SECTIONS, "checkpoint", "log"])
def test_a_key_that_a_config_file_adds_to_a_section_is_refused(refused, tmp_path, section):
    said = refused(config=edited(tmp_path, f"config.{section}.stepz = 3"))
    assert "stepz" in said
    assert section.removesuffix("es") in said


def test_a_rate_that_is_no_number_is_refused(refused, tmp_path):
    # typed, `nan` is a text; in a file it is a float that compares with nothing
    for rate in ("float('nan')", "{'*': 0.2, 'fc1': float('nan')}"):
        said = refused(config=edited(tmp_path, f"config.prune.rate = {rate}"))
        assert "prune.rate=nan" in said
        assert "[0, 1)" in said


def test_a_key_that_a_config_file_misspells_is_refused_with_the_near_one(refused, tmp_path):
    said = refused(config=edited(tmp_path, "config.levls = 3"))
    assert "'levls'; did you mean 'levels'?" in said
    said = refused(config=edited(tmp_path, "config.data.validation_exampels = 3"))
    assert "did you mean 'data.validation_examples'?" in said


KEYS = [
    *("seed", "levels", "replicates", "eval_every", *SECTIONS, "checkpoint", "log"),
    *("data.name", "data.source", "model.name", "train.steps", "optimizer.momentum"),
    *("prune.rate", "rewind.step", "mesh.data", "checkpoint.every_seconds", "log.tensorboard"),
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_a_config_file_lacks_is_named(refused, tmp_path, key):
    said = refused(config=edited(tmp_path, f"del config.{key}"))
    assert key in said


def test_a_config_file_that_fails_is_named_with_its_line(refused, tmp_path):
    said = refused(config=edited(tmp_path, "config.levels = 1 / 0"))
    assert str(tmp_path / "own.py") in said
    assert "division by zero" in said
    assert "line 4" in said


# data


def test_idx_without_a_folder_says_how_to_get_it(refused):
    said = refused("data.source=idx", "data.name=fashion_mnist")
    assert "data.dir" in said
    assert "apt-get install dataset-fashion-mnist" in said
    assert "pip install -r requirements-tfds.txt" in said


def test_a_folder_that_does_not_exist_is_named(refused, tmp_path):
    said = refused("data.source=idx", "data.name=mnist", f"data.dir={tmp_path / 'nowhere'}")
    assert str(tmp_path / "nowhere/train-images-idx3-ubyte") in said


def test_an_unknown_idx_set_lists_the_known(refused):
    said = refused("data.source=idx", "data.name=fashionmnist")
    assert "did you mean 'fashion_mnist'?" in said
    assert "kmnist, mnist" in said


def test_an_unknown_tfds_set_suggests_the_near_one(refused, tmp_path):
    said = refused("data.source=tfds", "data.name=fashion_mnits", f"data.dir={tmp_path}")
    assert "did you mean 'fashion_mnist'?" in said


def write_idx(folder, **changed):
    """The four files; `changed` (an underscore for the dash) are written in another form."""
    whole = {
        "train-images-idx3-ubyte": np.zeros((6, 4, 4), np.uint8),
        "train-labels-idx1-ubyte": np.arange(6, dtype=np.uint8),
        "t10k-images-idx3-ubyte": np.zeros((3, 4, 4), np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(3, dtype=np.uint8),
    }
    folder.mkdir()
    for name, array in whole.items():
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        change = changed.get(name.partition("-idx")[0].replace("-", "_"), bytes)
        (folder / name).write_bytes(change(header + array.tobytes()))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"train_images": lambda b: b[:-1]}, ["train-images-idx3-ubyte", "112 bytes", "111"]),
        ({"t10k_images": lambda b: b + b"x"}, ["t10k-images-idx3-ubyte", "64 bytes", "65"]),
        ({"train_labels": lambda b: b"<html>"}, ["train-labels-idx1-ubyte", "IDX"]),
        ({"t10k_labels": lambda b: b""}, ["t10k-labels-idx1-ubyte", "IDX"]),
        ({"train_labels": lambda b: b[:-1] + b"\x0a"}, ["label 10 of example 5", "0 to 9"]),
        ({"train_labels": lambda b: b[:7] + b"\5" + b[8:-1]}, ["6 images", "5 labels"]),
    ],
    ids=["truncated", "too long", "not idx", "empty", "label out of range", "a label missing"],
)
def test_bad_idx_files_are_named(refused, tmp_path, changed, expected):
    write_idx(tmp_path / "idx", **changed)
    said = refused(
        "data.source=idx",
        "data.name=mnist",
        f"data.dir={tmp_path / 'idx'}",
        "data.validation_examples=0",
        "train.batch_size=2",
    )
    for part in expected:
        assert part in said


# the run's folder


def begin(workdir, *overrides):
    """A run that was begun with digits.py and these overrides, and then broke off."""
    argv = [DIGITS.replace("configs", str(ROOT / "configs"), 1), *overrides]
    config, _ = config_lib.parse(argv, "")
    run.open_run(workdir, config_lib.resolve(config), extendable=("levels", "branches"))


def test_a_run_of_another_seed_is_refused_with_the_difference(refused, tmp_path):
    begin(tmp_path / "run")
    said = refused("seed=5")
    assert str(tmp_path / "run") in said
    assert "seed is 0 there, 5 here" in said
    assert "--workdir" in said
    assert "levels" not in said  # what is the same is not listed


def test_all_that_differs_from_another_run_is_listed(refused, tmp_path):
    begin(tmp_path / "run", "--config.prune.rate=0.3", "--config.train.batch_size=50")
    said = refused("prune.rate=0.25")
    assert "prune.rate is 0.3 there, 0.25 here" in said
    assert "train.batch_size is 50 there, 100 here" in said
    assert said.count(" there, ") == 2


def test_a_rate_is_another_than_a_mapping(refused, tmp_path):
    begin(tmp_path / "run")
    said = refused("prune.rate=0.5")
    assert "prune.rate" in said
    assert "0.25" in said
    assert "0.5" in said


def test_a_folder_that_holds_something_else_is_left_alone(refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("years of work")
    said = refused()
    assert str(tmp_path / "run") in said
    assert "not empty" in said
    assert "--workdir" in said


def test_a_file_where_the_folder_should_be_is_left_alone(refused, tmp_path):
    (tmp_path / "run").write_text("years of work")
    said = refused()
    assert str(tmp_path / "run") in said
    assert "folder" in said or "directory" in said
    assert "--workdir" in said


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"config": 3})])
def test_a_config_json_that_is_not_ours_is_named(refused, tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(text)
    assert str(tmp_path / "run") in refused()


# the same in processes of their own


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--config.prune.rte=0.3", ["'config.prune.rte'", "did you mean 'config.prune.rate'?"]),
        ("--config.levels=60", ["level ", "levels=", "or fewer"]),
    ],
)
def test_the_command_itself_refuses_bad_input(command, tmp_path, override, expected):
    done = command("lottery.main", DIGITS, f"--workdir={tmp_path / 'run'}", override)
    check(done.returncode, done.stdout, done.stderr)
    for part in expected:
        assert part in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_itself_refuses_another_identity(command, tmp_path):
    begin(tmp_path / "run")
    before = contents(tmp_path)
    done = command("lottery.main", DIGITS, f"--workdir={tmp_path / 'run'}", "--config.seed=5")
    check(done.returncode, done.stdout, done.stderr)
    assert "seed is 0 there, 5 here" in done.stderr
    assert contents(tmp_path) == before
