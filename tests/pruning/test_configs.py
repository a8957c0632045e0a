from types import SimpleNamespace

import numpy as np
import pytest

from groundwork import architectures, trees
from groundwork import config as config_lib
from pruning import main, structured
from tests import configs
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", configs.files("pruning"))
def test_a_config_passes_the_spec_and_its_parts_are_made(name):
    checked = configs.passes("pruning", name, main.STUDY)
    assert bool(checked.prune.points) == (name != "compact_fashion_mnist.py")  # a sweep's


def test_resnet_56_loses_what_the_paper_says():
    """Li et al., arXiv:1608.08710, Table 1, pruned-B: 9.09e7 FLOPs, 27.6 %; 7.3e5, 13.7 %."""
    config = config_lib.resolve(config_lib.load("configs/pruning/resnet56_cifar10_l1.py"))
    params = architectures.shapes(architectures.build(config, 10), (32, 32, 3))["params"]
    groups = [
        SimpleNamespace(name=f"{block}/conv1", units=params[block]["conv1"]["kernel"].shape[-1])
        for block in sorted(name for name in params if name.startswith("block"))
    ]
    scores = {group.name: np.arange(group.units) for group in groups}
    keep = structured.choose(SimpleNamespace(groups=groups), scores, config["prune"]["ratio"])
    whole = _costs([group.units for group in groups])
    small = _costs([int(keep[group.name].sum()) for group in groups])
    assert whole == (125_485_696, trees.count(params))
    assert small == (90_907_264, 735_712)
    gone = [1 - after / before for before, after in zip(whole, small, strict=True)]
    np.testing.assert_allclose(gone, [0.276, 0.137], atol=1e-3)


def _costs(kept):
    """Multiply-adds and parameters by hand, of 27 blocks whose first convolutions have so many."""
    macs, parameters, inputs = 32 * 32 * 27 * 16 + 640, 27 * 16 + 2 * 16 + 650, 16
    for number, inside in enumerate(kept):
        outputs, side = 16 << number // 9, 32 >> number // 9
        macs += side * side * 9 * inside * (inputs + outputs)
        parameters += 9 * inside * (inputs + outputs) + 2 * (inside + outputs)
        inputs = outputs
    return macs, parameters


@pytest.mark.parametrize("name", configs.experiments("pruning"))
def test_the_commands_of_a_docstring_can_be_typed(name):
    configs.commands_can_be_typed("pruning", name, main.STUDY)
