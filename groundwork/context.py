"""The one record of what every part of a run needs; it is passed by name."""

# R replicates

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.devices.profile import Profile
from groundwork.devices.watchdog import Watchdog
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """The data, devices, folder and root keys of a run. `study.conduct` makes it.

    Attributes:
      dataset: the data that networks are trained on.
      mesh: the devices.
      run: the folder of the run.
      reporter: shows how far the run is.
      interruption: knows whether the run is asked to stop.
      seed: the run's seed.
      roots: [R] root keys, on the mesh.
      eval_every: the number of steps between two evaluations.
      checkpoint_seconds: the time between two checkpoints of an unfinished unit.
      poll_steps: the largest number of steps between two checks for signals.
      watchdog: ends a process whose training hangs.
      profile: traces the steps that `--profile` names.
    """

    dataset: AnyDataset
    mesh: Mesh
    run: Run
    reporter: Reporter
    interruption: Interruption
    seed: int
    roots: jax.Array
    eval_every: int
    checkpoint_seconds: float
    poll_steps: int
    watchdog: Watchdog
    profile: Profile

    @property
    def replicates(self) -> int:
        """The number R of replicates."""
        return len(self.roots)

    @property
    def validates(self) -> bool:
        """Whether there is a validation split."""
        return self.dataset.examples["validation"] > 0

    def put(self, trees: Any) -> Any:
        """Returns trees, whose leaves are [R, …], on the devices, split by replicate."""
        return mesh_lib.put(self.mesh, trees, mesh_lib.BY_REPLICATE)
