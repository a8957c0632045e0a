"""What training needs at least, from shapes alone, against the memory of the devices."""

from typing import Any

import jax
import jax.numpy as jnp

from groundwork.devices import memory, processes
from groundwork.train import optim
from groundwork.train.optim import OptimizerSpec
from groundwork.trees import Shapes


def check(what: str, shapes: Shapes, optimizer: OptimizerSpec, replicates: int) -> None:
    """Refuses networks whose weights and optimiser state alone exceed all devices' memory.

    Args:
      what: the keys of the config that say how wide the network is, such as `model`.
      shapes: of the variables of one network.
      optimizer: of the config.
      replicates: R.

    Raises:
      UserError: they cannot fit.
    """
    begin = optim.make(optimizer, 1).init
    moments = jax.eval_shape(begin, shapes["params"])
    needed = replicates * (in_bytes(shapes) + in_bytes(moments))
    there, where = of_devices(), "the devices have"
    if there is None:
        machines = processes.count()  # at most, since one may run several of them
        there = memory.of_machine() * machines
        where = "this machine has" if machines == 1 else f"{machines} machines like this have"
    memory.check(f"replicates={replicates} of {what}", needed, there, where)


def in_bytes(tree: Any) -> int:
    """Returns the bytes of a tree of arrays or shapes."""
    return sum(leaf.size * _width(leaf.dtype) for leaf in jax.tree.leaves(tree))


def of_devices() -> int | None:
    """Returns the bytes of all devices; None if they have no memory of their own, or do not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    return limit * jax.device_count() if limit else None


def _width(dtype: Any) -> int:
    """Returns the bytes of one number; keys of random numbers have at least 1."""
    return dtype.itemsize if jnp.issubdtype(dtype, jnp.number) else 1
