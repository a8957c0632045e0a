"""Wrong data or a wrong run folder: one line, exit code 2, and nothing is written."""

import json
import struct

import numpy as np
import pytest

from groundwork import config as config_lib
from groundwork.runs import run
from groundwork.runs.identity import Identity
from lottery import main
from tests.conftest import ROOT
from tests.lottery.refusals import DIGITS, check, contents

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
    identity = Identity(
        command="lottery",
        config=config_lib.resolve(config),
        extendable=main.STUDY.extendable,
    )
    run.open_run(workdir, identity)


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


NOT_OURS = ["", "{", "[]", "{}", json.dumps({"config": 3}), json.dumps({"config": {}})]


@pytest.mark.parametrize("text", NOT_OURS)
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
