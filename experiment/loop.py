"""The one training loop: a unit of work from a state to its last step, resumable anywhere.

Nothing in it waits for the device: metrics are fetched one evaluation late, while the next steps
already run.
"""

# R replicates

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiment import metrics
from experiment.errors import UserError
from experiment.programs import NEVER, Programs
from experiment.progress import Reporter
from experiment.run import Unit
from experiment.step import Counts, TrainState


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


class _Pending(NamedTuple):
    """Results that may still be on their way from the device."""

    step: int
    counts: dict[str, Counts]
    first_bad: jax.Array


def train(
    programs: Programs,
    state: TrainState,
    schedule: Schedule,
    unit: Unit,
    fields: Mapping[str, Any],
    reporter: Reporter,
    splits: Splits,
) -> TrainState:
    """Train all replicates from `state` to `schedule.stop`, or go on where the unit stood.

    Writes rows to the run's metrics: `train` (the mean over the steps since the last row) and
    `validation` at every evaluation; `test` at the early-stopping step, which is that of the least
    validation loss, and at the end, only. The row's `fields` may be scalars or [R] lists.

    Raises:
      UserError: a loss is not finite; names the replicate and the step.
    """
    state = jax.tree.map(jnp.copy, state)  # the steps reuse its buffers, the caller's survive
    best = _no_best(state) if splits.validation else None
    step, rows = int(np.asarray(state.step)[0]), 0
    found = unit.latest((state, best), reporter.say)
    if found:
        (state, best), at = found
        step, rows = at["step"], at["rows"]
        reporter.say(f"{unit.name}  continues from step {step}")
    metrics.keep(unit.run.metrics, unit.name, rows)
    begun = saved = time.monotonic()
    reporter.begin(unit.name, step, schedule.stop)

    def write(pending: _Pending) -> int:
        """Fetch, check, append rows; the number of rows."""
        _check_finite(pending, unit.name)
        seconds = time.monotonic() - begun
        new = [
            row
            for name, counts in pending.counts.items()
            for row in _rows(unit.name, name, pending.step, counts, fields, seconds)
        ]
        unit.run.record(new)
        last = new[-len(state.step) :]
        means = (float(np.mean([row[key] for row in last])) for key in ("loss", "accuracy"))
        reporter.update(pending.step, schedule.stop, *means)
        return len(new)

    order = programs.order(state.key, step)
    waiting: list[_Pending] = []
    while step < schedule.stop:
        following = min(schedule.stop, (step // schedule.eval_every + 1) * schedule.eval_every)
        state, order, tally = programs.run_steps(state, order, step, following)
        step, counts = following, {"train": tally.counts}
        if best:
            counts["validation"] = programs.evaluate(state.variables, "validation")
            best = _keep_better(best, state, counts["validation"])
        waiting.append(_Pending(step, counts, tally.first_bad))
        if len(waiting) > 1:
            rows += write(waiting.pop(0))
        if time.monotonic() - saved >= schedule.checkpoint_seconds and step < schedule.stop:
            rows += write(waiting.pop(0))
            _check_variables(state.variables, step, unit.name)
            unit.save(step, (state, best), {"step": step, "rows": rows})
            saved = time.monotonic()
    for pending in waiting:
        write(pending)
    _check_variables(state.variables, step, unit.name)
    if splits.test:
        _test(programs, state, best, unit, fields, time.monotonic() - begun)
    return state


def _test(programs, state, best, unit, fields, seconds) -> None:
    """Test rows: at the early-stopping step, where there is one, and at the end."""
    ends = [("early_stop", best.step, best.variables)] if best else []
    for at, steps, variables in [*ends, ("end", state.step, state.variables)]:
        counts = programs.evaluate(variables, "test")
        new = _rows(unit.name, "test", np.asarray(steps), counts, {**fields, "at": at}, seconds)
        unit.run.record(new)


def _rows(unit, split, step, counts: Counts, fields, seconds) -> list[metrics.Row]:
    """One row a replicate. `step` and the fields are scalars or have an entry a replicate."""
    loss, correct, examples = (np.asarray(leaf) for leaf in counts)
    rows = []
    for replicate in range(len(loss)):
        each = {"step": step, **fields}
        own = {k: v[replicate] if np.ndim(v) else v for k, v in each.items()}
        own = {k: v.item() if isinstance(v, np.generic) else v for k, v in own.items()}
        accuracy = int(correct[replicate]) / int(examples[replicate])
        mean = float(loss[replicate]) / int(examples[replicate])
        rows.append(
            {
                "unit": unit,
                **own,
                "replicate": replicate,
                "split": split,
                "loss": mean,
                "accuracy": accuracy,
                "seconds": round(seconds, 3),
            }
        )
    return rows


def _check_finite(pending: _Pending, unit: str) -> None:
    first_bad = np.asarray(pending.first_bad)
    if (first_bad != NEVER).any():
        replicate = int(np.argmin(first_bad))
        raise _not_finite("training loss", unit, replicate, int(first_bad[replicate]))


def _check_variables(variables: Any, step: int, unit: str) -> None:
    """A loss may be finite one step longer than the weights that it was computed from."""
    finite = np.asarray(_all_finite(variables))
    if not finite.all():
        raise _not_finite("result of the update", unit, int(np.argmin(finite)), step)


def _not_finite(what: str, unit: str, replicate: int, step: int) -> UserError:
    return UserError(
        f"the {what} is not finite: {unit}, replicate {replicate}, step {step}. The last good "
        "checkpoint is kept; try a smaller optimizer.learning_rate (in another --workdir)"
    )


@jax.jit
def _all_finite(variables: Any) -> jax.Array:
    """[R] bool."""
    leaves = [jnp.isfinite(a).reshape(a.shape[0], -1).all(1) for a in jax.tree.leaves(variables)]
    return jnp.stack(leaves).all(0)


def _no_best(state: TrainState) -> Best:
    """No evaluation yet. Copies, since the state's buffers are about to be donated."""
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
