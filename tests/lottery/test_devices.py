"""The same command on eight devices: nothing in the config changes."""

import pytest

from groundwork.devices import mesh
from groundwork.runs import metrics
from tests.conftest import QUICK
from tests.groundwork.devices.test_processes import stand_ins
from tests.lottery.test_configs import EXPERIMENTS, loaded

SMALL = ["--config.levels=0", "--config.train.steps=10", "--config.eval_every=10"]
EIGHT = {"XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("batch", [60, None])
def test_every_shipped_config_has_a_mesh_on_any_number_of_devices(monkeypatch, name, batch):
    monkeypatch.setattr(mesh, "Mesh", lambda grid, names, axis_types: grid)
    config = loaded(name)
    batch = batch or config["train"]["batch_size"]
    for count in (*range(1, 9), 16, 256, 1024):
        devices = stand_ins(1, count)
        rows, columns = mesh.make(config["replicates"], batch, devices=devices).shape
        assert 1 <= rows * columns <= count
        assert config["replicates"] % rows == batch % columns == 0


def test_three_replicates_and_batches_of_60_train_on_eight_devices(command, tmp_path):
    arguments = ["--config=configs/lottery/digits.py", "--config.train.batch_size=60", *SMALL]
    done = command("lottery.main", *arguments, f"--workdir={tmp_path / 'run'}", env=EIGHT)
    assert done.returncode == 0, done.stderr
    assert "mesh {'replicate': 3, 'data': 2}, 2 devices idle" in done.stderr
    rows = metrics.read(tmp_path / "run/metrics.jsonl")
    assert {row["replicate"] for row in rows} == {0, 1, 2}


def test_sizes_that_do_not_divide_are_refused_with_those_that_do(command, tmp_path):
    arguments = ["--config=configs/lottery/digits.py", f"--workdir={tmp_path / 'run'}"]
    refused = command("lottery.main", *arguments, "--config.mesh.data=3", env=EIGHT)
    assert refused.returncode == 2
    said = "mesh.data=3 does not divide train.batch_size=100; these do: [1, 2, 4, 5]"
    assert refused.stderr == f"error: {said}\n"
