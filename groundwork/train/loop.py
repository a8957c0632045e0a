"""The one training loop: a unit of work from a state to its last step, resumable anywhere.

The device never waits for it: metrics are fetched one evaluation late, while the next steps already
run. It waits for the device so far that no more than two calls of steps are under way, to be able
to stop soon when it is asked to. With several processes, all of them run it alike.
"""

# R replicates

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.devices import mesh, processes
from groundwork.devices.interruption import Interruption
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Unit
from groundwork.train.programs import Programs
from groundwork.train.step import Counts, Tally, TrainState
from groundwork.train.writer import Pending, Writer, not_finite


class Best(NamedTuple):
    """The early-stopping point so far: where the validation loss was least."""

    loss: jax.Array  # [R] float32, nats
    step: jax.Array  # [R] int32
    variables: Any


class Schedule(NamedTuple):
    """Where a unit stops and how often it looks up, in steps and seconds."""

    stop: int
    eval_every: int
    checkpoint_seconds: float


class Splits(NamedTuple):
    """What is evaluated beside the training examples."""

    validation: bool
    test: bool


class _Place(NamedTuple):
    """Where a unit stands: all that a checkpoint of it holds."""

    state: TrainState
    best: Best | None
    tally: Tally  # of the steps since the last evaluation


def train(
    programs: Programs,
    state: TrainState,
    schedule: Schedule,
    unit: Unit,
    fields: Mapping[str, Any],
    reporter: Reporter,
    splits: Splits,
    interruption: Interruption,
    best: Best | None = None,
) -> tuple[TrainState, Best | None]:
    """Train all replicates from `state` to `schedule.stop`, or go on where the unit stood.

    Writes rows to the run's metrics: `train` (the mean over the steps since the last row) and
    `validation` at every evaluation; `test` at the early-stopping step, which is that of the least
    validation loss, and at the end, only. The row's `fields` may be scalars or [R] lists. `best` is
    the early-stopping point of an earlier unit that this one continues; its own is returned.

    Raises:
      UserError: a loss is not finite; names the replicate and the step.
      Interrupted: the run was asked to stop; it is saved.
    """
    state = jax.tree.map(jnp.copy, state)  # the steps reuse its buffers, the caller's survive
    best = (best or no_best(state)) if splits.validation else None
    nothing = programs.no_tally(len(state.step))
    (state, best, tally), step, rows = _resume(unit, _Place(state, best, nothing), reporter)
    reporter.begin(unit.name, step, schedule.stop)
    writer = Writer(unit, fields, reporter, schedule.stop, rows)

    def save() -> None:
        writer.flush()
        _check_variables(state.variables, step, unit.name)
        place = _Place(state, best, tally)
        unit.save(step, place, {"step": step, "rows": writer.rows})

    on_disk, clock = step, _Clock(schedule.checkpoint_seconds)
    with programs.feed(state.key, step) as feed:
        while step < schedule.stop:
            if interruption.reached():
                if step > on_disk:
                    save()
                raise interruption.stop(f"{unit.name}, step {step}")
            evaluation = min(schedule.stop, (step // schedule.eval_every + 1) * schedule.eval_every)
            following, before = min(evaluation, step + programs.stride), tally
            state, tally = programs.run_steps(state, feed, tally, step, following)
            jax.block_until_ready(before)
            step = following
            if step == evaluation:
                best = _evaluate(programs, _Place(state, best, tally), step, writer)
                tally = nothing
                if clock.due() and step < schedule.stop:
                    save()
                    on_disk = step
    writer.flush()
    _check_variables(state.variables, step, unit.name)
    if splits.test:
        _test(programs, state, best, writer)
    return state, best


def _resume(unit: Unit, place: _Place, reporter: Reporter) -> tuple[_Place, int, int]:
    """Where the unit stood, or `place` if it had not begun; its step, and the rows until there."""
    step, rows = int(mesh.fetch(place.state.step)[0]), 0
    found = unit.latest(place, reporter.say)
    if found:
        place, at = found
        step, rows = at["step"], at["rows"]
        reporter.say(f"{unit.name}  continues from step {step}")
    unit.begin_again(rows)
    return place, step, rows


def _evaluate(programs: Programs, place: _Place, step: int, writer: Writer) -> Best | None:
    """Rows of the steps since the last evaluation and of this one; the early-stopping point."""
    state, best, tally = place
    counts = {"train": tally.counts}
    if best:
        counts["validation"] = programs.evaluate(state.variables, "validation")
        best = _keep_better(best, state, counts["validation"])
    writer.push(Pending(step, counts, tally.first_bad))
    return best


class _Clock:
    """Is it time for a checkpoint? By the first process's clock, read one evaluation late."""

    def __init__(self, seconds: float):
        self._seconds, self._saved = seconds, time.monotonic()
        self._elapsed = processes.broadcast(0)

    def due(self) -> bool:
        """To be asked at every evaluation, in all processes."""
        due = float(self._elapsed) >= self._seconds
        if due:
            self._saved = time.monotonic()
        self._elapsed = processes.broadcast(time.monotonic() - self._saved)
        return due


def _test(programs: Programs, state: TrainState, best: Best | None, writer: Writer) -> None:
    """Test rows: at the early-stopping step, where there is one, and at the end."""
    ends = [("early_stop", best.step, best.variables)] if best else []
    for at, steps, variables in [*ends, ("end", state.step, state.variables)]:
        steps, counts = mesh.fetch((steps, programs.evaluate(variables, "test")))
        writer.write("test", steps, counts, at=at)


def _check_variables(variables: Any, step: int, unit: str) -> None:
    """A loss may be finite one step longer than the weights that it was computed from."""
    finite = mesh.fetch(_all_finite(variables))
    if not finite.all():
        raise not_finite("result of the update", unit, int(np.argmin(finite)), step)


@jax.jit
def _all_finite(variables: Any) -> jax.Array:
    """[R] bool."""
    leaves = [jnp.isfinite(a).reshape(a.shape[0], -1).all(1) for a in jax.tree.leaves(variables)]
    return jnp.stack(leaves).all(0)


def no_best(state: TrainState) -> Best:
    """The early-stopping point before any evaluation. Copies: a state's buffers are donated."""
    worst = jnp.full_like(state.step, jnp.inf, dtype=jnp.float32)
    return Best(worst, *jax.tree.map(jnp.copy, (state.step, state.variables)))


@jax.jit
def _keep_better(best: Best, state: TrainState, counts: Counts) -> Best:
    """Take the replicates whose validation loss is the least so far (the earlier among equals)."""
    loss = counts.loss / counts.examples
    better = loss < best.loss

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(better.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

    variables = jax.tree.map(choose, state.variables, best.variables)
    return Best(choose(loss, best.loss), choose(state.step, best.step), variables)
