"""What every command reads back of a run, whatever its networks are."""

import dataclasses
from pathlib import Path
from typing import Any

from groundwork.metric import ACCURACY, Metric
from groundwork.runs import identity
from groundwork.runs.run import Run


@dataclasses.dataclass(frozen=True)
class RunResults:
    """A run as its folder describes it. The results of each command add its networks."""

    name: str
    folder: Path
    config: dict[str, Any]
    about: dict[str, Any]  # versions, commit

    @property
    def metric(self) -> Metric:
        """The measure by which the networks are judged."""
        return Metric(**self.about["metric"]) if "metric" in self.about else ACCURACY


def open_results(workdir: str | Path, command: str) -> tuple[Run, dict[str, Any]]:
    """Returns the run in a folder, and the fields of its `RunResults`.

    Raises:
      UserError: the folder holds no run, or one of another command.
    """
    folder = Path(workdir)
    about = identity.read_about(folder, command)
    config = about.pop("config")
    name = folder.resolve().name
    return Run(folder), {"name": name, "folder": folder, "config": config, "about": about}
