"""The arguments of a criterion when it scores the weights of one replicate."""

# N examples

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.trees import Params
from pruning import masks
from pruning.criteria import batches
from pruning.masks import Mask
from pruning.select import Scores

Loss = Callable[[Params, Any], jax.Array]
"""(parameters, examples) → the mean loss, []."""
Apply = Callable[[Params, Any], Any]
"""(parameters, examples) → the network's outputs [N, …], in evaluation."""
OutputLoss = Callable[[Any, Any], jax.Array]
"""(outputs, examples) → the mean loss, []."""

OF_TRAINING = ("initial", "movement")  # fields of `Evidence` that only a training gives
NEEDED = {  # field of `Evidence` → what to give
    "key": "a key of random numbers",
    "loss": "a function (parameters, examples) → mean loss",
    "examples": "training examples, a pytree of arrays [N, …]",
    "apply": "a function (parameters, examples) → outputs",
    "output_loss": "a function (outputs, examples) → mean loss",
    "initial": "the parameters before training",
    "movement": "the sums of −gradient × weight over training, see pruning.dynamic.movement",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of one replicate when its weights are scored.

    Attributes:
      params: all parameters; those that are pruned are zero.
      mask: the weights that are kept so far. Its paths are those of the prunable leaves.
      key: for random numbers of this replicate and level.
      loss: the mean loss of examples, for criteria that need it; see `Criterion`.
      examples: the examples whose loss is taken, a pytree of arrays [N, …].
      apply: what the network computes of examples.
      output_loss: the mean loss of what the network computes.
      initial: all parameters before training, at step 0.
      movement: Σ −gradient × weight over the training, a tree like the parameters or like the mask.
      batch_size: the examples that are looked at at once; None = all. Sums over batches are those
        of all examples at once. Only `taylor` and means that are not over examples (of tokens, of
        which examples have different numbers) depend on it.
    """

    params: Params
    mask: Mask
    key: jax.Array | None = None
    loss: Loss | None = None
    examples: Any = None
    apply: Apply | None = None
    output_loss: OutputLoss | None = None
    initial: Params | None = None
    movement: Any = None
    batch_size: int | None = None

    @property
    def weights(self) -> dict[str, Any]:
        """The prunable leaves: the mask's path → array."""
        return self.prunable(self.params)

    def prunable(self, tree: Any) -> dict[str, Any]:
        """Returns the leaves of a tree at the mask's paths, as floats of 32 bits or more."""
        leaves = masks.flatten(tree, self.mask.__contains__)
        return {path: _as_float(leaf) for path, leaf in leaves.items()}

    def with_weights(self, weights: Any) -> Params:
        """Returns all parameters, with other prunable leaves, which have their dtype."""
        return trees.map_with_path(
            lambda path, leaf: weights[path].astype(leaf.dtype) if path in weights else leaf,
            self.params,
        )

    def gradients(self) -> Params:
        """Returns the gradients of the loss with respect to all parameters; integers have none.

        Raises:
          ValueError: no loss was given.
        """
        if self.loss is None or self.examples is None:
            raise ValueError("this criterion looks at gradients: give it a loss and examples")
        gradient = jax.grad(self.loss, allow_int=True)
        return batches.mean(
            lambda batch: gradient(self.params, batch), self.examples, self.batch_size
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criterion:
    """A way to score weights. It is called with `Evidence` and returns scores; higher = keep.

    Attributes:
      score: evidence → scores, a flat dict of the mask's paths; higher = keep.
      examples: how many training examples it looks at by default; 0 = it needs neither loss nor
        examples.
      needs: the fields of `Evidence` that it cannot do without, besides `params` and `mask`.
      rounds: how often weights are scored anew on the way to a density, which falls by the same
        factor in each round.
      correct: (evidence, new mask) → all parameters, of which those that remain make up for those
        that go; None if the criterion changes none. The evidence is that of the scores.
    """

    score: Callable[[Evidence], Scores]
    examples: int = 0
    needs: tuple[str, ...] = ()
    rounds: int = 1
    correct: Callable[[Evidence, Mask], Params] | None = None

    def __call__(self, evidence: Evidence) -> Scores:
        """Returns the scores.

        Raises:
          ValueError: the evidence lacks something; the error says what.
        """
        given = {field for field in NEEDED if getattr(evidence, field) is not None}
        if lacking := lacks(self, given):
            what = "; ".join(f"{field}=, {NEEDED[field]}" for field in lacking)
            name = getattr(self.score, "__name__", "")
            raise ValueError(f"the criterion {name} needs {what}")
        return self.score(evidence)


def lacks(criterion: Criterion, given: Iterable[str]) -> list[str]:
    """Returns the fields of `Evidence` that a criterion needs and that are not given."""
    given = set(given)
    return [field for field in criterion.needs if field not in given]


def _as_float(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))
