"""`Deployment`: what every part of a run of the command needs."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.spec import DeploySpec
from groundwork.context import Context
from groundwork.train.losses import Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployment:
    """A run of the command.

    Attributes:
      context: of the run.
      spec: of the command.
      config: of the run.
      loss: by which networks are judged.
    """

    context: Context
    spec: DeploySpec
    config: Mapping[str, Any]
    loss: Loss

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.context.run.folder
