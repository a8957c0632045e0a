"""One training step and one evaluation, of one replicate: pure functions over pytrees."""

# B batch, C classes

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

NEVER = np.iinfo(np.int32).max  # the step of the first loss that was not finite, if all were


class Model(Protocol):
    """What is asked of a network: a Linen module has it, and `traced.override.Network`."""

    @property
    def init(self) -> Callable[..., Any]:
        """(key, example inputs) → variables."""

    @property
    def apply(self) -> Callable[..., Any]:
        """(variables, inputs, train=…) → logits; with `mutable`, those and what has changed."""


class TrainState(flax.struct.PyTreeNode):
    """All that a training run carries from step to step."""

    step: jax.Array  # [] int32
    key: jax.Array  # [] the replicate's root key; folded with the step, never split in place
    variables: Any  # {"params": …, "batch_stats": …}
    opt_state: Any  # holds the mask where the optimiser is wrapped by pruning.masks.enforce


class Batch(NamedTuple):
    """Network inputs and labels. `valid` is False for padding, which counts nowhere."""

    inputs: jax.Array  # [B, …] float32
    labels: jax.Array  # [B] int32
    valid: jax.Array  # [B] bool


class Counts(NamedTuple):
    """Sums over examples. Divide at the end: each example counts once."""

    loss: jax.Array  # [] float32, sum of cross-entropies in nats
    correct: jax.Array  # [] int32
    examples: jax.Array  # [] int32


class Tally(NamedTuple):
    """What some training steps added up to, a replicate an entry."""

    counts: Counts  # of [R]
    first_bad: jax.Array  # [R] int32, first step whose loss was not finite, or NEVER

    def add(self, step: jax.Array, loss: jax.Array, counts: Counts) -> "Tally":
        """With one more step, whose losses are [R]."""
        bad = jnp.where(jnp.isfinite(loss), NEVER, step)
        total = jax.tree.map(jnp.add, self.counts, counts)
        return Tally(total, jnp.minimum(self.first_bad, bad))


LossFn = Callable[[jax.Array, Any, Batch], tuple[jax.Array, tuple[Any, Counts]]]
EvalFn = Callable[[Any, Batch], Counts]


def count(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> Counts:
    """Sums over the valid examples: logits [B, C], labels [B], valid [B].

    Of logits in a shorter type than float32 the loss is computed in float32.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = jnp.argmax(logits, -1) == labels
    return Counts(
        loss=jnp.sum(jnp.where(valid, losses, 0.0)),
        correct=jnp.sum(hits & valid, dtype=jnp.int32),
        examples=jnp.sum(valid, dtype=jnp.int32),
    )


def make_loss(model: Model) -> LossFn:
    """Mean cross-entropy of a batch: (key, variables, batch) → (loss, (batch_stats, counts))."""

    def loss_fn(key, variables, batch):
        logits, updated = model.apply(
            variables, batch.inputs, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        counts = count(logits, batch.labels, batch.valid)
        return counts.loss / counts.examples, (updated, counts)

    return loss_fn


def make_train_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation, axis: str | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, tuple[jax.Array, Counts]]]:
    """(state, batch) → (state, (loss, counts)).

    With `axis`, the batch is one device's share: the loss is averaged over that mesh axis
    *inside* the differentiated function, which makes the gradient the whole batch's (under
    `shard_map` nothing may be averaged after `jax.grad`). Batch statistics must leave the model
    averaged over that axis, as BatchNorm's are with `axis_name=axis`: they are not moved again.

    The step raises, when traced:
      UserError: batch statistics that may differ between the devices of `axis`.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def train_step(state, batch):
        key = jax.random.fold_in(keys.stream(state.key, "step"), state.step)
        if axis:  # each device's share of the batch draws its own
            key = jax.random.fold_in(key, lax.axis_index(axis))

        def objective(params):
            loss, aux = loss_fn(key, {**state.variables, "params": params}, batch)
            return lax.pmean(loss, axis) if axis else loss, aux

        params = state.variables["params"]
        (loss, (updated, counts)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        if axis:
            _refuse_own_statistics(updated, axis)
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
    """Sums over the devices of `axis`, moved as one vector of floats.

    So they can travel with the gradients: integers would need an all-reduce of their own, and its
    wait. Floats hold counts exactly, up to 2**24 examples a batch.
    """
    dtype = jnp.promote_types(counts.loss.dtype, jnp.float32)
    sums = lax.psum(jnp.stack([count.astype(dtype) for count in counts]), axis)
    return Counts(*(total.astype(count.dtype) for total, count in zip(sums, counts, strict=True)))


def _refuse_own_statistics(updated: Any, axis: str) -> None:
    """Raise where a leaf is one device's own, by the marks that `shard_map` keeps.

    Averaging here instead would hide that each device normalised by its share of the batch.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(updated):
        try:  # only what is equal on all devices can be cast; the result is not used
            lax.pcast(leaf, axis, to="varying")
        except ValueError:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"{name} differs between the devices that share a batch: "
                f'its BatchNorm needs axis_name="{axis}" in training'
            ) from None


def make_eval_step(model: Model) -> EvalFn:
    """(variables, batch) → counts, with batch statistics as they are."""

    def eval_step(variables, batch):
        logits: Any = model.apply(variables, batch.inputs, train=False)
        return count(logits, batch.labels, batch.valid)

    return eval_step
