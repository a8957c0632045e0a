import jax.numpy as jnp
import pytest

from groundwork.errors import UserError
from msdnet import networks
from msdnet.model import MSDNet
from tests.msdnet.references import PAPER


def test_a_section_s_keys_become_attributes():
    given = {**PAPER, "growth_factors": [1, 2, 4], "dtype": "bfloat16"}  # JSON has no tuples
    del given["classes"]
    model = networks.build("msdnet", given, 100)
    assert model == MSDNet(100, dtype=jnp.bfloat16)
    assert networks.build("resnets", {"blocks": [1, 2]}, 10).blocks == (1, 2)


@pytest.mark.parametrize(
    ("name", "section", "message"),
    [
        ("msd_net", {}, "unknown network 'msd_net'; did you mean 'msdnet'"),
        ("msdnet", {"block": 7}, "unknown config key of msdnet 'block'; did you mean 'blocks'"),
        ("msdnet", {"classes": 7}, "unknown config key of msdnet 'classes'"),
        ("msdnet", {"name": "x"}, "unknown config key of msdnet 'name'"),
        ("msdnet", {"parent": None}, "unknown config key of msdnet 'parent'"),
        ("resnet_exits", {"growth": 1}, "unknown config key of resnet_exits 'growth'"),
        ("resnets", {"every": 1}, "unknown config key of resnets 'every'"),
        ("msdnet", {"dtype": "float16"}, "unknown msdnet.dtype 'float16'"),
        ("resnets", {"dtype": None}, "resnets.dtype=None must be a text"),
    ],
)
def test_unknown_names_are_refused_in_one_line(name, section, message):
    with pytest.raises(UserError, match=message) as caught:
        networks.build(name, section, 10)
    assert "\n" not in str(caught.value)
