"""What every part of a run needs, in one record that is passed by name."""

# R replicates

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """The data, devices, folder and root keys of a run. `study.conduct` makes it.

    Attributes:
      dataset: what is trained on.
      mesh: devices.
      run: the run's folder.
      reporter: says how the run goes.
      interruption: knows whether the run is asked to stop.
      seed: of the run.
      roots: [R] root keys, on the mesh.
      eval_every: steps between two evaluations.
      checkpoint_seconds: between two checkpoints of an unfinished unit.
      poll_steps: steps between two looks at signals, at most.
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

    @property
    def replicates(self) -> int:
        """R."""
        return len(self.roots)

    @property
    def validates(self) -> bool:
        """Is there a validation split?"""
        return self.dataset.examples["validation"] > 0

    def put(self, trees: Any) -> Any:
        """Returns trees [R, …] on the devices, split by replicate."""
        return mesh_lib.put(self.mesh, trees, mesh_lib.BY_REPLICATE)
