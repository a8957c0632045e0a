"""Optimisers from a config. The learning rate follows the *training state's* step.

Optax counts steps inside the optimiser's state; after a rewind to step k with fresh moments it
would start the schedule again at 0. Here the schedule is a function of the step that is passed to
`update(…, step=…)`, so there is one count.
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from groundwork.errors import UserError, unknown
from groundwork.trees import Params

SCHEDULES = ("constant", "step", "cosine")


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """The config's `optimizer` section; a subclass of another `SECTION` has the same keys.

    Attributes:
      name: one of `OPTIMIZERS`.
      learning_rate: the peak rate.
      momentum: for momentum and nesterov.
      weight_decay: is added to the gradient as L2 (sgd, momentum, nesterov, adam), or decoupled
        and scaled by the learning rate (adamw).
      schedule: `constant`; `step` (times `drop_factor` at each of `drop_steps`); `cosine`
        (to 0 at `train.steps`, one past the last step).
      drop_steps: for `step`, counted from 1.
      drop_factor: for `step`, in (0, 1].
      warmup_steps: the rate of step s < warmup_steps is (s + 1) / warmup_steps of the schedule's.
    """

    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: str
    drop_steps: tuple[int, ...]
    drop_factor: float
    warmup_steps: int
    SECTION: ClassVar[str] = "optimizer"

    def __post_init__(self) -> None:
        section = self.SECTION
        if self.name not in OPTIMIZERS:
            raise unknown(f"{section}.name", self.name, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise unknown(f"{section}.schedule", self.schedule, SCHEDULES)
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"{section}.learning_rate={self.learning_rate} must be positive")
        if not 0 < self.drop_factor <= 1:
            raise UserError(f"{section}.drop_factor={self.drop_factor} must be in (0, 1]")
        if min(self.drop_steps, default=1) < 1:
            raise UserError(
                f"{section}.drop_steps={self.drop_steps} must be steps from 1, such as (2000, 2500)"
            )
        for key, end in (("momentum", 1), ("weight_decay", math.inf)):
            if not 0 <= getattr(self, key) < end:
                raise UserError(f"{section}.{key}={getattr(self, key)} must be in [0, {end})")
        if self.warmup_steps < 0:
            raise UserError(f"{section}.warmup_steps={self.warmup_steps} must be at least 0")


def schedule(spec: OptimizerSpec, total_steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step, [] int32 → [] float32."""
    if spec.schedule == "step":
        drops = dict.fromkeys(spec.drop_steps, spec.drop_factor)
        base = optax.piecewise_constant_schedule(spec.learning_rate, drops)
    elif spec.schedule == "cosine":
        base = optax.cosine_decay_schedule(spec.learning_rate, max(1, total_steps))
    else:
        base = optax.constant_schedule(spec.learning_rate)

    def rate(step: jax.Array) -> jax.Array:
        warm = jnp.minimum(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
        return jnp.asarray(base(step) * warm, jnp.float32)

    return rate


def scale_by_rate(rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation, without state, of updates by −rate(step); see `make`."""

    def update(
        updates: Params, state: Any, params: Params = None, *, step: jax.Array, **extra_args: Any
    ) -> tuple[Params, Any]:
        del params, extra_args
        return jax.tree.map(lambda u: (-rate(step)).astype(u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def make(spec: OptimizerSpec, total_steps: int) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser of a config. Its `update` needs the keyword `step`, [] int32."""
    l2 = [] if spec.name == "adamw" else [optax.add_decayed_weights(spec.weight_decay)]
    if not spec.weight_decay:
        l2 = []
    return optax.chain(
        *l2, *OPTIMIZERS[spec.name](spec), scale_by_rate(schedule(spec, total_steps))
    )


def restarting(
    optimizer: optax.GradientTransformation, period: int
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser, whose schedule begins anew every `period` steps.

    Source: Loshchilov & Hutter, arXiv:1608.03983; all periods are equal here, and the moments stay.
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: Params, state: Any, params: Params = None, *, step: jax.Array, **extra_args: Any
    ) -> tuple[Params, Any]:
        return inner.update(updates, state, params, step=step % period, **extra_args)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def settled(spec: OptimizerSpec, steps: int) -> OptimizerSpec:
    """Returns the optimiser whose learning rate is at every step that of the last of the steps."""
    last = float(schedule(spec, steps)(jnp.asarray(steps - 1)))
    return dataclasses.replace(
        spec, learning_rate=last, schedule="constant", drop_steps=(), warmup_steps=0
    )


def stretched(spec: OptimizerSpec, steps: int, times: float) -> tuple[OptimizerSpec, int]:
    """Returns an optimiser and its steps, so many times as long; drops come at the same shares."""
    drops = tuple(round(step * times) for step in spec.drop_steps)
    return dataclasses.replace(spec, drop_steps=drops), round(steps * times)


OPTIMIZERS = {
    "sgd": lambda spec: [],
    "momentum": lambda spec: [optax.trace(spec.momentum)],
    "nesterov": lambda spec: [optax.trace(spec.momentum, nesterov=True)],
    "adam": lambda spec: [optax.scale_by_adam()],
    "adamw": lambda spec: [optax.scale_by_adam(), optax.add_decayed_weights(spec.weight_decay)],
}
