"""What every network with exits has, and what `cost`, `objective` and `predict` need of it."""

# B batch, K exits

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from groundwork.trees import Shapes

Features = Any
"""What one block gives to the next: the images, before the first block."""


class ExitNetwork(nn.Module):
    """A network with K exits, block by block or as a whole; subclasses have the last three parts.

    The same parameters serve the network block by block: `features, logits = block(k, features)`
    (`model.apply(variables, k, features, method="block")`), where block 0 takes the images.
    """

    alone = False  # whether each exit is a network of its own, which needs no earlier one

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

    def weights(
        self, k: int, variables: Shapes, shape: tuple[int, ...]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Returns the parameters of block k, and those of classifier k, as shapes.

        Args:
          k: the exit.
          variables: the shapes of the network's variables.
          shape: of an image, [H, W, C].
        """
        params = variables["params"]
        return params.get(f"backbone_{k}", {}), params.get(f"classifier_{k}", {})

    def advance(self, k: int, features: Features, train: bool = False) -> Features:
        """Returns what block k makes of its features, without its classifier."""
        raise NotImplementedError

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        """Returns exit k's logits, [B, classes], from what block k has made."""
        raise NotImplementedError
