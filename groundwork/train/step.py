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

from groundwork import keys, trees
from groundwork.errors import UserError
from groundwork.train.losses import CROSS_ENTROPY, Counts, Loss
from groundwork.trees import Params, Variables

NEVER = np.iinfo(np.int32).max  # stands for the first bad step if all losses are finite


class Model(Protocol):
    """What a network must have, as Linen modules and `traced.override.Network` do."""

    @property
    def init(self) -> Callable[..., Any]:
        """(key, example inputs) → variables."""

    @property
    def apply(self) -> Callable[..., Any]:
        """(variables, inputs, train=…) → logits; with `mutable`, also the changed collections."""


class TrainState(flax.struct.PyTreeNode):
    """The state that training carries from step to step."""

    step: jax.Array  # [] int32
    key: jax.Array  # [] the replicate's root key; folded with the step, never split in place
    variables: Variables
    opt_state: Any  # holds the mask if the optimiser is wrapped by `pruning.enforce`


class Batch(NamedTuple):
    """A network's inputs and targets. `valid` is False for padding, which is never counted."""

    inputs: Any  # an array or a tree of arrays [B, …], as the network takes them
    labels: Any  # likewise, as the loss takes them
    valid: jax.Array  # [B] bool


class Tally(NamedTuple):
    """The sums over some training steps, with one entry per replicate."""

    counts: Counts  # leaves [R]
    first_bad: jax.Array  # [R] int32, the first step whose loss was not finite, or NEVER

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
    """Returns the training loss of a model: the mean over a batch, and counts."""

    def loss_fn(
        key: jax.Array, variables: Variables, batch: Batch
    ) -> tuple[jax.Array, tuple[Any, Counts]]:
        outputs, updated = model.apply(
            variables, batch.inputs, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        counts = loss.count(outputs, batch.labels, batch.valid)
        # A share of a batch may have no token that counts.
        examples = jnp.maximum(counts.examples, 1) if loss.uneven else counts.examples
        return counts.loss / examples, (updated, counts)

    return loss_fn


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    axis: str | None = None,
    uneven: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, tuple[jax.Array, Counts]]]:
    """Returns a training step: (state, batch) → (state, (loss, counts)).

    With `axis`, the batch is one device's share. The loss is averaged over that mesh axis *inside*
    the differentiated function, which makes the gradient the whole batch's: under `shard_map`
    nothing may be averaged after `jax.grad`. Batch statistics must leave the model averaged over
    that axis, as BatchNorm's do with `axis_name=axis`; they are not averaged again here. With
    `uneven`, devices are weighted by what they count; see `losses.Loss`.

    When it is traced, the step raises a UserError if batch statistics may differ between the
    devices of `axis`.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, tuple[jax.Array, Counts]]:
        key = jax.random.fold_in(keys.stream(state.key, "step"), state.step)
        if axis:  # each device draws different random numbers for its share of the batch
            key = jax.random.fold_in(key, lax.axis_index(axis))

        def objective(params: Params) -> tuple[jax.Array, tuple[Any, Counts]]:
            loss, aux = loss_fn(key, {**state.variables, "params": params}, batch)
            if axis and uneven:
                examples = aux[1].examples.astype(loss.dtype)
                loss = loss * (examples / lax.pmean(examples, axis))
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
    """Returns the sums over the devices of `axis`, taken as one vector of floats.

    Floats travel with the gradients; integers would need a second all-reduce. They hold counts
    exactly up to 2**24 examples per batch.
    """
    dtype = jnp.promote_types(counts.loss.dtype, jnp.float32)
    leaves, tree = jax.tree.flatten(counts)
    sums = lax.psum(jnp.stack([leaf.astype(dtype) for leaf in leaves]), axis)
    totals = [total.astype(leaf.dtype) for total, leaf in zip(sums, leaves, strict=True)]
    return jax.tree.unflatten(tree, totals)


def _refuse_varying_statistics(updated: Any, axis: str) -> None:
    """Raises a UserError if a leaf varies between devices, by the marks that `shard_map` keeps.

    Averaging it here would hide that each device normalised by its share of the batch.
    """
    for name, leaf in trees.flatten(updated).items():
        try:  # a cast is refused unless the leaf is equal on all devices; its result is not needed
            lax.pcast(leaf, axis, to="varying")
        except ValueError:
            raise UserError(
                f"{name} differs between the devices that share a batch: "
                f'its BatchNorm needs axis_name="{axis}" in training, or set mesh.{axis}=1'
            ) from None


def make_eval_step(model: Model, loss: Loss = CROSS_ENTROPY) -> EvalFn:
    """Returns (variables, batch) → counts, which leaves batch statistics unchanged."""

    def eval_step(variables: Variables, batch: Batch) -> Counts:
        outputs: Any = model.apply(variables, batch.inputs, train=False)
        return loss.count(outputs, batch.labels, batch.valid)

    return eval_step
