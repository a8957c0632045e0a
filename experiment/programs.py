"""The compiled programs of a training run: steps and evaluation, of R replicates, on a mesh.

`step.py` says what happens to one replicate; here it is mapped over replicates, spread over
devices by `shard_map`, and repeated. Two forms compute the same:

* `looped`: many steps a call inside one `fori_loop`, replicates by `vmap`. For dense models, and
  for everything on GPU and TPU.
* `single`: one step a call, replicates unrolled. For convolutions on the CPU backend, which run on
  one slow thread inside a loop and become grouped convolutions under `vmap`.
"""

# R replicates (on one device: its share), N examples, B batch

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from experiment import data as data_lib
from experiment.data import Dataset, Split
from experiment.mesh import BY_REPLICATE, REPLICATED, put
from experiment.step import Batch, Counts, TrainState, make_eval_step, make_loss, make_train_step

Form = Literal["looped", "single"]
EVAL_BATCH = 1000
STRIDE = 50  # steps: a fraction of a second between two looks at the world outside
# Without it, a sum over an axis of one device is compiled as an all-reduce of that device alone.
# JAX calls the switch temporary: where it is gone, results are the same and those are left over.
_one_device_is_no_axis = getattr(
    jax, "remove_size_one_mesh_axis_from_type", lambda on: contextlib.nullcontext()
)
NEVER = np.iinfo(np.int32).max  # the step of the first loss that was not finite, if all were


class Tally(NamedTuple):
    """What some training steps added up to, a replicate an entry."""

    counts: Counts  # of [R]
    first_bad: jax.Array  # [R] int32, first step whose loss was not finite, or NEVER


class Programs(NamedTuple):
    """Compiled functions over trees whose leaves have a leading replicate axis R."""

    init: Callable[[jax.Array], Any]  # keys [R] → variables
    order: Callable[[jax.Array, int], jax.Array]  # keys [R], step → [R, N] int32, of its epoch
    run_steps: Callable[..., tuple[TrainState, jax.Array, Tally]]  # and tally, start, stop
    no_tally: Callable[[int], Tally]  # replicates → the tally of no steps
    stride: int  # the most steps that one call of run_steps should take
    evaluate: Callable[[Any, str], Counts]  # variables, "validation" or "test" → counts of [R]
    jitted: dict[str, Any]  # the jitted functions behind these, for tests that count compilations


