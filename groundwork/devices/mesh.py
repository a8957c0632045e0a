"""Devices as a mesh with the axes ('replicate', 'data'). One device is the 1×1 mesh."""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from groundwork.devices import processes
from groundwork.errors import UserError

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
    divisor of the batch that fits on the rest; devices left over stay idle, as many in each
    process.

    Raises:
      UserError: an explicit size that does not divide, more devices than there are, or processes
        that would have nothing to do.
    """
    devices = jax.devices() if devices is None else devices
    hosts = len({device.process_index for device in devices})
    rows = replicate or math.gcd(replicates, len(devices))
    sizes = [d for d in range(1, len(devices) // rows + 1) if batch_size % d == 0]
    columns = data or max((d for d in sizes if rows * d % hosts == 0), default=1)
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
    if rows * columns % hosts:
        raise UserError(
            f"{hosts} processes cannot share a mesh of {rows}×{columns} devices evenly: make "
            f"replicates={replicates} or train.batch_size={batch_size} a multiple of {hosts}, or "
            "start fewer processes"
        )
    # In the processes' order, not in that of a TPU's torus: jax.make_mesh would spread a process
    # over the mesh (a stream reads whole parts of it), and cannot leave devices idle there.
    grid = np.asarray(_evenly(devices, rows * columns // hosts)).reshape(rows, columns)
    return Mesh(grid, ("replicate", "data"), axis_types=(AxisType.Auto, AxisType.Auto))


def for_run(spec: MeshSpec, replicates: int, batch_size: int, examples: Mapping[str, int]) -> Mesh:
    """The mesh of a config, checked against the data: examples by split.

    Raises:
      UserError: a batch larger than the data, and what `make` refuses.
    """
    if batch_size > examples["train"]:
        raise UserError(
            f"train.batch_size={batch_size} is more than the {examples['train']} training examples"
        )
    return make(replicates, batch_size, **dataclasses.asdict(spec))


def describe(mesh: Mesh) -> dict[str, Any]:
    """What bits depend on: backend, kind of device, sizes of the axes, processes."""
    device = mesh.devices.flat[0]
    hosts = len({device.process_index for device in mesh.devices.flat})
    kind = {"backend": device.platform, "kind": device.device_kind}
    return {**kind, "mesh": dict(mesh.shape), "processes": hosts}


def put(mesh: Mesh, tree: Any, spec: PartitionSpec = REPLICATED) -> Any:
    """The tree on the mesh's devices, whole on each or split by its leading replicate axis.

    Every process has the whole tree and gives its own devices their part of it.
    """
    sharding = NamedSharding(mesh, spec)

    def place(leaf):
        if isinstance(leaf, jax.Array):  # jax.device_put would compare them between processes
            return _identity(sharding)(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda at: leaf[at])

    if processes.count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(place, tree)


def gather(tree: Any) -> Any:
    """The tree with all arrays readable in this process. Does not wait for them.

    All processes must come here: where an array lies on devices of several, it is sent to all.
    """
    leaves = jax.tree.leaves(tree)
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves):
        return tree
    return _identity(NamedSharding(leaves[0].sharding.mesh, REPLICATED))(tree)


def fetch(tree: Any) -> Any:
    """The tree as numpy arrays; see `gather`."""
    return jax.tree.map(np.asarray, gather(tree))


class Own(NamedTuple):
    """What this process has of a mesh."""

    rows: range  # of the replicate axis
    parts: int  # pieces that the data axis falls into by process
    part: int  # which of them


def own(mesh: Mesh) -> Own:
    """This process's rows, and its part of every batch.

    Raises:
      UserError: the devices of a process are no rectangle of the mesh.
    """
    index, width = processes.index(), mesh.shape["data"]
    hosts = np.vectorize(lambda device: device.process_index)(mesh.devices)
    number = np.count_nonzero(hosts == index)
    share, high = min(width, number), max(1, number // width)
    blocks = hosts.reshape(hosts.size // number, -1) if not max(number, width) % share else None
    if blocks is None or (blocks != blocks[:, :1]).any():
        raise UserError(
            f"a stream needs whole rows, or equal parts of one, in each process: mesh.data={width} "
            f"and {number} devices a process do not divide; set mesh.data"
        )
    row, column = np.argwhere(hosts == index)[0].tolist()
    return Own(range(row, row + high), width // share, column // share)


def put_own(mesh: Mesh, tree: Any, spec: PartitionSpec) -> Any:
    """As `put`, where every process has its part of the arrays alone."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree)


def _evenly(devices: Sequence[jax.Device], each: int) -> list[jax.Device]:
    """The first `each` devices of every process, those of a process side by side."""
    own = collections.defaultdict(list)
    for device in devices:
        own[device.process_index].append(device)
    return [device for host in sorted(own) for device in own[host][:each]]


@functools.cache
def _identity(sharding: NamedSharding) -> Callable[[Any], Any]:
    """Compiled once a sharding."""
    return jax.jit(lambda tree: tree, out_shardings=sharding)
