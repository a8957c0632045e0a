"""What changes nothing is said once, where a run starts; shipped configs have nothing of it."""

import pytest

import compress.main
import lottery.main
import lowrank.main
import msdnet.main
from groundwork import config as config_lib
from tests import configs
from tests.conftest import ROOT

STUDIES = {
    m.STUDY.command: m.STUDY for m in (lottery.main, msdnet.main, lowrank.main, compress.main)
}


def warned(command, *typed, name="digits.py"):
    """The lines that a command says for a config and these keys."""
    study = STUDIES[command]
    argv = [f"--config={ROOT}/configs/{command}/{name}", *(f"--config.{t}" for t in typed)]
    config = config_lib.resolve(config_lib.parse(argv, "")[0])
    return study.warn(study.check(config), config, config_lib.typed_keys(argv))


@pytest.mark.parametrize("command", STUDIES)
def test_shipped_configs_have_no_setting_without_effect(command):
    for name in configs.experiments(command):
        assert warned(command, name=name) == []


BEYOND = [
    ("lottery", ("branches.random_mask=(1,99)",), "branches.random_mask: [99] are not trained"),
    ("lottery", ("branches.random_mask=99",), "branches.random_mask: [99] are not trained"),
    ("lottery", ("branches.finetune=all", "branches.lr_rewind=all"), "has one learning rate"),
    ("lottery", ("eval_every=10000",), "eval_every=10000 is more than"),
    ("msdnet", ("optimizer.drop_steps=(5, 1000000000,)",), "is before 1000000000, where the rate"),
    ("lottery", ("optimizer.drop_steps=(5,)",), "set optimizer.schedule=step"),
    (
        "lowrank",
        ("fine_tune_optimizer.warmup_steps=99999",),
        "fine_tune_optimizer.warmup_steps=99999",
    ),
]
IDLE = [
    ("lottery", ("optimizer.momentum=0.5",), "optimizer.name=adam takes none"),
    ("lottery", ("optimizer.drop_factor=0.5",), "optimizer.schedule=constant has no drops"),
    ("lottery", ("data.split_seed=5", "data.validation_examples=0"), "holds none out"),
    ("lottery", ("data.dir=somewhere",), "data.source=digits reads no files"),
    ("lottery", ("levels=0", "prune.scope=global"), "levels=0 prunes nothing"),
    ("lottery", ("branches.scratch_b_at_most=2",), "branches.scratch_b=()"),
    ("lottery", ("rewind.restore=state", "rewind.step=0"), "no moments to restore"),
    ("msdnet", ("networks=msdnet", "resnets.width=0.5"), "has no resnets"),
    ("msdnet", ("exits.distillation_temperature=2",), "exits.distillation=0 is off"),
    (
        "lowrank",
        ("decompose.methods=svd", "decompose.ranks=energy", "decompose.measure=macs"),
        "has no budget",
    ),
    ("lowrank", ("source.unit=levels/03/ticket",), "source.path is empty"),
    ("lowrank", ("source.path=x.npz", "optimizer.learning_rate=1"), "which is not trained"),
    ("compress", ("quantize.scales=twn",), "quantize.method=kmeans does not use it"),
    ("compress", ("share.values=mean",), "has no share"),
    (
        "compress",
        ("stages=('prune',)", "prune.rewind=start", "fine_tune.steps=3"),
        "fine_tune.steps has no effect: no network of this run is trained",
    ),
    (
        "compress",
        ("stages=('quantize',)", "quantize.fine_tune=false", "fine_tune.steps=3"),
        "fine_tune.steps has no effect",
    ),
    (
        "compress",
        ("stages=('quantize',)", "source.path=x.npz", "optimizer.learning_rate=1"),
        "optimizer.learning_rate has no effect",
    ),
    ("compress", ("quantize.activation_range=mse",), "quantize.activation_bits=0 keeps float32"),
]


@pytest.mark.parametrize(("command", "typed", "said"), [*BEYOND, *IDLE])
def test_a_setting_without_effect_is_said_once(command, typed, said):
    lines = [line for line in warned(command, *typed) if said in line]
    assert len(lines) == 1
    assert "\n" not in lines[0]


USED = [
    ("lottery", ("branches.random_mask=all", "train.steps=300", "optimizer.learning_rate=0.1")),
    ("lottery", ("optimizer.name=momentum", "optimizer.momentum=0.5")),
    (
        "lottery",
        ("optimizer.schedule=step", "optimizer.drop_steps=(5,)", "optimizer.drop_factor=1"),
    ),
    ("lottery", ("levels=1",)),  # of a config whose branches go further
    ("msdnet", ("networks=resnets", "resnets.width=0.5")),
    (
        "compress",
        ("stages=('prune',)", "prune.rewind=none", "fine_tune.steps=3"),
    ),
    ("compress", ("stages=('distill',)", "source.path=x.npz", "train.steps=300")),
    ("compress", ("quantize.bits=(3,)", "quantize.init=density", "prune.levels=(1,)")),
]


@pytest.mark.parametrize(("command", "typed"), USED)
def test_a_setting_that_is_used_is_not_spoken_of(command, typed):
    assert warned(command, *typed) == []
