"""What may be decomposed, and why the rest may not."""

import flax.linen as nn
import numpy as np
import pytest

from groundwork import architectures
from groundwork import config as config_lib
from groundwork.data.file_dataset import FileDataset
from groundwork.errors import UserError
from lowrank import setup, spec, work
from tests.conftest import ROOT


class Net(nn.Module):
    """Two layers of each kind, one of them in groups."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), feature_group_count=2, name="grouped")(x)
        x = nn.Conv(4, (1, 1), name="conv")(x).reshape(len(x), -1)
        return nn.Dense(2, name="fc2")(nn.Dense(3, name="fc1")(x))


def _config():
    return config_lib.resolve(config_lib.load(str(ROOT / "configs/lowrank/digits.py")))


def test_layers_in_groups_and_those_that_patterns_name_are_listed_with_the_reason():
    config = _config()
    config["decompose"]["leave"] = ("con*", "fc2")
    shapes = architectures.shapes(Net(), (5, 5, 2))
    found, refused = setup.reached(spec.from_config(config), Net(), shapes, (5, 5, 2))
    assert list(found) == ["fc1"]
    named = "decompose.leave names it"
    assert refused == {"grouped": "it has 2 groups", "conv": named, "fc2": named}


@pytest.mark.parametrize(("methods", "predict"), [(("svd_outputs",), ()), (("svd",), ("fc1",))])
def test_what_looks_at_images_refuses_a_stream_before_anything_is_trained(methods, predict):
    config = {**_config(), "predict": predict}
    config["decompose"]["methods"] = methods
    one = np.ones((1, 1, 1, 1))
    stream = FileDataset("none", [], [], [], (8, 8, 1), 10, one, one, "", None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"set data\.stream=false"):
        work.prepare(spec.from_config(config), config, stream)
