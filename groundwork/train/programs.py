"""The compiled programs of a training run: steps and evaluation of R replicates on a mesh.

`step.py` defines the step of one replicate; `replicates.py` maps it over replicates and devices;
`steps_in_memory.py` feeds it from data on the device, and `steps_from_files.py` from files.
"""

# R replicates

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import optax
from jax import lax
from jax.sharding import Mesh

from groundwork import trees
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset, Dataset
from groundwork.data.file_dataset import FileDataset
from groundwork.metric import Metric
from groundwork.train import judging, replicates, steps_from_files, steps_in_memory
from groundwork.train.judging import Judged
from groundwork.train.losses import CROSS_ENTROPY, Counts, Loss
from groundwork.train.replicates import Form
from groundwork.train.step import (
    Batch,
    EvalFn,
    LossFn,
    Model,
    Tally,
    TrainState,
    make_eval_step,
    make_loss,
    make_train_step,
)
from groundwork.trees import Variables

STRIDE = 50  # steps between two checks for signals: a fraction of a second


class Programs(NamedTuple):
    """Compiled functions over trees whose leaves have a leading replicate axis R."""

    init: Callable[[jax.Array], Variables]  # keys [R] → variables
    # keys [R], step → a source of examples for the steps from there on, which knows the
    # `waited_seconds` for them; the caller closes it
    feed: Callable[[jax.Array, int], AbstractContextManager[Any]]
    # state, feed, tally, start, stop → state, tally
    run_steps: Callable[[TrainState, Any, Tally, int, int], tuple[TrainState, Tally]]
    no_tally: Callable[[int], Tally]  # R → the tally of no steps
    stride: int  # the largest number of steps that one call of `run_steps` should take
    batch_size: int  # examples of a step, of each replicate
    evaluate: Callable[[Variables, str], Counts]  # variables, "validation" or "test" → counts [R]
    metric: Metric  # by which the network is judged: one of the counts
    judge: Callable[[Variables], Judged]  # variables [R, …] → what the loss has a judge for
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
    objective: Loss = CROSS_ENTROPY,
) -> Programs:
    """Returns the compiled programs. `run_steps` donates the state that it is given.

    Args:
      model: the network to train.
      optimizer: its `update` is called with the keyword `step`.
      dataset: in memory or in files.
      mesh: the devices.
      batch_size: of a step, on all devices together.
      form: how replicates are mapped; by default `default_form` decides.
      stride: the largest number of steps that a call should take.
      loss: the training loss; by default the objective's mean over a batch.
      evaluate: the counts on other splits; by default the objective's.
      objective: the loss whose measures `loss` and `evaluate` count, and its metric.
    """
    example = trees.zeros(dataset.example)
    form = form or replicates.default_form(model, example)

    init = replicates.each_replicate(mesh, lambda key: model.init(key, example), once=True)
    steps = replicates.Steps(
        train_step=make_train_step(
            loss or make_loss(model, objective), optimizer, axis="data", uneven=objective.uneven
        ),
        add_batch=_make_add_batch(evaluate or make_eval_step(model, objective), dataset, form),
        measures=objective.measures,
        mesh=mesh,
        batch_size=batch_size,
        form=form,
    )
    if isinstance(dataset, FileDataset):
        feed, run_steps, evaluate_split, jitted = steps_from_files.make(steps, dataset)
    else:
        feed, run_steps, evaluate_split, jitted = steps_in_memory.make(steps, dataset)
    several = form == "looped" and isinstance(dataset, Dataset)
    return Programs(
        init=init,
        feed=feed,
        run_steps=run_steps,
        no_tally=steps.no_tally,
        stride=stride if several else 1,
        batch_size=batch_size,
        evaluate=evaluate_split,
        metric=objective.metric,
        judge=_judge(model, objective, dataset, mesh, form),
        jitted={"init": init, **jitted},
    )


def _judge(
    model: Model, objective: Loss, dataset: AnyDataset, mesh: Mesh, form: Form
) -> Callable[[Variables], Judged]:
    """Returns `Programs.judge`, which compiles nothing before it is called."""
    if objective.judge is None:
        return lambda variables: Judged()
    return judging.make(model, objective.judge, dataset, mesh, form)


def _make_add_batch(eval_step: EvalFn, dataset: AnyDataset, form: Form) -> Callable[..., Counts]:
    """Returns `Steps.add_batch`, which runs on one device and sums over all."""

    def add_batch(
        counts: Counts, variables: Variables, inputs: Any, labels: Any, valid: jax.Array
    ) -> Counts:
        batch = Batch(data_lib.normalize(dataset, inputs), labels, valid)
        new = replicates.each(form)(lambda variables: eval_step(variables, batch))(variables)
        return jax.tree.map(lambda total, share: total + lax.psum(share, "data"), counts, new)

    return add_batch
