"""The compiled programs of a training run: steps and evaluation, of R replicates, on a mesh.

`step.py` says what happens to one replicate, `mapping.py` how that is mapped over replicates and
devices; `resident.py` feeds it from data on the device, `streamed.py` from files.
"""

# R replicates

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset, Dataset
from groundwork.data.file_dataset import FileDataset
from groundwork.train import replicates, steps_from_files, steps_in_memory
from groundwork.train.replicates import Form
from groundwork.train.step import (
    Batch,
    Counts,
    EvalFn,
    LossFn,
    Model,
    Tally,
    TrainState,
    make_eval_step,
    make_loss,
    make_train_step,
)

STRIDE = 50  # steps: a fraction of a second between two looks at the world outside


class Programs(NamedTuple):
    """Compiled functions over trees whose leaves have a leading replicate axis R."""

    init: Callable[[jax.Array], Any]  # keys [R] → variables
    # keys [R], step → whatever gives steps from there on their examples; to be closed
    feed: Callable[[jax.Array, int], AbstractContextManager]
    # state, feed, tally, start, stop
    run_steps: Callable[[TrainState, Any, Tally, int, int], tuple[TrainState, Tally]]
    no_tally: Callable[[int], Tally]  # replicates → the tally of no steps
    stride: int  # the most steps that one call of run_steps should take
    evaluate: Callable[[Any, str], Counts]  # variables, "validation" or "test" → counts of [R]
    jitted: dict[str, Any]  # the jitted functions behind these, for tests that count compilations


def make(
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset: AnyDataset,
    mesh: Mesh,
    *,
    batch_size: int,
    form: Form | None = None,
    stride: int = STRIDE,
    loss: LossFn | None = None,
    evaluate: EvalFn | None = None,
) -> Programs:
    """Build the programs. The `state` given to `run_steps` is donated: use its result.

    `loss` and `evaluate` are for models that do not give one array of logits.
    """
    example = jnp.zeros((1, *dataset.shape))
    form = form or replicates.default_form(model, example)

    init = replicates.each_replicate(mesh, lambda key: model.init(key, example), once=True)
    train_step = make_train_step(loss or make_loss(model), optimizer, axis="data")
    eval_step = evaluate or make_eval_step(model)

    def add_batch(counts, variables, images, labels, valid):
        """Counts of all replicates on this device, with all devices' shares of one more batch."""
        batch = Batch(data_lib.normalize(dataset, images), labels, valid)
        new = replicates.each(form)(lambda variables: eval_step(variables, batch))(variables)
        return jax.tree.map(lambda old, own: old + lax.psum(own, "data"), counts, new)

    if isinstance(dataset, FileDataset):
        parts = steps_from_files.make(train_step, add_batch, dataset, mesh, batch_size, form)
    else:
        parts = steps_in_memory.make(train_step, add_batch, dataset, mesh, batch_size, form)
    feed, run_steps, evaluate_split, jitted = parts
    several = form == "looped" and isinstance(dataset, Dataset)
    return Programs(
        init=init,
        feed=feed,
        run_steps=run_steps,
        no_tally=functools.partial(replicates.no_tally, mesh),
        stride=stride if several else 1,
        evaluate=evaluate_split,
        jitted={"init": init, **jitted},
    )
