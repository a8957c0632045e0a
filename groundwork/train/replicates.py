"""A function of one replicate, mapped over the replicates of a device and over the mesh.

Two forms compute the same:

* `looped`: many steps a call inside one `fori_loop`, replicates by `vmap`. For dense models, for
  everything on GPU and TPU, and for convolutions that a library computes on the CPU.
* `single`: one step a call, replicates unrolled. For XLA's own convolutions on the CPU, which run
  on one slow thread inside a loop and become grouped convolutions under `vmap`.
"""

# R replicates (on one device: its share)

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from groundwork.devices.mesh import BY_REPLICATE, REPLICATED, put
from groundwork.train.step import NEVER, Counts, Model, Tally

Form = Literal["looped", "single"]
# LLVM spends a fifth of a second on the random numbers of every layer otherwise.
QUICKLY = {"xla_backend_optimization_level": 1}
# Without it, a sum over an axis of one device is compiled as an all-reduce of that device alone.
# JAX calls the switch temporary: where it is gone, results are the same and those are left over.
_one_device_is_no_axis = getattr(
    jax, "remove_size_one_mesh_axis_from_type", lambda on: contextlib.nullcontext()
)


def default_form(model: Model, example: jax.Array) -> Form:
    """`single` for a model with convolutions that XLA computes on the CPU, `looped` otherwise.

    What the model lowers to decides: a convolution that a library computes is a call of it there.
    """
    if jax.default_backend() != "cpu":
        return "looped"
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    lowered = jax.jit(model.apply).lower(variables, example)
    return "single" if "stablehlo.convolution" in lowered.as_text() else "looped"


def sharded(mesh: Mesh, function: Callable, in_specs: Any, out_specs: Any, **options: Any) -> Any:
    """The function of each device's own part, compiled for all."""
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)

    @functools.wraps(function)
    def on_mesh(*args):
        with _one_device_is_no_axis(True):
            return mapped(*args)

    return jax.jit(on_mesh, **options)


def each_replicate(mesh: Mesh, function: Callable, shared: int = 0, once: bool = False) -> Any:
    """The function of one replicate mapped over the leading axis of its arguments, compiled.

    Its last `shared` arguments are the same for all replicates. Nothing crosses replicates.
    `once`: it is called so seldom that compiling it fast matters, not what it takes then.
    """
    own = len(inspect.signature(function).parameters) - shared
    mapped = jax.vmap(function, in_axes=(0,) * own + (None,) * shared)
    specs = (BY_REPLICATE,) * own + (REPLICATED,) * shared
    options = {"compiler_options": QUICKLY} if once and jax.default_backend() == "cpu" else {}
    return sharded(mesh, mapped, specs, BY_REPLICATE, **options)


def each(form: Form) -> Callable[[Callable], Callable]:
    """How a function of one replicate is mapped over them."""
    return jax.vmap if form == "looped" else _unrolled


def no_counts(mesh: Mesh, replicates: int) -> Counts:
    """Zeros, [R]."""
    dtypes = (np.float32, np.int32, np.int32)
    return Counts(*(put(mesh, np.zeros(replicates, dtype), BY_REPLICATE) for dtype in dtypes))


def no_tally(mesh: Mesh, replicates: int) -> Tally:
    """The tally of no steps."""
    never = put(mesh, np.full(replicates, NEVER, np.int32), BY_REPLICATE)
    return Tally(no_counts(mesh, replicates), never)


def _unrolled(function: Callable) -> Callable:
    """As `jax.vmap(function)`, but one copy of the function a replicate."""

    def mapped(*trees):
        replicates = jax.tree.leaves(trees)[0].shape[0]
        rows = [function(*jax.tree.map(lambda a, r=r: a[r], trees)) for r in range(replicates)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

    return mapped
