"""Devices as a mesh with the axes ('replicate', 'data'). One device is the 1×1 mesh."""

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
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
    """The config's `mesh` section: devices along each axis; 0 means that we choose."""

    replicate: int
    data: int


def make(
    replicates: int,
    batch_size: int,
    *,
    replicate: int = 0,
    data: int = 0,
    whole: bool = False,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Returns a mesh for `replicates` networks, each trained on batches of `batch_size`.

    Devices that are left over stay idle, equally many in each process. Those of a slice, where a
    job has several, lie side by side: what crosses between slices is the data axis alone, and only
    where there are fewer rows of replicates than slices.

    Args:
      replicates: R.
      batch_size: of one replicate, over all devices.
      replicate: devices along the axis `replicate`, which divide R; 0 means that we choose. By
        default the axes are the pair of divisors that uses most devices; among equals, the one with
        most replicates apart, since they cost no communication.
      data: devices along the axis `data`, which divide the batch; likewise.
      whole: choose only pairs that give each process whole rows or equal parts of one, as streams
        need (see `share_of_process`), if there are any.
      devices: those that there are; by default all of JAX's.

    Raises:
      UserError: an explicit size does not divide, there are too few devices, or the processes
        cannot have equally many of them.
    """
    devices = jax.devices() if devices is None else devices
    held = collections.Counter(device.process_index for device in devices)
    hosts, devices = len(held), _evenly(devices, min(held.values()))
    check_size("mesh.replicate", replicate or 1, "replicates", replicates, len(devices))
    check_size("mesh.data", data or 1, "train.batch_size", batch_size, len(devices))
    pairs = itertools.product(
        [replicate] if replicate else _divisors(replicates, len(devices)),
        [data] if data else _divisors(batch_size, len(devices)),
    )

    def worth(pair: tuple[int, int]) -> tuple[int, ...]:
        used = math.prod(pair)
        if used > len(devices):
            return (0, -used)
        each, uneven = divmod(used, hosts)
        fits = not uneven and not (whole and pair[1] % each and each % pair[1])
        return (1, not uneven, fits, used, pair[0])

    rows, columns = max(pairs, key=worth)
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
    # The order is that of the processes. jax.make_mesh takes that of a TPU's torus, which spreads
    # a process over the mesh (a stream needs whole parts of it), and cannot leave devices idle.
    grid = np.asarray(_evenly(devices, rows * columns // hosts)).reshape(rows, columns)
    return Mesh(grid, ("replicate", "data"), axis_types=(AxisType.Auto, AxisType.Auto))


def check_size(key: str, size: int, total_key: str, total: int, devices: int = 0) -> None:
    """Checks that the size of an axis divides a total; `devices` is 0 for all that JAX has.

    Raises:
      UserError: it does not; the error has those that do.
    """
    if size < 1 or total % size:
        divisors = _divisors(total, devices or jax.device_count())
        raise UserError(f"{key}={size} does not divide {total_key}={total}; these do: {divisors}")


def _divisors(total: int, most: int) -> list[int]:
    return [size for size in range(1, most + 1) if total % size == 0]


def describe(mesh: Mesh) -> dict[str, Any]:
    """Returns what bits depend on: backend, kind of device, sizes of the axes and processes."""
    device = mesh.devices.flat[0]
    hosts = len({device.process_index for device in mesh.devices.flat})
    kind = {"backend": device.platform, "kind": device.device_kind}
    return {**kind, "mesh": dict(mesh.shape), "processes": hosts}


def put(mesh: Mesh, tree: Any, spec: PartitionSpec = REPLICATED) -> Any:
    """Returns the tree on the mesh's devices, whole on each or split by its leading axis.

    Every process has the whole tree, and gives its devices their part.
    """
    sharding = NamedSharding(mesh, spec)

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array):  # jax.device_put would compare them between processes
            return _identity(sharding)(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda at: leaf[at])

    if processes.count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(place, tree)


def gather(tree: Any) -> Any:
    """Returns the tree with all arrays readable in this process, without waiting for them.

    All processes must call it, since an array on devices of several is sent to all of them.
    """
    leaves = jax.tree.leaves(tree)
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves):
        return tree
    return _identity(NamedSharding(leaves[0].sharding.mesh, REPLICATED))(tree)


def fetch(tree: Any) -> Any:
    """Returns the tree as numpy arrays; see `gather`."""
    return jax.tree.map(np.asarray, gather(tree))


def replicated(tree: Any) -> Any:
    """Returns the tree with all arrays whole in every process (all processes); see `gather`."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    shardings = [leaf.sharding for leaf in arrays if not leaf.is_fully_addressable]
    if not shardings:
        return tree
    assert isinstance(shardings[0], NamedSharding)  # as `put` makes them
    return _identity(NamedSharding(shardings[0].mesh, REPLICATED))(tree)


class Share(NamedTuple):
    """The part of a mesh that one process has."""

    rows: range  # of the replicate axis
    parts: int  # the number of pieces into which the processes cut the data axis
    part: int  # which of these pieces it has


def share_of_process(mesh: Mesh) -> Share:
    """Returns this process's rows, and its part of every batch.

    Raises:
      UserError: the devices of a process do not form a rectangle of the mesh.
    """
    width = mesh.shape["data"]
    process_of = np.vectorize(lambda device: device.process_index)(mesh.devices)
    devices = int(np.count_nonzero(process_of == processes.index()))
    if not _are_rectangles(process_of, devices):
        raise UserError(
            f"a stream needs whole rows, or equal parts of one, in each process: mesh.data={width} "
            f"and {devices} devices per process do not divide; set mesh.data"
        )
    row, column = np.argwhere(process_of == processes.index())[0].tolist()
    columns, rows = min(width, devices), max(1, devices // width)
    return Share(range(row, row + rows), width // columns, column // columns)


def _are_rectangles(process_of: np.ndarray, devices: int) -> bool:
    """Whether each process has whole rows of the grid [replicate, data], or equal parts of one."""
    width = process_of.shape[1]
    if width % devices and devices % width:
        return False
    runs = process_of.reshape(-1, devices)  # one run of devices per process, row by row
    return bool((runs == runs[:, :1]).all())


def put_share(mesh: Mesh, tree: Any, spec: PartitionSpec) -> Any:
    """Like `put`, but each process has only its share of the arrays."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree)


def _evenly(devices: Sequence[jax.Device], each: int) -> list[jax.Device]:
    """Returns the first `each` devices of every process, slice by slice, process by process."""
    by_process = collections.defaultdict(list)
    for device in devices:
        slice_index = getattr(device, "slice_index", 0)  # which TPUs alone have
        by_process[slice_index, device.process_index].append(device)
    return [device for process in sorted(by_process) for device in by_process[process][:each]]


@functools.cache
def _identity(sharding: NamedSharding) -> Callable[[Any], Any]:
    """Returns a jitted function, compiled once per sharding."""
    return jax.jit(lambda tree: tree, out_shardings=sharding)
