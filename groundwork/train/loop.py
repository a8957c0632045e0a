"""The one training loop. It takes a unit of work to its last step, and can continue anywhere.

The device never waits for the loop: metrics are fetched one evaluation late, while the next steps
already run. With several processes, each of them runs the loop.
"""

# R replicates

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.context import Context
from groundwork.devices import mesh, processes
from groundwork.metric import Metric
from groundwork.runs import operations
from groundwork.runs.unit import Unit
from groundwork.train.losses import Counts
from groundwork.train.meter import Meter
from groundwork.train.programs import Programs
from groundwork.train.step import Tally, TrainState
from groundwork.train.writer import Pending, Writer, not_finite
from groundwork.trees import Variables


class Best(NamedTuple):
    """The early-stopping point so far: see `Metric.stopping`."""

    loss: jax.Array  # [R] float32, on validation; minus the metric where more of it is better
    step: jax.Array  # [R] int32
    variables: Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The training that one unit of work asks for.

    Attributes:
      programs: the compiled programs of the network.
      unit: the unit of the run.
      stop: the step at which training ends.
      fields: further fields of every row; scalars or lists [R].
      test: whether the test split is evaluated, at the early-stopping step and at the end.
    """

    programs: Programs
    unit: Unit
    stop: int
    fields: Mapping[str, Any]
    test: bool = True


class _Place(NamedTuple):
    """The state of a unit: all that a checkpoint of it holds."""

    state: TrainState
    best: Best | None
    tally: Tally  # of the steps since the last evaluation


def train(
    context: Context, job: Job, state: TrainState, best: Best | None = None
) -> tuple[TrainState, Best | None]:
    """Trains all replicates from `state` to the job's end; a unit that had begun continues.

    It writes rows to the run's metrics: `train` (means over the steps since the last row) and
    `validation` at every evaluation; `test` only at the early-stopping step, which is that of the
    least validation loss, and at the end.

    Args:
      context: of the run.
      job: what to train.
      state: the state that a new unit starts from. The caller's buffers survive.
      best: the early-stopping point of an earlier unit, which this one continues.

    Returns:
      The state at the end, and the early-stopping point; None without a validation split.

    Raises:
      UserError: a loss is not finite; the error names the replicate and the step.
      Interrupted: the run was asked to stop; it is saved.
    """
    state = jax.tree.map(jnp.copy, state)  # the steps donate its buffers
    best = (best or no_best(state)) if context.validates else None
    nothing = job.programs.no_tally(context.replicates)
    with context.watchdog.watching(job.unit.name):
        place, step, rows = _resume(context, job, _Place(state, best, nothing))
        context.watchdog.moved()
        context.reporter.begin(job.unit.name, step, job.stop)
        writer = Writer(job.unit, job.fields, context.reporter, job.stop, rows)
        place = _steps(context, job, place, step, writer)
        _check_variables(place.state.variables, job.stop, job.unit.name)
        if job.test:
            _test(context, job.programs, place, writer)
    return place.state, place.best


def _steps(context: Context, job: Job, place: _Place, step: int, writer: Writer) -> _Place:
    """Returns the place at the job's end, with the rows of all its evaluations written."""
    nothing = job.programs.no_tally(context.replicates)
    saved, clock = step, _Clock(context.checkpoint_seconds)
    meter = Meter(context, job.unit.name, step, job.programs.batch_size)
    source = job.programs.feed(place.state.key, step)
    with meter.measuring(), context.profile.unit(job.unit.name), source as feed:
        while step < job.stop:
            if context.interruption.reached():
                if step > saved:
                    with meter.saving():
                        _save(job, place, step, writer)
                meter.reach(step, feed.waited_seconds, end=True)
                raise context.interruption.stop(f"{job.unit.name}, step {step}")
            context.profile.reach(step, place.tally)
            evaluation = min(job.stop, (step // context.eval_every + 1) * context.eval_every)
            following = context.profile.cut(step, min(evaluation, step + job.programs.stride))
            state, tally = job.programs.run_steps(place.state, feed, place.tally, step, following)
            # No more than two calls of steps are on their way, so that the run can stop soon.
            jax.block_until_ready(place.tally)
            context.watchdog.moved()
            place, step = place._replace(state=state, tally=tally), following
            if step == evaluation:
                place = _evaluate(job, place, step, writer)._replace(tally=nothing)
                context.watchdog.moved()
                meter.reach(step, feed.waited_seconds)
                if clock.due() and step < job.stop:
                    with meter.saving():
                        _save(job, place, step, writer)
                    context.watchdog.moved()
                    saved = step
        context.profile.reach(step, place.state, end=True)
        writer.flush()
        meter.reach(step, feed.waited_seconds, end=True)
    return place


def _resume(context: Context, job: Job, place: _Place) -> tuple[_Place, int, int]:
    """Returns the saved place of the unit, or else `place`; its step, and its rows so far."""
    begins = int(mesh.fetch(place.state.step)[0])
    step, rows = begins, 0
    checkpoint = job.unit.latest(place, context.reporter.say)
    if checkpoint:
        place, at = checkpoint
        step, rows = at["step"], at["rows"]
        context.reporter.say(f"{job.unit.name}  continues from step {step}")
    path = context.run.metrics
    processes.on_first(operations.note_restart, path, job.unit.name, begins, step)
    job.unit.begin_again(rows)
    return place, step, rows


def _evaluate(job: Job, place: _Place, step: int, writer: Writer) -> _Place:
    """Hands the rows of an evaluation to the writer; returns the place with a new `best`."""
    counts, best = {"train": place.tally.counts}, place.best
    if best:
        counts["validation"] = job.programs.evaluate(place.state.variables, "validation")
        stopping = job.programs.metric.stopping
        best = _keep_better(best, place.state, counts["validation"], stopping)
    writer.push(Pending(step, counts, place.tally.first_bad))
    return place._replace(best=best)


def _save(job: Job, place: _Place, step: int, writer: Writer) -> None:
    """Saves a checkpoint of an unfinished unit, once all its rows are written."""
    writer.flush()
    _check_variables(place.state.variables, step, job.unit.name)
    job.unit.save(step, place, {"step": step, "rows": writer.rows})


class _Clock:
    """Tells when to save a checkpoint, by the first process's clock, read one evaluation late."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._saved = seconds, time.monotonic()
        self._elapsed = processes.broadcast(0)

    def due(self) -> bool:
        """Returns whether to save. All processes call it at every evaluation."""
        due = float(self._elapsed) >= self._seconds
        if due:
            self._saved = time.monotonic()
        self._elapsed = processes.broadcast(time.monotonic() - self._saved)
        return due


def _test(context: Context, programs: Programs, place: _Place, writer: Writer) -> None:
    """Writes test rows: at the early-stopping step, if there is one, and at the end."""
    best, state = place.best, place.state
    ends = [("early_stop", best.step, best.variables)] if best else []
    for at, steps, variables in [*ends, ("end", state.step, state.variables)]:
        steps, counts = mesh.fetch((steps, programs.evaluate(variables, "test")))
        writer.write("test", steps, counts, at=at)
        context.watchdog.moved()


def _check_variables(variables: Variables, step: int, unit: str) -> None:
    """Refuses weights that are not finite, which the loss shows only one step later."""
    finite = mesh.fetch(_all_finite(variables))
    if not finite.all():
        raise not_finite("result of the update", unit, int(np.argmin(finite)), step)


@jax.jit
def _all_finite(variables: Variables) -> jax.Array:
    """Returns whether all entries of each replicate are finite, [R] bool."""
    leaves = [jnp.isfinite(a).reshape(a.shape[0], -1).all(1) for a in jax.tree.leaves(variables)]
    return jnp.stack(leaves).all(0)


def no_best(state: TrainState) -> Best:
    """Returns the point before any evaluation, as a copy, since the state's buffers are donated."""
    worst = jnp.full_like(state.step, jnp.inf, dtype=jnp.float32)
    return Best(worst, *jax.tree.map(jnp.copy, (state.step, state.variables)))


@functools.partial(jax.jit, static_argnames="stopping")
def _keep_better(best: Best, state: TrainState, counts: Counts, stopping: Metric) -> Best:
    """Returns the better point of each replicate; among equals, the earlier one."""
    value = counts.means()[stopping.name]
    loss = -value if stopping.higher_is_better else value
    better = loss < best.loss

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(better.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

    variables = jax.tree.map(choose, state.variables, best.variables)
    return Best(choose(loss, best.loss), choose(state.step, best.step), variables)
