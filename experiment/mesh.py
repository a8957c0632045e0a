"""Devices as a mesh with the axes ('replicate', 'data'). One device is the 1×1 mesh."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiment.errors import UserError

REPLICATED = PartitionSpec()
BY_REPLICATE = PartitionSpec("replicate")


@dataclasses.dataclass(frozen=True)
class MeshSpec:
    """The config's `mesh` section: devices along each axis; 0 = choose."""

    replicate: int
    data: int


def make(
    replicates: int,
    batch_size: int,
    *,
    replicate: int = 0,
    data: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh for `replicates` networks, each trained on batches of `batch_size`.

    By default (0) the replicate axis is gcd(replicates, devices) and the data axis the largest
    divisor of the batch that fits on the rest; devices left over stay idle.

    Raises:
      UserError: an explicit size that does not divide, or more devices than there are.
    """
    devices = jax.devices() if devices is None else devices
    rows = replicate or math.gcd(replicates, len(devices))
    free = len(devices) // rows
    columns = data or max((d for d in range(1, free + 1) if batch_size % d == 0), default=1)
    for name, size, whole, what in (
        ("replicate", rows, replicates, "replicates"),
        ("data", columns, batch_size, "train.batch_size"),
    ):
        if size < 1 or whole % size:
            divisors = [d for d in range(1, len(devices) + 1) if whole % d == 0]
            raise UserError(
                f"mesh.{name}={size} does not divide {what}={whole}; these do: {divisors}"
            )
    if rows * columns > len(devices):
        raise UserError(
            f"mesh.replicate={rows} × mesh.data={columns} needs {rows * columns} devices, "
            f"but there are {len(devices)}"
        )
    grid = np.asarray(devices[: rows * columns]).reshape(rows, columns)
    return Mesh(grid, ("replicate", "data"), axis_types=(AxisType.Auto, AxisType.Auto))


def describe(mesh: Mesh) -> dict[str, Any]:
    """What bits depend on: backend, kind of device, sizes of the axes."""
    device = mesh.devices.flat[0]
    return {"backend": device.platform, "kind": device.device_kind, "mesh": dict(mesh.shape)}


def put(mesh: Mesh, tree: Any, spec: PartitionSpec = REPLICATED) -> Any:
    """The tree on the mesh's devices, whole on each or split by its leading replicate axis."""
    return jax.device_put(tree, NamedSharding(mesh, spec))


def each_replicate(mesh: Mesh, function: Callable, shared: int = 0) -> Callable:
    """Map a function of one replicate over the leading axis of its arguments, and compile it.

    The last `shared` arguments are the same for all replicates. Nothing crosses replicates.
    """

    def mapped(*args):
        own = len(args) - shared
        each = jax.vmap(function, in_axes=(0,) * own + (None,) * shared)
        specs = (BY_REPLICATE,) * own + (REPLICATED,) * shared
        return jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=BY_REPLICATE)(*args)

    return jax.jit(mapped)
