"""Steps and evaluation over a data set that stays in its files: one call per batch.

Every process reads its replicates' share of each batch, ahead of the device.
"""

# R replicates (on one device: its share of them), B batch

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator
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
from groundwork.train.losses import Counts
from groundwork.train.meter import Timed
from groundwork.train.replicates import Steps, each, sharded
from groundwork.train.step import Batch, Tally, TrainState
from groundwork.trees import Variables, replicates

SPLIT = PartitionSpec("replicate", "data")
SHARED = PartitionSpec("data")


def make(steps: Steps, files: FileDataset) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Returns `feed`, `run_steps` and `evaluate` of `programs.Programs`, and what they jit."""

    def one_step(
        state: TrainState, tally: Tally, images: jax.Array, labels: jax.Array, step: jax.Array
    ) -> tuple[TrainState, Tally]:
        def step_of_one(
            state: TrainState, images: jax.Array, labels: jax.Array
        ) -> tuple[TrainState, Any]:
            inputs = data_lib.normalize(files, images)
            return steps.train_step(state, Batch(inputs, labels, jnp.ones(len(labels), bool)))

        state, (loss, counts) = each(steps.form)(step_of_one)(state, images, labels)
        return state, tally.add(step, loss, counts)

    specs = (BY_REPLICATE, BY_REPLICATE, SPLIT, SPLIT, REPLICATED)
    step_on_mesh = sharded(steps.mesh, one_step, specs, (BY_REPLICATE,) * 2, donate_argnums=0)

    def run_steps(
        state: TrainState, feed: Iterator[Any], tally: Tally, start: int, stop: int
    ) -> tuple[TrainState, Tally]:
        for step in range(start, stop):
            state, tally = step_on_mesh(state, tally, *next(feed), np.int32(step))
        return state, tally

    evaluate, evaluation = _make_evaluate(steps, files)
    feed = _make_feed(steps, files)
    return feed, run_steps, evaluate, {"steps": step_on_mesh, "eval": evaluation}


def split_batches(
    files: FileDataset, mesh: Mesh, name: str, batch_size: int
) -> Generator[Any, None, None]:
    """Yields images, labels and valid [B, …] of each batch of a split, on the devices."""
    share = mesh_lib.share_of_process(mesh)
    spec = dataclasses.replace(files.spec, workers=0)  # processes take seconds to start
    batches = eval_batches(
        files, spec, name, batch_size=batch_size, parts=share.parts, part=share.part
    )
    return prefetch(batches, lambda batch: mesh_lib.put_share(mesh, batch, SHARED))


def _make_feed(steps: Steps, files: FileDataset) -> Callable[..., Any]:
    """Returns (keys [R], step) → iterator over images [R, B, …] and labels, on the devices."""
    mesh, share = steps.mesh, mesh_lib.share_of_process(steps.mesh)

    def feed(keys: jax.Array, step: int) -> contextlib.closing[Any]:
        replicates_per_row = len(keys) // mesh.shape["replicate"]
        seeds = [_seed(words) for words in mesh_lib.fetch(_order_words(keys))]
        seeds = seeds[share.rows.start * replicates_per_row : share.rows.stop * replicates_per_row]
        batches = train_batches(
            files,
            files.spec,
            seeds,
            step,
            batch_size=steps.batch_size,
            parts=share.parts,
            part=share.part,
        )
        placed = prefetch(batches, lambda batch: mesh_lib.put_share(mesh, batch, SPLIT))
        return contextlib.closing(Timed(placed))

    return feed


def _make_evaluate(steps: Steps, files: FileDataset) -> tuple[Callable[..., Counts], Any]:
    """Returns `evaluate`, and the jitted function in it."""
    specs = (BY_REPLICATE, BY_REPLICATE, SHARED, SHARED, SHARED)
    evaluation = sharded(steps.mesh, steps.add_batch, specs, BY_REPLICATE)

    def evaluate(variables: Variables, name: str) -> Counts:
        counts = steps.no_counts(replicates(variables))
        batches = split_batches(files, steps.mesh, name, steps.batch_size)
        with contextlib.closing(batches) as placed:
            for batch in placed:
                before = counts
                counts = evaluation(counts, variables, *batch)
                jax.block_until_ready(before)  # otherwise batches would pile up
        return counts

    return evaluate, evaluation


@jax.jit
def _order_words(keys: jax.Array) -> jax.Array:
    """Returns the words of the keys from which orders are drawn, [R, words] uint32."""
    return jax.vmap(lambda key: jax.random.key_data(keys_lib.stream(key, "order")))(keys)


def _seed(words: np.ndarray) -> int:
    return int.from_bytes(words.astype(">u4").tobytes())
