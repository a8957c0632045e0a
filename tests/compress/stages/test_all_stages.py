"""A new stage is a file and a line: one that does nothing goes through the whole command."""

import dataclasses

import numpy as np
import pytest

from compress import report, results
from compress.stages import all_stages
from compress.stages.stage import Stage, one_each
from groundwork.architectures import lenet
from groundwork.errors import UserError
from groundwork.runs import trained
from groundwork.runs.run import Run
from tests.compress import archives, small

CONFIG = """
from configs.compress import digits


def get_config():
    config = digits.get_config()
    config.idle = {"times": (1, 2)}
    config.stages = ("idle",)
    return config
"""


@dataclasses.dataclass(frozen=True)
class IdleSpec:
    times: tuple[int, ...]

    def __post_init__(self):
        if min(self.times) < 1:
            raise UserError(f"idle.times={self.times} must be at least 1")


@pytest.fixture
def asked(monkeypatch):
    """The stage, in its place; what the command asks it, in order."""
    seen = []

    def run(pipeline, node, before):
        seen.append(("run", node.name, node.parent, node.setting, pipeline.spec.sections["idle"]))
        return before

    def check(spec, shaped):
        seen.append(("check", shaped.form.model.width))
        return shaped

    stage = Stage(
        section=IdleSpec,
        run=run,
        steps=lambda section: one_each("idle", section.times),
        place=lambda spec: seen.append(("place", spec.stages)),
        check=check,
        begin=lambda spec, config, dataset: seen.append(("begin", dataset.classes)),
    )
    monkeypatch.setitem(all_stages.STAGES, "idle", stage)
    return seen


@pytest.fixture
def run(tmp_path):
    """Runs the command with the stage, on a network that nobody has trained."""
    (tmp_path / "config.py").write_text(CONFIG)

    def start(*overrides):
        return small.run(tmp_path / "run", f"--config={tmp_path / 'config.py'}", *overrides)

    return start


def test_a_stage_that_is_added_goes_through_the_pipeline(asked, run, tmp_path):
    variables = archives.drawn(lenet.LeNet300100(classes=10, width=0.1), (64,))
    trained.save(tmp_path / "drawn.npz", variables)
    printed = run(f"--config.source.path={tmp_path / 'drawn.npz'}")
    section = IdleSpec((1, 2))
    assert asked == [
        ("place", ("idle",)),
        ("check", 0.1),
        ("begin", 10),
        ("run", "idle-1", "original", 1, section),
        ("run", "idle-2", "original", 2, section),
    ]
    folder = tmp_path / "run"
    assert Run(folder).units() == [f"networks/{name}" for name in ("idle-1", "idle-2", "original")]
    original = results.load(folder, "original")["params"]["fc1"]["kernel"]
    np.testing.assert_array_equal(original, [variables["params"]["fc1"]["kernel"]] * 2)
    for name in ("idle-1", "idle-2"):
        assert name in printed
        for r in range(2):
            files = (folder / f"files/{network}/{r}.cna" for network in (name, "original"))
            assert len({path.read_bytes() for path in files}) == 1
    assert [network.name for network in results.read(folder).leaves] == ["idle-1", "idle-2"]
    report.compare([folder])


def test_its_section_and_its_place_are_checked(asked, run, tmp_path):
    with pytest.raises(UserError, match=r"^idle\.times=\(0,\) must be at least 1$"):
        run("--config.idle.times=(0,)")
    with pytest.raises(UserError, match="quantize must be the last"):
        run("--config.stages=('quantize', 'idle')")
    assert not (tmp_path / "run").exists()
