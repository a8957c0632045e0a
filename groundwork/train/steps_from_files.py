"""Steps and evaluation over a data set that is read as it is needed: one batch, one call.

Every process reads its own replicates' share of each batch, ahead of the device.
"""

# R replicates (on one device: its share), B batch

import contextlib
import dataclasses
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from groundwork import keys as keys_lib
from groundwork.data import dataset as data_lib
from groundwork.data.file_dataset import FileDataset
from groundwork.data.loader import eval_batches, prefetch, train_batches
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.mesh import BY_REPLICATE, REPLICATED
from groundwork.train.replicates import Form, each, no_counts, sharded
from groundwork.train.step import Batch

SPLIT = PartitionSpec("replicate", "data")
SHARED = PartitionSpec("data")


def make(
    train_step: Callable,
    add_batch: Callable,
    streams: FileDataset,
    mesh: Mesh,
    batch_size: int,
    form: Form,
) -> tuple[Callable, Callable, Callable, dict[str, Any]]:
    """`feed`, `run_steps` and `evaluate` of `programs.Programs`, and what is jitted behind them."""

    def one_step(state, tally, images, labels, step):
        def step_of_one(state, images, labels):
            inputs = data_lib.normalize(streams, images)
            return train_step(state, Batch(inputs, labels, jnp.ones(len(labels), bool)))

        state, (loss, counts) = each(form)(step_of_one)(state, images, labels)
        return state, tally.add(step, loss, counts)

    specs = (BY_REPLICATE, BY_REPLICATE, SPLIT, SPLIT, REPLICATED)
    steps = sharded(mesh, one_step, specs, (BY_REPLICATE,) * 2, donate_argnums=0)

    def run_steps(state, feed, tally, start, stop):
        for step in range(start, stop):
            state, tally = steps(state, tally, *next(feed), np.int32(step))
        return state, tally

    evaluate, evaluation = _make_evaluate(add_batch, streams, mesh, batch_size)
    feed = _make_feed(streams, mesh, batch_size)
    return feed, run_steps, evaluate, {"steps": steps, "eval": evaluation}


def split_batches(streams: FileDataset, mesh: Mesh, name: str, batch_size: int) -> Generator:
    """Images, labels and valid [B, …] of one batch of a split after another, on the devices."""
    own = mesh_lib.own(mesh)
    spec = dataclasses.replace(streams.spec, workers=0)  # processes take seconds to start
    share = {"batch_size": batch_size, "parts": own.parts, "part": own.part}
    batches = eval_batches(streams, spec, name, **share)
    return prefetch(batches, lambda batch: mesh_lib.put_own(mesh, batch, SHARED))


def _make_feed(streams: FileDataset, mesh: Mesh, batch_size: int) -> Callable:
    """(keys [R], step) → an iterator over (images [R, B, …], labels [R, B]) on the devices."""
    own = mesh_lib.own(mesh)

    def feed(keys, step):
        each_row = len(keys) // mesh.shape["replicate"]
        seeds = [_seed(words) for words in mesh_lib.fetch(_order_words(keys))]
        seeds = seeds[own.rows.start * each_row : own.rows.stop * each_row]
        share = {"batch_size": batch_size, "parts": own.parts, "part": own.part}
        batches = train_batches(streams, streams.spec, seeds, step, **share)
        return contextlib.closing(
            prefetch(batches, lambda batch: mesh_lib.put_own(mesh, batch, SPLIT))
        )

    return feed


def _make_evaluate(
    add_batch: Callable, streams: FileDataset, mesh: Mesh, batch_size: int
) -> tuple[Callable, Any]:
    """`evaluate`, and the jitted function behind it."""
    specs = (BY_REPLICATE, BY_REPLICATE, SHARED, SHARED, SHARED)
    evaluation = sharded(mesh, add_batch, specs, BY_REPLICATE)

    def evaluate(variables, name):
        counts = no_counts(mesh, jax.tree.leaves(variables)[0].shape[0])
        with contextlib.closing(split_batches(streams, mesh, name, batch_size)) as placed:
            for batch in placed:
                before = counts
                counts = evaluation(counts, variables, *batch)
                jax.block_until_ready(before)  # else batches would pile up before the device
        return counts

    return evaluate, evaluation


@jax.jit
def _order_words(keys: jax.Array) -> jax.Array:
    """Words of the keys that orders are drawn from, [R, words] uint32."""
    return jax.vmap(lambda key: jax.random.key_data(keys_lib.stream(key, "order")))(keys)


def _seed(words: np.ndarray) -> int:
    return int.from_bytes(words.astype(">u4").tobytes())