def make(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    dataset: Dataset,
    mesh: Mesh,
    *,
    batch_size: int,
    form: Form | None = None,
    stride: int = STRIDE,
) -> Programs:
    """Build the programs. `state` and `order` given to `run_steps` are donated: use its results.

    An epoch is the largest number of whole batches; the examples left over are other ones in
    every epoch. Step s takes batch s mod steps_per_epoch of epoch s div steps_per_epoch.
    """
    example = jnp.zeros((1, *dataset.shape))
    form = form or default_form(model, example)

    def init_all(keys):
        return jax.vmap(lambda key: model.init(key, example))(keys)

    init = _sharded(mesh, init_all, (BY_REPLICATE,), BY_REPLICATE)
    train_step = make_train_step(make_loss(model), optimizer, axis="data")
    run_steps, steps = _make_run_steps(train_step, dataset, mesh, batch_size, form)
    evaluate, evaluation = _make_evaluate(make_eval_step(model), dataset, mesh, form)
    epoch_order = _sharded(mesh, _orders(dataset), (BY_REPLICATE, REPLICATED), BY_REPLICATE)

    def order(keys, step):
        return epoch_order(keys, np.int32(step // _steps_per_epoch(dataset, batch_size)))

    jitted = {"init": init, "order": epoch_order, "steps": steps, "eval": evaluation}
    stride = stride if form == "looped" else 1

    def no_tally(replicates):
        never = put(mesh, np.full(replicates, NEVER, np.int32), BY_REPLICATE)
        return Tally(_no_counts(mesh, replicates), never)

    return Programs(init, order, run_steps, no_tally, stride, evaluate, jitted)


def _make_run_steps(
    train_step: Callable, dataset: Dataset, mesh: Mesh, batch_size: int, form: Form
) -> tuple[Callable[..., tuple[TrainState, jax.Array, Tally]], Any]:
    """`run_steps` of `Programs`, and the jitted function behind it."""
    share = batch_size // mesh.shape["data"]
    epoch_order = _orders(dataset)

    def one_step(carry, examples, step):
        """The step of all replicates on this device: its share of each replicate's batch."""
        state, order, tally = carry
        epoch, place = jnp.divmod(step, _steps_per_epoch(dataset, batch_size))
        order = lax.cond(place == 0, lambda: epoch_order(state.key, epoch), lambda: order)
        start = place * batch_size + lax.axis_index("data") * share

        def step_of_one(state, order):
            chosen = lax.dynamic_slice_in_dim(order, start, share)
            inputs = data_lib.normalize(dataset, examples.images[chosen])
            batch = Batch(inputs, examples.labels[chosen], jnp.ones(share, bool))
            return train_step(state, batch)

        state, (loss, counts) = _each(form)(step_of_one)(state, order)
        bad = jnp.where(jnp.isfinite(loss), NEVER, step)
        counts = jax.tree.map(jnp.add, tally.counts, counts)
        return state, order, Tally(counts, jnp.minimum(tally.first_bad, bad))

    def some_steps(state, order, tally, examples, start, stop):
        if form == "single":  # `stop` is not used: one step a call
            return one_step((state, order, tally), examples, start)
        carry = state, order, tally
        return lax.fori_loop(start, stop, lambda s, carry: one_step(carry, examples, s), carry)

    carry = (BY_REPLICATE,) * 3
    specs = (*carry, REPLICATED, REPLICATED, REPLICATED)
    steps = _sharded(mesh, some_steps, specs, carry, donate_argnums=(0, 1))
    examples = put(mesh, dataset.train)

    def run_steps(state, order, tally, start, stop):
        done = state, order, tally
        stride = stop - start if form == "looped" else 1
        for first in range(start, stop, stride):
            done = steps(*done, examples, np.int32(first), np.int32(first + stride))
        return done

    return run_steps, steps


def _make_evaluate(
    eval_step: Callable, dataset: Dataset, mesh: Mesh, form: Form
) -> tuple[Callable[[Any, str], Counts], Any]:
    """`evaluate` of `Programs`, and the jitted function behind it."""

    def add_batch(counts, variables, split, index):
        """Add batch `index` of a split stored as [batches, B, …]: this device's share of it."""
        images, labels, valid = jax.tree.map(lambda a: a[index], split)
        batch = Batch(data_lib.normalize(dataset, images), labels, valid)
        new = _each(form)(lambda variables: eval_step(variables, batch))(variables)
        return jax.tree.map(lambda old, own: old + lax.psum(own, "data"), counts, new)

    def add_batches(counts, variables, split, first, last):
        if form == "single":  # `last` is not used: one batch a call
            return add_batch(counts, variables, split, first)
        return lax.fori_loop(
            first, last, lambda i, counts: add_batch(counts, variables, split, i), counts
        )

    by_batch = PartitionSpec(None, "data")
    specs = (BY_REPLICATE, BY_REPLICATE, by_batch, REPLICATED, REPLICATED)
    evaluation = _sharded(mesh, add_batches, specs, BY_REPLICATE)
    splits = {
        name: put(mesh, _in_batches(split, mesh.shape["data"]), by_batch)
        for name, split in (("validation", dataset.validation), ("test", dataset.test))
        if len(split.labels)
    }

    def evaluate(variables, name):
        split = splits[name]
        counts = _no_counts(mesh, jax.tree.leaves(variables)[0].shape[0])
        batches = split[1].shape[0]
        stride = batches if form == "looped" else 1
        for first in range(0, batches, stride):
            counts = evaluation(counts, variables, split, np.int32(first), np.int32(first + stride))
        return counts

    return evaluate, evaluation


def default_form(model: nn.Module, example: jax.Array) -> Form:
    """`single` for a model with convolutions on the CPU backend, `looped` otherwise."""
    if jax.default_backend() != "cpu":
        return "looped"
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    trace = jax.make_jaxpr(model.apply)(variables, example)
    return "single" if "conv_general_dilated" in str(trace) else "looped"


def _sharded(mesh: Mesh, function: Callable, in_specs: Any, out_specs: Any, **options: Any) -> Any:
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)

    @functools.wraps(function)
    def on_mesh(*args):
        with _one_device_is_no_axis(True):
            return mapped(*args)

    return jax.jit(on_mesh, **options)


def _steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    return len(dataset.train.labels) // batch_size


def _orders(dataset: Dataset) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(keys [R], epoch) → [R, N]."""
    examples = len(dataset.train.labels)
    return lambda keys, epoch: jax.vmap(lambda key: data_lib.epoch_order(key, epoch, examples))(
        keys
    )


def _no_counts(mesh: Mesh, replicates: int) -> Counts:
    dtypes = (np.float32, np.int32, np.int32)
    return Counts(*(put(mesh, np.zeros(replicates, dtype), BY_REPLICATE) for dtype in dtypes))


def _each(form: Form) -> Callable[[Callable], Callable]:
    """How a function of one replicate is mapped over them."""
    return jax.vmap if form == "looped" else _unrolled


def _unrolled(function: Callable) -> Callable:
    """As `jax.vmap(function)`, but one copy of the function a replicate."""

    def mapped(*trees):
        replicates = jax.tree.leaves(trees)[0].shape[0]
        rows = [function(*jax.tree.map(lambda a, r=r: a[r], trees)) for r in range(replicates)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

    return mapped


def _in_batches(split: Split, devices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and valid as [batches, B, …]; the last batch is padded, and says so."""
    examples = len(split.labels)
    batches = math.ceil(examples / EVAL_BATCH)
    size = math.ceil(examples / batches / devices) * devices
    padding = batches * size - examples

    def shaped(array: np.ndarray) -> np.ndarray:
        padded = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return padded.reshape(batches, size, *array.shape[1:])

    return shaped(split.images), shaped(split.labels), shaped(np.ones(examples, bool))
