"""Configs that cannot be, each refused in one clear line."""

import pytest

from groundwork.errors import UserError
from pruning import spec
from tests.pruning import tiny


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.prune.method=structurd", "did you mean 'structured'"),
        ("--config.prune.criterion=l3", r"unknown prune\.criterion 'l3'"),
        (
            "--config.prune.criterion=scale",
            r"^prune\.criterion: criterion scale: no normalisation scales",
        ),
        ("--config.prune.members=some", r"prune\.members"),
        ("--config.prune.target.multiply_add=0.5", "multiply_add"),
        ("--config.prune.target.multiply_adds=-1.0", "must be at least 0"),
        ("--config.prune.target.multiply_adds=1e-9", "cannot be met: the least is"),
        ("--config.prune.target.parameters=1.0", "cannot be met: the least is"),
        ("--config.prune.ratio=(0.1234567,0.1234568)", "are alike in six digits"),
        ("--config.prune.scope=all", r"prune\.scope"),
        ("--config.prune.round_to=0", "must be at least 1"),
        ("--config.prune.limit=0.0", r"prune\.limit=0\.0 must be in \(0, 1\]"),
        ("--config.prune.iterations=0", "must be at least 1"),
        ("--config.prune.compensate=perhaps", r"prune\.compensate"),
        ("--config.prune.keep_accuracy=1.0", r"must be in \[0, 1\)"),
        ("--config.sparsity.penalty=slim", "did you mean 'slimming'"),
        ("--config.sparsity.penalty=units", "needs a sparsity.weight above 0"),
        ("--config.sparsity.weight=-1.0", "must be at least 0"),
        (
            "--config.source.path=a.npz --config.sparsity.weight=1 --config.sparsity.penalty=units",
            "sparsity.penalty=units is a term of the original's training, but source.path has an",
        ),
        ("--config.source.path=none", r"none does not exist"),
        ("--config.source.path=none.npz", r"^source\.path: none\.npz is no readable file"),
        ("--config.source.path=package:none_such", r"^source\.path: .*pip install none_such$"),
        ("--config.prune.ignored=('params/fc3/*',)", "matches no variable, such as"),
        ("--config.prune.ignored=('*',)", "nothing of this network can be removed"),
        ("--config.prune.split=middle", r"prune\.split"),
        ("--config.prune.examples=0", "must be at least 1"),
        ("--config.branches.scratch=true", "scratch"),
        ("--config.fine_tune.steps=0", r"^fine_tune\.steps=0 must be at least 1"),
        ("--config.fine_tune_optimizer.name=adm", r"unknown fine_tune_optimizer\.name 'adm'"),
        ("--config.mesh.data=3", r"mesh\.data=3 does not divide"),
    ],
)
def test_bad_configs_are_one_clear_line(override, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        tiny.run(tmp_path / "run", "--config.train.steps=1", *override.split())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (1.0, r"prune\.ratio=1\.0: 1\.0 must be in \[0, 1\)"),
        ((0.5, -0.1), r"-0\.1 must be in \[0, 1\)"),
        ("half", r"prune\.ratio"),
        ({}, r"prune\.ratio={} is empty"),
        ({"fc3": 0.5}, "prune.ratio.*'fc3' matches no group"),
        ({"fc1": True}, r"prune\.ratio"),
    ],
)
def test_bad_ratios_are_one_clear_line(ratio, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        tiny.run(tmp_path / "run", "--config.train.steps=1", ratio=ratio)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_groups_that_are_ranked_together_take_one_ratio(tmp_path):
    with pytest.raises(UserError, match="scope=global ranks groups together"):
        tiny.run(tmp_path / "run", "--config.prune.scope=global", ratio={"fc1": 0.5})
    two = [f"--config.prune.target.{name}=0.5" for name in ("parameters", "multiply_adds")]
    with pytest.raises(UserError, match="several targets: leave all but one at 0"):
        tiny.run(tmp_path / "run", *two)


def test_points_are_named_by_their_ratio():
    assert spec.unit_name("pruned", spec.Point(0.5, "0.5")) == "pruned/0.5"
    assert spec.plan_name(spec.Point(None, "target")) == "plans/target"


def test_what_a_network_or_the_data_cannot_do_is_said_before_the_training(tmp_path):
    for overrides, said in (
        (
            ["--config.sparsity.penalty=slimming", "--config.sparsity.weight=0.1"],
            r"^sparsity\.penalty: criterion scale: no normalisation",
        ),
        (
            ["--config.prune.keep_accuracy=0.1", "--config.data.validation_examples=0"],
            r"^prune\.keep_accuracy needs data\.validation_examples",
        ),
        (
            ["--config.prune.keep_accuracy=0.1", "--config.prune.target.parameters=0.5"],
            "both set: leave one at 0",
        ),
    ):
        with pytest.raises(UserError, match=said):
            tiny.run(tmp_path / "run", *overrides)
    assert not (tmp_path / "run").exists()
