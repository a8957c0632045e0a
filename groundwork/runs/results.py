"""What every command reads back of a run, whatever its networks are."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from groundwork import copies
from groundwork.errors import UserError
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


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns what foreign or damaged descriptions raise into an error of one line.

    Raises:
      UserError: a description lacks something, or has it in another form.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(
            f"{folder} holds no readable run: {error!r}. Is it damaged, or of another version?"
        ) from error


def open_results(workdir: str | Path, command: str) -> tuple[Run, dict[str, Any]]:
    """Returns the run in a folder, and the fields of its `RunResults`.

    Raises:
      UserError: the folder holds no run, or one of another command.
    """
    folder = copies.near(workdir)
    about = identity.read_about(folder, command)
    config = about.pop("config")
    if type(config.get("replicates")) is not int:
        raise UserError(f"{folder} holds no readable run: config.json lacks its replicates")
    with readable(folder):
        Metric(**about.get("metric", ACCURACY._asdict())).words  # noqa: B018 a text, if all is well
    name = folder.resolve().name
    run = Run(folder, id=str(about.pop("id", "")))
    return run, {"name": name, "folder": folder, "config": config, "about": about}
