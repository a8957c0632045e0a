"""The compiled programs of a training run: steps and evaluation, of R replicates, on a mesh.

`step.py` says what happens to one replicate; here it is mapped over replicates, spread over
devices by `shard_map`, and repeated. Two forms compute the same:

* `looped`: many steps a call inside one `fori_loop`, replicates by `vmap`. For dense models, and
  for everything on GPU and TPU.
* `single`: one step a call, replicates unrolled. For convolutions on the CPU backend, which run on
  one slow thread inside a loop and become grouped convolutions under `vmap`.
"""

# R replicates (on one device: its share), N examples, B batch

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh

from experiment import data as data_lib
from experiment.data import Dataset, Split
from experiment.mesh import BY_REPLICATE, REPLICATED, put
from experiment.step import Batch, Counts, TrainState, make_eval_step, make_loss, make_train_step

EVAL_BATCH = 1000
NEVER = np.iinfo(np.int32).max  # the step of the first loss that was not finite, if all were


class Tally(NamedTuple):
    """What some training steps added up to, a replicate an entry."""

    counts: Counts  # of [R]
    first_bad: jax.Array  # [R] int32, first step whose loss was not finite, or NEVER


class Programs(NamedTuple):
    """Compiled functions over trees whose leaves have a leading replicate axis R."""

    init: Callable[[jax.Array], Any]  # keys [R] → variables
    order: Callable[[jax.Array, int], jax.Array]  # keys [R], step → [R, N] int32, of its epoch
    run_steps: Callable[..., tuple[TrainState, jax.Array, Tally]]  # state, order, start, stop
    evaluate: Callable[[Any, str], Counts]  # variables, "validation" or "test" → counts of [R]
    jitted: dict[str, Any]  # the jitted functions behind these, for tests that count compilations


def make(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    dataset: Dataset,
    mesh: Mesh,
    *,
    batch_size: int,
    form: Literal["looped", "single"] | None = None,
) -> Programs:
    """Build the programs. `state` and `order` given to `run_steps` are donated: use its results.

    An epoch is the largest number of whole batches; the examples left over are other ones in
    every epoch. Step s takes batch s mod steps_per_epoch of epoch s div steps_per_epoch.
    """
    n_train = len(dataset.train.labels)
    steps_per_epoch = n_train // batch_size
    example = jnp.zeros((1, *dataset.shape))
    form = form or default_form(model, example)
    each = _vmapped if form == "looped" else _unrolled
    share = batch_size // mesh.shape["data"]
    train_step = make_train_step(make_loss(model), optimizer, axis="data")
    eval_step = make_eval_step(model)

    def sharded(function, in_specs, out_specs, **options):
        mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
        return jax.jit(mapped, **options)

    def epoch_order(keys, epoch):
        return jax.vmap(lambda key: data_lib.epoch_order(key, epoch, n_train))(keys)

    def one_step(carry, examples, step):
        """The step of all replicates on this device: its share of each replicate's batch."""
        state, order, tally = carry
        epoch, place = step // steps_per_epoch, step % steps_per_epoch
        order = lax.cond(place == 0, lambda: epoch_order(state.key, epoch), lambda: order)
        start = place * batch_size + lax.axis_index("data") * share

        def step_of_one(state, order):
            chosen = lax.dynamic_slice_in_dim(order, start, share)
            inputs = data_lib.normalize(dataset, examples.images[chosen])
            batch = Batch(inputs, examples.labels[chosen], jnp.ones(share, bool))
            return train_step(state, batch)

        state, (loss, counts) = each(step_of_one)(state, order)
        bad = jnp.where(jnp.isfinite(loss), NEVER, step)
        counts = jax.tree.map(jnp.add, tally.counts, counts)
        return state, order, Tally(counts, jnp.minimum(tally.first_bad, bad))

    def steps(state, order, tally, examples, start, stop):
        return lax.fori_loop(
            start, stop, lambda step, carry: one_step(carry, examples, step), (state, order, tally)
        )

    def eval_batch(variables, split, index):
        """Batch `index` of a split stored as [batches, B, …], this device's share of it."""
        images, labels, valid = jax.tree.map(lambda a: a[index], split)
        batch = Batch(data_lib.normalize(dataset, images), labels, valid)
        counts = each(lambda variables: eval_step(variables, batch))(variables)
        return jax.tree.map(lambda a: lax.psum(a, "data"), counts)

    def eval_split(variables, split, zeros):
        batches = split[1].shape[0]

        def add(index, counts):
            return jax.tree.map(jnp.add, counts, eval_batch(variables, split, index))

        return lax.fori_loop(0, batches, add, zeros)

    by_replicate, whole = BY_REPLICATE, REPLICATED
    carry = (by_replicate, by_replicate, by_replicate)
    batches_of = jax.sharding.PartitionSpec(None, "data")
    jitted = {
        "init": sharded(
            lambda keys: jax.vmap(lambda key: model.init(key, example))(keys),
            (by_replicate,),
            by_replicate,
        ),
        "order": sharded(epoch_order, (by_replicate, whole), by_replicate),
    }
    training = put(mesh, dataset.train)
    splits = {
        name: put(mesh, _in_batches(split, mesh.shape["data"]), batches_of)
        for name, split in (("validation", dataset.validation), ("test", dataset.test))
        if len(split.labels)
    }
    if form == "looped":
        jitted["steps"] = sharded(
            steps, (*carry, whole, whole, whole), carry, donate_argnums=(0, 1, 2)
        )
        jitted["eval"] = sharded(eval_split, (by_replicate, batches_of, by_replicate), by_replicate)
    else:
        jitted["steps"] = sharded(
            lambda state, order, tally, examples, step: one_step(
                (state, order, tally), examples, step
            ),
            (*carry, whole, whole),
            carry,
            donate_argnums=(0, 1, 2),
        )
        jitted["eval"] = sharded(eval_batch, (by_replicate, batches_of, whole), by_replicate)

    def zeros(replicates: int) -> Counts:
        dtypes = (np.float32, np.int32, np.int32)
        zeros = [put(mesh, np.zeros(replicates, dtype), by_replicate) for dtype in dtypes]
        return Counts(*zeros)

    def run_steps(state, order, start, stop):
        replicates = state.step.shape[0]
        never = put(mesh, np.full(replicates, NEVER, np.int32), by_replicate)
        done = (state, order, Tally(zeros(replicates), never))
        if form == "looped":
            return jitted["steps"](*done, training, np.int32(start), np.int32(stop))
        for step in range(start, stop):
            done = jitted["steps"](*done, training, np.int32(step))
        return done

    def evaluate(variables, name):
        total = zeros(jax.tree.leaves(variables)[0].shape[0])
        if form == "looped":
            return jitted["eval"](variables, splits[name], total)
        for index in range(splits[name][1].shape[0]):
            counts = jitted["eval"](variables, splits[name], np.int32(index))
            total = jax.tree.map(jnp.add, total, counts)
        return total

    def order(keys, step):
        return jitted["order"](keys, np.int32(step // steps_per_epoch))

    return Programs(jitted["init"], order, run_steps, evaluate, jitted)


def default_form(model: nn.Module, example: jax.Array) -> Literal["looped", "single"]:
    """`single` for a model with convolutions on the CPU backend, `looped` otherwise."""
    if jax.default_backend() != "cpu":
        return "looped"
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    trace = jax.make_jaxpr(model.apply)(variables, example)
    return "single" if "conv_general_dilated" in str(trace) else "looped"


def _vmapped(function: Callable) -> Callable:
    return jax.vmap(function)


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
