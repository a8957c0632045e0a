"""Configs that cannot be, each refused in one clear line."""

import pytest

from groundwork.errors import UserError
from tests.lowrank import small


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.decompose.ranks=energi", "did you mean 'energy'"),
        ("--config.decompose.measure=mac", "did you mean 'macs'"),
        ("--config.decompose.leave=('*',)", "no layer is left to decompose"),
        ("--config.decompose.frobenius_decay=-1.0", "must be at least 0"),
        ("--config.decompose.frobenius_decay=nan", "must be a finite number"),
        ("--config.fine_tune.steps=0", r"^fine_tune\.steps=0 must be at least 1"),
        ("--config.fine_tune_optimizer.name=adm", r"unknown fine_tune_optimizer\.name 'adm'"),
        ("--config.optimizer.momentum=1.0", r"^optimizer\.momentum=1\.0 must be"),
        ("--config.fine_tune.batch_size=9999", r"fine_tune\.batch_size=9999 is more than"),
        ("--config.mesh.data=3", r"mesh\.data=3 does not divide train\.batch_size=100"),
        (
            "--config.decompose.leave=('fc11',)",
            "decompose.leave: unknown layer 'fc11'; did you mean 'fc1'",
        ),
        ("--config.decompose.leave=(1,)", "must be patterns"),
        ("--config.predict=('fc1', 'fc1')", "each once"),
        ("--config.source.path=nowhere", "holds no readable run"),
        ("--config.source.path=nowhere.npz", "is no readable file of arrays"),
        ("--config.model.name=lenet", "did you mean"),
    ],
)
def test_bad_configs_are_one_clear_line(override, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        small.run(tmp_path / "run", "--config.train.steps=1", override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("methods", "shares", "said"),
    [
        (("sdv",), (0.5,), "did you mean 'svd'"),
        ((), (0.5,), "must name methods, each once"),
        (("svd", "svd"), (0.5,), "must name methods, each once"),
        (("svd",), (0.0,), r"must lie in \(0, 1\]"),
        (("svd",), (1.5,), r"must lie in \(0, 1\]"),
        (("svd",), (0.5, 0.5), "must name each share once"),
        (("svd",), (0.5, 0.50000001), "must name each share once"),
        (("svd",), (True,), r"must be numbers in \(0, 1\]"),
        (("svd",), ("half",), r"must be numbers in \(0, 1\]"),
        (("svd",), (), "give shares in"),
        (("svd",), (0.001,), "macs is 5, below 234, what svd costs at rank 1 everywhere"),
    ],
)
def test_bad_sweeps_are_one_clear_line(methods, shares, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        small.run(tmp_path, "--config.train.steps=1", methods=methods, shares=shares)
    assert "\n" not in str(caught.value)


def test_the_ranks_of_cp_are_chosen_by_budget_alone(tmp_path):
    with pytest.raises(UserError, match="ranks of 'cp' are chosen by budget alone"):
        small.run(tmp_path, "--config.decompose.ranks=vbmf", methods=("cp",))
