"""The arguments of a criterion when it scores the weights of one replicate."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from groundwork.trees import Params
from pruning.masks import Mask
from pruning.select import Scores

Loss = Callable[[Params, Any], jax.Array]  # parameters, examples → the mean loss, []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of one replicate when its weights are scored.

    Attributes:
      params: all parameters after training.
      mask: the weights that are kept so far.
      key: for random numbers of this replicate and level.
      loss: the mean loss of examples, for criteria that need it; see `Criterion`.
      examples: the examples whose loss is taken.
    """

    params: Params
    mask: Mask
    key: jax.Array
    loss: Loss | None = None
    examples: Any = None

    def gradients(self) -> Params:
        """Returns the gradients of the loss with respect to all parameters; integers have none.

        Raises:
          ValueError: no loss was given.
        """
        if self.loss is None:
            raise ValueError("this criterion looks at gradients: give it a loss and examples")
        return jax.grad(self.loss, allow_int=True)(self.params, self.examples)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criterion:
    """A way to score weights.

    Attributes:
      score: evidence → scores, a flat dict of the mask's paths; higher = keep.
      examples: how many training examples it needs; 0 = it needs neither loss nor examples.
    """

    score: Callable[[Evidence], Scores]
    examples: int = 0
