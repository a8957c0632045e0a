"""The networks with exits that a config can name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from groundwork.architectures import DTYPES
from groundwork.errors import UserError, unknown
from msdnet.controls import ResNetExits, ResNets
from msdnet.model import MSDNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "msdnet": MSDNet,
    "resnet_exits": ResNetExits,
    "resnets": ResNets,
}


def build(name: str, section: Mapping[str, Any], classes: int) -> nn.Module:
    """Returns the module of a config's section `name`, whose keys are the module's attributes.

    Raises:
      UserError: an unknown network, key, dtype, or a value that the module refuses when called.
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    kind = NETWORKS[name]
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}
    known = {field.name for field in dataclasses.fields(kind)} - {"classes", "parent", "name"}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise unknown(f"config key of {name}", key, known)
    dtype = given.pop("dtype", "float32")
    if dtype not in DTYPES:
        raise unknown(f"{name}.dtype", dtype, DTYPES)
    try:
        return kind(classes=classes, dtype=DTYPES[dtype], **given)
    except TypeError as error:
        raise UserError(f"{name}: {error}") from error
