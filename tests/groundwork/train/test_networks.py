"""Devices that several sections of a config share."""

from types import SimpleNamespace

import pytest

from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError
from groundwork.train import networks

DATASET = SimpleNamespace(examples={"train": 1000, "validation": 0, "test": 100})


@pytest.mark.parametrize("sizes", [(100, 50), (50, 100)])
def test_devices_share_the_batches_of_all_sections(sizes):
    batches = dict(zip(("train", "fine_tune"), sizes, strict=True))
    found = networks.mesh_for(MeshSpec(0, 0), 1, batches, DATASET)
    assert dict(found.shape) == {"replicate": 1, "data": 2}  # of four; 100 would do with all


def test_a_batch_that_cannot_be_is_said_with_its_section():
    with pytest.raises(UserError, match=r"fine_tune\.batch_size=1001 is more than the 1000"):
        networks.mesh_for(MeshSpec(0, 0), 1, {"train": 10, "fine_tune": 1001}, DATASET)
    with pytest.raises(UserError, match=r"mesh\.data=4 does not divide fine_tune\.batch_size=10"):
        networks.mesh_for(MeshSpec(0, 4), 1, {"train": 8, "fine_tune": 10}, DATASET)
