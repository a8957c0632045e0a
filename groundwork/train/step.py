"""One training step and one evaluation, of one replicate: pure functions over pytrees."""

# B batch, R replicates

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from groundwork import keys
from groundwork.errors import UserError
from groundwork.train.losses import CROSS_ENTROPY, Counts, Loss
from groundwork.trees import Params, Variables

NEVER = np.iinfo(np.int32).max  # the first step whose loss was not finite, where all were


class Model(Protocol):
    """What is asked of a network. Linen modules have it, and `traced.override.Network` does."""

    @property
    def init(self) -> Callable[..., Any]:
        """(key, example inputs) → variables."""

    @property
    def apply(self) -> Callable[..., Any]:
        """(variables, inputs, train=…) → logits; with `mutable`, those and what has changed."""


class TrainState(flax.struct.PyTreeNode):
    """All that training carries from step to step."""

    step: jax.Array  # [] int32
    key: jax.Array  # [] the replicate's root key; folded with the step, never split in place
    variables: Variables
    opt_state: Any  # holds the mask where the optimiser is wrapped by `pruning.enforce`


class Batch(NamedTuple):
    """A network's inputs, and the targets. `valid` is False for padding, which counts nowhere."""

    inputs: jax.Array  # [B, …], as the network takes them
    labels: jax.Array  # [B, …], as the loss takes them
    valid: jax.Array  # [B] bool


class Tally(NamedTuple):
    """What some training steps added up to, with one entry per replicate."""

    counts: Counts  # leaves [R]
    first_bad: jax.Array  # [R] int32: the first step whose loss was not finite, or NEVER

    def add(self, step: jax.Array, loss: jax.Array, counts: Counts) -> "Tally":
        """Returns the tally with one more step, whose losses are [R]."""
        bad = jnp.where(jnp.isfinite(loss), NEVER, step)
        total = jax.tree.map(jnp.add, self.counts, counts)
        return Tally(total, jnp.minimum(self.first_bad, bad))


LossFn = Callable[[jax.Array, Variables, Batch], tuple[jax.Array, tuple[Any, Counts]]]
"""(key, variables, batch) → (loss, (collections that have changed, counts))"""
EvalFn = Callable[[Variables, Batch], Counts]
"""(variables, batch) → counts"""


def make_loss(model: Model, loss: Loss = CROSS_ENTROPY) -> LossFn:
    """Returns the mean loss of a batch, with batch statistics and counts beside."""

    def loss_fn(
        key: jax.Array, variables: Variables, batch: Batch
    ) -> tuple[jax.Array, tuple[Any, Counts]]:
        outputs, updated = model.apply(
            variables, batch.inputs, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        counts = loss.count(outputs, batch.labels, batch.valid)
        return counts.loss / counts.examples, (updated, counts)

    return loss_fn


def make_train_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation, axis: str | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, tuple[jax.Array, Counts]]]:
    """Returns one training step: (state, batch) → (state, (loss, counts)).

    With `axis`, the batch is one device's share. The loss is averaged over that mesh axis *inside*
    the differentiated function, which makes the gradient the whole batch's: under `shard_map`
    nothing may be averaged after `jax.grad`. Batch statistics must leave the model averaged over
    that axis, as BatchNorm's do with `axis_name=axis`; they are not averaged again here.

    The step raises, when it is traced:
      UserError: batch statistics may differ between the devices of `axis`.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, tuple[jax.Array, Counts]]:
        key = jax.random.fold_in(keys.stream(state.key, "step"), state.step)
        if axis:  # each device draws random numbers of its own for its share of the batch
            key = jax.random.fold_in(key, lax.axis_index(axis))

        def objective(params: Params) -> tuple[jax.Array, tuple[Any, Counts]]:
            loss, aux = loss_fn(key, {**state.variables, "params": params}, batch)
            return lax.pmean(loss, axis) if axis else loss, aux

        params = state.variables["params"]
        (loss, (updated, counts)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        if axis:
            _refuse_varying_statistics(updated, axis)
        updates, opt_state = optimizer.update(grads, state.opt_state, params, step=state.step)
        variables = {
            **state.variables,
            **updated,
            "params": optax.apply_updates(params, updates),
        }
        counts = _total(counts, axis) if axis else counts
        new = state.replace(step=state.step + 1, variables=variables, opt_state=opt_state)
        return new, (loss, counts)

    return train_step


def _total(counts: Counts, axis: str) -> Counts:
    """Returns the sums over the devices of `axis`, which travel as one vector of floats.

    So they can travel with the gradients; integers would need an all-reduce of their own, and a
    second wait. Floats hold counts exactly up to 2**24 examples per batch.
    """
    dtype = jnp.promote_types(counts.loss.dtype, jnp.float32)
    leaves, tree = jax.tree.flatten(counts)
    sums = lax.psum(jnp.stack([leaf.astype(dtype) for leaf in leaves]), axis)
    totals = [total.astype(leaf.dtype) for total, leaf in zip(sums, leaves, strict=True)]
    return jax.tree.unflatten(tree, totals)


def _refuse_varying_statistics(updated: Any, axis: str) -> None:
    """Raise where a leaf varies between devices, by the marks that `shard_map` keeps.

    Averaging it here would hide that each device normalised by its share of the batch.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(updated):
        try:  # only what is equal on all devices can be cast; the result itself is not needed
            lax.pcast(leaf, axis, to="varying")
        except ValueError:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"{name} differs between the devices that share a batch: "
                f'its BatchNorm needs axis_name="{axis}" in training'
            ) from None


def make_eval_step(model: Model, loss: Loss = CROSS_ENTROPY) -> EvalFn:
    """Returns (variables, batch) → counts, with batch statistics as they are."""

    def eval_step(variables: Variables, batch: Batch) -> Counts:
        outputs: Any = model.apply(variables, batch.inputs, train=False)
        return loss.count(outputs, batch.labels, batch.valid)

    return eval_step
