"""How a function of one replicate is mapped over the replicates of a device and over the mesh.

Two forms compute the same:

* `looped`: many steps per call inside one `fori_loop`, and replicates by `vmap`. It serves dense
  models, everything on GPU and TPU, and convolutions that a library computes on the CPU.
* `single`: one step per call, and replicates unrolled. It serves XLA's own convolutions on the CPU,
  which run on one slow thread inside a loop and become grouped convolutions under `vmap`.
"""

# R replicates (on one device: its share of them), B batch

import contextlib
import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from groundwork import trees as trees_lib
from groundwork.devices.mesh import BY_REPLICATE, REPLICATED, put
from groundwork.train.losses import Counts
from groundwork.train.step import NEVER, Model, Tally, TrainState

Form = Literal["looped", "single"]
Mapper = Callable[[Callable[..., Any]], Callable[..., Any]]
# At a higher level LLVM spends 0.2 s on the random numbers of every layer.
QUICKLY = {"xla_backend_optimization_level": 1}
# This switch keeps a sum over an axis of one device from being compiled as an all-reduce. JAX calls
# it temporary; without it the results are the same, and only the speed differs.
_one_device_is_no_axis = getattr(
    jax, "remove_size_one_mesh_axis_from_type", lambda on: contextlib.nullcontext()
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """The step of one replicate and how it is mapped: all that compiled programs are made of."""

    train_step: Callable[..., tuple[TrainState, Any]]  # see `step.make_train_step`
    add_batch: Callable[..., Counts]  # counts [R], variables [R, …], inputs, labels, valid → counts
    measures: Mapping[str, Any]  # name → dtype of what is counted beside the loss
    mesh: Mesh
    batch_size: int  # of the whole batch, on all devices
    form: Form

    def no_counts(self, replicates: int) -> Counts:
        """Returns counts of zero, whose leaves are [R]."""
        zeros = functools.partial(_filled, self.mesh, replicates, 0)
        measures = {name: zeros(dtype) for name, dtype in self.measures.items()}
        return Counts(zeros(np.float32), zeros(np.int32), measures)

    def no_tally(self, replicates: int) -> Tally:
        """Returns the tally of no steps."""
        return Tally(self.no_counts(replicates), _filled(self.mesh, replicates, NEVER, np.int32))


def default_form(model: Model, example: jax.Array) -> Form:
    """Returns `single` for a model with convolutions that XLA computes on the CPU, else `looped`.

    The lowered model shows it, since a convolution that a library computes is a call there.
    """
    if jax.default_backend() != "cpu":
        return "looped"
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    lowered = jax.jit(model.apply).lower(variables, example)
    return "single" if "stablehlo.convolution" in lowered.as_text() else "looped"


def sharded(
    mesh: Mesh, function: Callable[..., Any], in_specs: Any, out_specs: Any, **options: Any
) -> Any:
    """Returns a function, which sees one device's part of its arguments, compiled for the mesh."""
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)

    @functools.wraps(function)
    def on_mesh(*args: Any) -> Any:
        with _one_device_is_no_axis(True):
            return mapped(*args)

    return jax.jit(on_mesh, **options)


def each_replicate(
    mesh: Mesh, function: Callable[..., Any], shared: int = 0, once: bool = False
) -> Any:
    """Returns a function of one replicate, mapped over its arguments' leading axis and compiled.

    Its last `shared` arguments are the same for all replicates. With `once`, it is called so
    rarely that compiling it quickly matters more than its speed.
    """
    arguments = len(inspect.signature(function).parameters) - shared
    mapped = jax.vmap(function, in_axes=(0,) * arguments + (None,) * shared)
    specs = (BY_REPLICATE,) * arguments + (REPLICATED,) * shared
    options = {"compiler_options": quickly()} if once else {}
    return sharded(mesh, mapped, specs, BY_REPLICATE, **options)


def quickly() -> dict[str, Any] | None:
    """Returns the compiler's options for what is called so rarely that its speed matters less.

    A level that the environment's XLA_FLAGS ask for stays.
    """
    asked = any(option in os.environ.get("XLA_FLAGS", "") for option in QUICKLY)
    return QUICKLY if jax.default_backend() == "cpu" and not asked else None


def each(form: Form) -> Mapper:
    """Returns the map of a function of one replicate over the replicates of a device."""
    return jax.vmap if form == "looped" else _unrolled


def _filled(mesh: Mesh, replicates: int, value: int, dtype: Any) -> jax.Array:
    return put(mesh, np.full(replicates, value, dtype), BY_REPLICATE)


def _unrolled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `jax.vmap(function)`, but with one copy of the function per replicate."""

    def mapped(*trees: Any) -> Any:
        count = trees_lib.replicates(trees)
        results = [function(*trees_lib.replicate(trees, index)) for index in range(count)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return mapped
