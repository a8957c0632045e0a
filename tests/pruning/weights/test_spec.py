"""Every wrong value of the section `prune` ends in one line that names its key."""

import numpy as np
import pytest

from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from pruning import kinds
from pruning.weights import masking, spec
from tests.conftest import ROOT


def checked(**prune):
    config = config_lib.resolve(config_lib.load(str(ROOT / "configs/pruning/weights.py")))
    config["prune"].update(prune)
    return kinds.check(config)


@pytest.mark.parametrize(
    ("prune", "said"),
    [
        ({"method": "rigel"}, "unknown prune.method 'rigel'; did you mean 'rigl'?"),
        ({"method": 3}, "unknown prune.method 3"),
        ({"criterion": "snap"}, "unknown prune.criterion 'snap'; did you mean 'snip'?"),
        ({"scope": "local"}, "unknown prune.scope 'local'"),
        ({"density": 0.0}, r"prune.density=0.0: 0.0 must be in \(0, 1\]"),
        ({"density": (0.5, 1.5)}, r"1.5 must be in \(0, 1\]"),
        ({"density": ()}, r"prune.density=\(\) is empty"),
        ({"density": "0.1"}, "prune.density='0.1' must be a number"),
        ({"density": (0.1, 0.1000000001)}, "alike in six digits"),
        ({"strength": (0.0,)}, "prune.strength=.*above 0"),
        ({"threshold": 0.0}, "prune.threshold=0.0 must be above 0"),
        ({"iterations": 0}, "prune.iterations=0 must be at least 1"),
        ({"every": 0}, "prune.every=0 must be at least 1"),
        ({"begin": 0.8}, "prune.begin=0.8 and prune.end=0.75 must be shares"),
        ({"drop": 1.0}, r"prune.drop=1.0 must be in \[0, 1\)"),
        ({"least_density": 0.0}, r"prune.least_density=0.0 must be in \(0, 1\)"),
        ({"pattern": "2:1"}, "prune.pattern: "),
        ({"pattern": "4x"}, "prune.pattern: unknown pattern '4x'"),
        ({"pattern": "٢:٤"}, "prune.pattern: unknown pattern"),
        ({"pattern": "2:4", "method": "rigl"}, "prune.pattern=2:4 needs prune.method=one_shot"),
        ({"pattern": "2:4", "criterion": "synflow"}, "prune.pattern=2:4 takes one round"),
        ({"method": "rigl", "scope": "global"}, "prune.scope=global ranks layers together"),
        ({"method": "rigl", "every": 1}, "prune.every=1 must be at least 2 for prune.method=rigl"),
        ({"method": "before_training", "criterion": "movement"}, "looks at what training changed"),
        ({"correct": True}, "prune.correct=true needs .* prune.criterion=.*obs"),
        ({"correct": True, "criterion": "obs", "method": "rigl"}, "prune.correct=true needs"),
        ({"correct": True, "criterion": "obs", "method": "before_training"}, "prune.correct=true"),
        ({"keep_accuracy": 0.01, "least_accuracy": 0.9}, "both set: leave one at 0"),
        ({"keep_accuracy": 0.01, "method": "set"}, "need prune.method=one_shot or iterative"),
        ({"keep_accuracy": 0.01, "pattern": "2:4"}, "need prune.pattern=none"),
        ({"keep_accuracy": 1.0}, r"prune.keep_accuracy=1.0 must be in \[0, 1\)"),
        ({"method": "structured"}, "removes whole units: start from configs/pruning/base.py"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(prune, said):
    with pytest.raises(UserError, match=said) as caught:
        checked(**prune)
    assert "\n" not in str(caught.value)


def test_a_method_of_single_weights_is_refused_for_units():
    config = config_lib.resolve(config_lib.load(str(ROOT / "configs/pruning/base.py")))
    config["prune"]["method"] = "rigl"
    with pytest.raises(UserError, match=r"start from configs/pruning/weights\.py"):
        kinds.check(config)


def test_turns_end_at_the_counts_of_the_last_density():
    """Of the bias, the ninth of ten turns to 0.05 would keep none, and the last one."""
    shapes = {"a": (5, 30), "b": (3,), "c": (5, 3), "d": (5, 3), "e": (10, 3), "f": (10, 3)}
    leaves = {path: np.zeros(shape) for path, shape in shapes.items()}
    section = checked(scope="erdos_renyi").prune
    left = {path: leaf.size for path, leaf in leaves.items()}
    for turn in range(1, 11):
        planned = masking.groups(section, leaves, 0.05 ** (turn / 10), 0.05)
        left = {path: min(count, planned.counts[path]) for path, count in left.items()}
    assert left == masking.groups(section, leaves, 0.05).counts
    assert left["b"] == 1


def test_gradual_pruning_needs_two_steps():
    config = config_lib.resolve(config_lib.load(str(ROOT / "configs/pruning/weights.py")))
    config["prune"]["method"] = "gradual"
    config["train"]["steps"] = 1
    with pytest.raises(UserError, match=r"train\.steps=1 must be at least 2"):
        kinds.check(config)


@pytest.mark.parametrize(
    ("prune", "said"),
    [
        ({"density": 1e-9}, "prune.density: 1e-09 keeps none"),
        (
            {"pattern": "3:7"},
            "prune.pattern: 3:7 fits no layer; fc1/kernel: 7 does not divide the 64",
        ),
        ({"pattern": "2x10", "density": 1e-3}, "prune.density: 0.001 keeps nothing in"),
        ({"criterion": "snip", "examples": 9999}, "prune.examples=9999 is more than the 1400"),
        (
            {"keep_accuracy": 0.1, "least_density": 1e-9},
            "prune.least_density: 1e-09 keeps none",
        ),
    ],
)
def test_what_the_network_or_the_data_cannot_give_is_refused_before_training(prune, said, dataset):
    config = config_lib.resolve(config_lib.load(str(ROOT / "configs/pruning/weights.py")))
    config["model"]["width"] = 0.1
    config["prune"].update(prune)
    with pytest.raises(UserError, match=said):
        kinds.prepare(kinds.check(config), config, dataset)


@pytest.fixture(scope="module")
def dataset():
    data = config_lib.load(str(ROOT / "configs/pruning/weights.py")).data.to_dict()
    return data_lib.load({"data": data | {"validation_examples": 100}})


@pytest.mark.parametrize(
    ("prune", "labels"),
    [
        ({"density": (0.05, 0.2)}, ["0.2", "0.05"]),
        ({"density": 0.1}, ["0.1"]),
        ({"pattern": "2:4"}, ["2:4"]),
        ({"pattern": "4x4", "density": 0.25}, ["0.25"]),
        ({"method": "proximal_l1", "strength": (1e-3, 1e-4)}, ["0.0001", "0.001"]),
        ({"keep_accuracy": 0.01}, ["target"]),
    ],
)
def test_a_run_has_one_network_for_each_density(prune, labels):
    names = [f"sparse/{label}" for label in labels]
    assert spec.unit_names(checked(**prune)) == ["dense", *names]


@pytest.mark.parametrize(
    ("prune", "given", "said"),
    [
        ({}, "prune.drop", "prune.method=one_shot does without"),
        ({"method": "rigl"}, "prune.criterion", "prune.method=rigl does without"),
        ({"method": "rigl"}, "fine_tune.steps", "prunes while the network trains"),
        ({"pattern": "2:4"}, "prune.density", "prune.pattern=2:4 decides"),
        ({"pattern": "4x4"}, "prune.scope", "prune.pattern=4x4 holds in each layer by itself"),
        ({}, "prune.examples", "prune.criterion=magnitude looks at none"),
        ({"keep_accuracy": 0.1}, "prune.density", "the target decides"),
        ({"method": "static"}, "prune.keep_accuracy", "does without"),
    ],
)
def test_a_setting_without_effect_is_said(prune, given, said):
    config = config_lib.resolve(config_lib.load(str(ROOT / "configs/pruning/weights.py")))
    config["prune"].update(prune)
    (line,) = kinds.without_effect(kinds.check(config), config, [given])
    assert line.startswith(f"{given} has no effect")
    assert said in line


@pytest.mark.parametrize("given", ["prune.iterations", "prune.least_density", "prune.criterion"])
def test_what_a_search_needs_has_an_effect(given):
    config = config_lib.resolve(config_lib.load(str(ROOT / "configs/pruning/weights.py")))
    config["prune"].update(keep_accuracy=0.01)
    assert not kinds.without_effect(kinds.check(config), config, [given])
