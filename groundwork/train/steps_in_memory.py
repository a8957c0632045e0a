"""Steps and evaluation over a data set that lies whole on every device.

An epoch has as many whole batches as possible; each epoch leaves out other examples. Step s takes
batch s mod steps_per_epoch of epoch s div steps_per_epoch.
"""

# R replicates (on one device: its share of them), N examples, B batch

import contextlib
import dataclasses
import functools
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
from groundwork.train.losses import Counts
from groundwork.train.replicates import Steps, each, each_replicate, sharded
from groundwork.train.step import Batch, Tally, TrainState
from groundwork.trees import Variables, replicates

EVAL_BATCH = 1000
Orders = Callable[[jax.Array, jax.Array], jax.Array]  # keys [R], epoch → orders [R, N]


@dataclasses.dataclass
class Order:
    """The order of the current epoch, which each call of steps takes and replaces."""

    places: jax.Array  # [R, N] int32
    waited_seconds: float = 0.0  # nothing is read while it trains


def make(steps: Steps, dataset: Dataset) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Returns `feed`, `run_steps` and `evaluate` of `programs.Programs`, and what they jit."""
    orders = _orders(dataset)
    epoch_order = _epoch_order(steps.mesh, dataset.examples["train"])
    some_steps = _make_steps(steps, orders, dataset)
    examples = put(steps.mesh, dataset.train)

    def feed(keys: jax.Array, step: int) -> contextlib.nullcontext[Order]:
        epoch = np.int32(step // _steps_per_epoch(dataset, steps.batch_size))
        return contextlib.nullcontext(Order(epoch_order(keys, epoch)))

    def run_steps(
        state: TrainState, order: Order, tally: Tally, start: int, stop: int
    ) -> tuple[TrainState, Tally]:
        stride = stop - start if steps.form == "looped" else 1
        for first in range(start, stop, stride):
            span = np.int32(first), np.int32(first + stride)
            state, order.places, tally = some_steps(state, order.places, tally, examples, *span)
        return state, tally

    evaluate, evaluation = _make_evaluate(steps, dataset)
    jitted = {"order": epoch_order, "steps": some_steps, "eval": evaluation}
    return feed, run_steps, evaluate, jitted


def _make_steps(steps: Steps, orders: Orders, dataset: Dataset) -> Any:
    """Returns (state, order, tally, examples, start, stop) → (state, order, tally)."""
    share = steps.batch_size // steps.mesh.shape["data"]
    Carry = tuple[TrainState, jax.Array, Tally]

    def some_steps(
        state: TrainState,
        order: jax.Array,
        tally: Tally,
        examples: Split,
        start: jax.Array,
        stop: jax.Array,
    ) -> Carry:
        def one_step(step: jax.Array, carry: Carry) -> Carry:
            """The step of this device: all its replicates, and its share of their batches."""
            state, order, tally = carry
            epoch, place = jnp.divmod(step, _steps_per_epoch(dataset, steps.batch_size))
            order = lax.cond(place == 0, lambda: orders(state.key, epoch), lambda: order)
            first = place * steps.batch_size + lax.axis_index("data") * share

            def step_of_one(state: TrainState, order: jax.Array) -> tuple[TrainState, Any]:
                chosen = lax.dynamic_slice_in_dim(order, first, share)
                inputs, labels = jax.tree.map(lambda leaf: leaf[chosen], tuple(examples))
                inputs = data_lib.normalize(dataset, inputs)
                return steps.train_step(state, Batch(inputs, labels, jnp.ones(share, bool)))

            state, (loss, counts) = each(steps.form)(step_of_one)(state, order)
            return state, order, tally.add(step, loss, counts)

        carry = state, order, tally
        if steps.form == "single":  # one step per call, so `stop` is not needed
            return one_step(start, carry)
        return lax.fori_loop(start, stop, one_step, carry)

    carry = (BY_REPLICATE,) * 3
    specs = (*carry, REPLICATED, REPLICATED, REPLICATED)
    return sharded(steps.mesh, some_steps, specs, carry, donate_argnums=(0, 1))


def _make_evaluate(steps: Steps, dataset: Dataset) -> tuple[Callable[..., Counts], Any]:
    """Returns `evaluate`, and the jitted function in it."""

    def add_batches(
        counts: Counts, variables: Variables, split: Any, first: jax.Array, last: jax.Array
    ) -> Counts:
        """Adds the batches first … last - 1 of a split that is stored as [batches, B, …]."""

        def add(index: jax.Array, counts: Counts) -> Counts:
            batch = jax.tree.map(lambda leaf: leaf[index], split)
            return steps.add_batch(counts, variables, *batch)

        if steps.form == "single":  # one batch per call, so `last` is not needed
            return add(first, counts)
        return lax.fori_loop(first, last, add, counts)

    by_batch = PartitionSpec(None, "data")
    specs = (BY_REPLICATE, BY_REPLICATE, by_batch, REPLICATED, REPLICATED)
    evaluation = sharded(steps.mesh, add_batches, specs, BY_REPLICATE)
    splits = {
        name: put(steps.mesh, _in_batches(split, steps.mesh.shape["data"]), by_batch)
        for name, split in (("validation", dataset.validation), ("test", dataset.test))
        if dataset.examples[name]
    }

    def evaluate(variables: Variables, name: str) -> Counts:
        split = splits[name]
        counts = steps.no_counts(replicates(variables))
        batches = len(split[2])
        stride = batches if steps.form == "looped" else 1
        for first in range(0, batches, stride):
            counts = evaluation(counts, variables, split, np.int32(first), np.int32(first + stride))
        return counts

    return evaluate, evaluation


def _steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    return dataset.examples["train"] // batch_size


@functools.lru_cache(maxsize=8)
def _epoch_order(mesh: Mesh, examples: int) -> Any:
    """Returns keys [R], epoch → orders [R, N], which is compiled once for all networks of a run."""

    def order(key: jax.Array, epoch: jax.Array) -> jax.Array:
        return data_lib.epoch_order(key, epoch, examples)

    return each_replicate(mesh, order, shared=1, once=True)


def _orders(dataset: Dataset) -> Orders:
    examples = dataset.examples["train"]
    return lambda keys, epoch: jax.vmap(lambda key: data_lib.epoch_order(key, epoch, examples))(
        keys
    )


def _in_batches(split: Split, devices: int) -> tuple[Any, Any, np.ndarray]:
    """Returns inputs, labels and valid as [batches, B, …]; the last batch is padded."""
    examples = len(jax.tree.leaves(split.labels)[0])
    batches = math.ceil(examples / EVAL_BATCH)
    size = math.ceil(examples / batches / devices) * devices
    padding = batches * size - examples

    def shaped(array: np.ndarray) -> np.ndarray:
        padded = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return padded.reshape(batches, size, *array.shape[1:])

    return jax.tree.map(shaped, (split.inputs, split.labels, np.ones(examples, bool)))
