"""The networks with exits that a config can name."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from groundwork import typed
from groundwork.architectures import DTYPES
from groundwork.errors import UserError, about, shown, unknown
from msdnet import heads
from msdnet.controls import ResNetExits, ResNets
from msdnet.model import MSDNet
from msdnet.slimmable.exits import SeparateWidths, SlimmableWidths

NETWORKS: dict[str, Any] = {  # name → kind of `ExitNetwork`
    "msdnet": MSDNet,
    "resnet_exits": ResNetExits,
    "resnets": ResNets,
    "slimmable": SlimmableWidths,
    "separate": SeparateWidths,
    "heads": heads.from_section,
    "heads_2": heads.from_section,
}
SHARED = {"separate": "slimmable"}  # a network → the one whose section of the config it has


def build(name: str, section: Mapping[str, Any], classes: int) -> nn.Module:
    """Returns the module `name` of a config's section, whose keys are the module's attributes.

    Raises:
      UserError: an unknown network, key, dtype, or a value that the module refuses when called.
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    given = attributes(name, section)
    if "dtype" in typed.fields(NETWORKS[name]):
        given["dtype"] = DTYPES[given.get("dtype", "float32")]
    with about(section_of(name), (ValueError, UserError)):
        return NETWORKS[name](classes=classes, **given)


def section_of(name: str) -> str:
    """Returns the name of the config's section that has a network's attributes."""
    return SHARED.get(name, name)


def attributes(name: str, section: Any) -> dict[str, Any]:
    """Returns the attributes of a network that a config's section gives, of their types.

    Raises:
      UserError: an unknown key or dtype, or a value of another type than the attribute's.
    """
    if not isinstance(section, Mapping):
        raise UserError(f"{name}={shown(section)} must be a section, with keys and values")
    kinds = dict(typed.fields(NETWORKS[name]))
    if "dtype" in kinds:
        kinds["dtype"] = str
    known = set(kinds) - {"classes", "parent", "name", "return"}
    for key in section:
        if key not in known:
            raise unknown(f"config key of {name}", key, known)
    given = {key: typed.value(f"{name}.{key}", v, kinds[key]) for key, v in section.items()}
    if given.get("dtype", "float32") not in DTYPES:
        raise unknown(f"{name}.dtype", given["dtype"], DTYPES)
    return given
