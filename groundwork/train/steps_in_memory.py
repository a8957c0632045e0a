"""Steps and evaluation over a data set that lies on every device, whole.

An epoch is the largest number of whole batches; the examples left over are other ones in every
epoch. Step s takes batch s mod steps_per_epoch of epoch s div steps_per_epoch.
"""

# R replicates (on one device: its share), N examples, B batch

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from groundwork.data import dataset as data_lib
from groundwork.data.dataset import Dataset, Split
from groundwork.devices.mesh import BY_REPLICATE, REPLICATED, put
from groundwork.train.replicates import Form, each, no_counts, sharded
from groundwork.train.step import Batch

EVAL_BATCH = 1000


@dataclasses.dataclass
class Order:
    """The order of the epoch that steps are in. Each call of steps takes it and leaves the next."""

    places: jax.Array  # [R, N] int32


def make(
    train_step: Callable,
    add_batch: Callable,
    dataset: Dataset,
    mesh: Mesh,
    batch_size: int,
    form: Form,
) -> tuple[Callable, Callable, Callable, dict[str, Any]]:
    """`feed`, `run_steps` and `evaluate` of `programs.Programs`, and what is jitted behind them."""
    orders = _orders(dataset)
    epoch_order = sharded(mesh, orders, (BY_REPLICATE, REPLICATED), BY_REPLICATE)
    steps = _make_steps(train_step, orders, dataset, mesh, batch_size, form)
    examples = put(mesh, dataset.train)

    def feed(keys, step):
        epoch = np.int32(step // _steps_per_epoch(dataset, batch_size))
        return contextlib.nullcontext(Order(epoch_order(keys, epoch)))

    def run_steps(state, order, tally, start, stop):
        stride = stop - start if form == "looped" else 1
        for first in range(start, stop, stride):
            span = np.int32(first), np.int32(first + stride)
            state, order.places, tally = steps(state, order.places, tally, examples, *span)
        return state, tally

    evaluate, evaluation = _make_evaluate(add_batch, dataset, mesh, form)
    jitted = {"order": epoch_order, "steps": steps, "eval": evaluation}
    return feed, run_steps, evaluate, jitted


def _make_steps(
    train_step: Callable,
    orders: Callable,
    dataset: Dataset,
    mesh: Mesh,
    batch_size: int,
    form: Form,
) -> Any:
    """(state, order, tally, examples, start, stop) → (state, order, tally)."""
    share = batch_size // mesh.shape["data"]

    def one_step(carry, examples, step):
        """The step of all replicates on this device: its share of each replicate's batch."""
        state, order, tally = carry
        epoch, place = jnp.divmod(step, _steps_per_epoch(dataset, batch_size))
        order = lax.cond(place == 0, lambda: orders(state.key, epoch), lambda: order)
        start = place * batch_size + lax.axis_index("data") * share

        def step_of_one(state, order):
            chosen = lax.dynamic_slice_in_dim(order, start, share)
            inputs = data_lib.normalize(dataset, examples.inputs[chosen])
            batch = Batch(inputs, examples.labels[chosen], jnp.ones(share, bool))
            return train_step(state, batch)

        state, (loss, counts) = each(form)(step_of_one)(state, order)
        return state, order, tally.add(step, loss, counts)

    def some_steps(state, order, tally, examples, start, stop):
        if form == "single":  # `stop` is not used: one step a call
            return one_step((state, order, tally), examples, start)
        carry = state, order, tally
        return lax.fori_loop(start, stop, lambda s, carry: one_step(carry, examples, s), carry)

    carry = (BY_REPLICATE,) * 3
    specs = (*carry, REPLICATED, REPLICATED, REPLICATED)
    return sharded(mesh, some_steps, specs, carry, donate_argnums=(0, 1))


def _make_evaluate(
    add_batch: Callable, dataset: Dataset, mesh: Mesh, form: Form
) -> tuple[Callable, Any]:
    """`evaluate`, and the jitted function behind it."""

    def add_batches(counts, variables, split, first, last):
        """Of a split stored as [batches, B, …]."""

        def add(index, counts):
            return add_batch(counts, variables, *jax.tree.map(lambda a: a[index], split))

        if form == "single":  # `last` is not used: one batch a call
            return add(first, counts)
        return lax.fori_loop(first, last, add, counts)

    by_batch = PartitionSpec(None, "data")
    specs = (BY_REPLICATE, BY_REPLICATE, by_batch, REPLICATED, REPLICATED)
    evaluation = sharded(mesh, add_batches, specs, BY_REPLICATE)
    splits = {
        name: put(mesh, _in_batches(split, mesh.shape["data"]), by_batch)
        for name, split in (("validation", dataset.validation), ("test", dataset.test))
        if len(split.labels)
    }

    def evaluate(variables, name):
        split = splits[name]
        counts = no_counts(mesh, jax.tree.leaves(variables)[0].shape[0])
        batches = split[1].shape[0]
        stride = batches if form == "looped" else 1
        for first in range(0, batches, stride):
            counts = evaluation(counts, variables, split, np.int32(first), np.int32(first + stride))
        return counts

    return evaluate, evaluation


def _steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    return len(dataset.train.labels) // batch_size


def _orders(dataset: Dataset) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(keys [R], epoch) → [R, N]."""
    examples = len(dataset.train.labels)
    return lambda keys, epoch: jax.vmap(lambda key: data_lib.epoch_order(key, epoch, examples))(
        keys
    )


def _in_batches(split: Split, devices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and valid as [batches, B, …]; the last batch is padded, and says so."""
    examples = len(split.labels)
    batches = math.ceil(examples / EVAL_BATCH)
    size = math.ceil(examples / batches / devices) * devices
    padding = batches * size - examples

    def shaped(array: np.ndarray) -> np.ndarray:
        padded = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return padded.reshape(batches, size, *array.shape[1:])

    return shaped(split.inputs), shaped(split.labels), shaped(np.ones(examples, bool))
