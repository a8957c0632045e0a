"""What is exported of a source: one replicate of one network."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from deploy.graphs.graph import Grid, Stored
from groundwork.trees import Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A trained network.

    Attributes:
      model: as `deploy.graph` takes it.
      variables: of one replicate.
      stored: path of a kernel (`fc1/kernel`) → the integers that its file has.
      remarks: what of the source no engine's file holds, one line each.
      grids: path of a layer → the grid to which the file rounds its inputs.
      example: the shape of one example, if the file has it.
    """

    model: Any
    variables: Variables
    stored: Mapping[str, Stored] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    grids: Mapping[str, Grid] = dataclasses.field(default_factory=dict)
    example: tuple[int, ...] | None = None
