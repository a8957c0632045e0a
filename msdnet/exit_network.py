"""What every network with exits has, and what `cost`, `objective` and `predict` need of it."""

# B batch, K exits

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax

from groundwork.trees import Shapes, count

Features = Any
"""What one block gives to the next: the images, before the first block."""


class ExitNetwork(nn.Module):
    """A network with K exits, block by block or as a whole; subclasses have the last three parts.

    The same parameters serve the network block by block: `features, logits = block(k, features)`
    (`model.apply(variables, k, features, method="block")`), where block 0 takes the images.
    """

    alone: ClassVar[bool] = False  # whether each exit is a network of its own, without earlier ones
    any_inputs: ClassVar[bool] = False  # whether it takes others than images [B, H, W, C] of floats

    def __post_init__(self) -> None:
        """Lists become tuples, since a network must be hashable."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name, None)
            if isinstance(value, list):
                setattr(self, field.name, tuple(value))
        super().__post_init__()

    def __call__(self, images: jax.Array, train: bool = False) -> list[jax.Array]:
        """Returns the logits of all exits, K × [B, classes]."""
        features, all_logits = images, []
        for k in range(self.exits):
            features, logits = self.block(k, features, train)
            all_logits.append(logits)
        return all_logits

    def block(self, k: int, features: Features, train: bool = False) -> tuple[Features, jax.Array]:
        """Returns what the next block takes, and exit k's logits [B, classes]."""
        features = self.advance(k, features, train)
        return features, self.classify(k, features, train)

    @property
    def exits(self) -> int:
        """K, the number of exits."""
        raise NotImplementedError

    def advance(self, k: int, features: Features, train: bool = False) -> Features:
        """Returns what block k makes of its features, without its classifier."""
        raise NotImplementedError

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        """Returns exit k's logits, [B, classes], from what block k has made."""
        raise NotImplementedError

    @nn.nowrap
    def parameters_of(self, variables: Shapes, example: Any) -> list[tuple[int, int]]:
        """Returns how many parameters each block has, and how many its classifier has.

        Args:
          variables: the shapes of the network's variables.
          example: shapes of one example's inputs, [1, …].
        """
        del example
        params = variables["params"]
        parts = [[f"{part}_{k}" for part in ("backbone", "classifier")] for k in range(self.exits)]
        return [
            (count(params.get(block, {})), count(params.get(head, {}))) for block, head in parts
        ]
