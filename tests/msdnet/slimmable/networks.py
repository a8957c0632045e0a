"""A tiny network with BatchNorm, and what it computes at a width, written out in numpy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

CLASSES, SHAPE = 3, (5,)
WIDTHS = (0.5, 1.0)
UNITS = {"first": 4, "second": 6}


class Tiny(nn.Module):
    """Two dense layers with BatchNorm between them, and an answer."""

    classes: int = CLASSES
    first: int = UNITS["first"]
    second: int = UNITS["second"]

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Dense(self.first, name="first")(inputs.reshape(len(inputs), -1))
        axis = "data" if train else None
        x = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, axis_name=axis, name="norm")(x)
        x = nn.relu(nn.Dense(self.second, name="second")(nn.relu(x)))
        return nn.Dense(self.classes, name="output")(x)


def drawn(tree, seed=0):
    """Numbers in place of a tree's leaves; the variances are positive."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.abs(rng.normal(size=leaf.shape)).astype(leaf.dtype), tree)


def by_hand(variables, inputs, number, count, train=False):
    """Logits, and the new statistics, of `count` of the first units and a norm of its own.

    Args:
      variables: of the slimmable network.
      inputs: [B, 5].
      number: of the width.
      count: layer → units.
      train: whether the batch's statistics count.
    """
    params, own = variables["params"], f"width_{number}"
    one, two = count["first"], count["second"]
    x = inputs @ params["first"]["kernel"][:, :one] + params["first"]["bias"][:one]
    before = {key: leaf[own] for key, leaf in variables["batch_stats"]["norm"].items()}
    batch = {"mean": x.mean(0), "var": x.var(0)}
    used = batch if train else before
    norm = {key: leaf[own] for key, leaf in params["norm"].items()}
    x = (x - used["mean"]) / np.sqrt(used["var"] + 1e-5) * norm["scale"] + norm["bias"]
    x = np.maximum(x, 0) @ params["second"]["kernel"][:one, :two] + params["second"]["bias"][:two]
    logits = np.maximum(x, 0) @ params["output"]["kernel"][:two] + params["output"]["bias"]
    return logits, {key: 0.9 * before[key] + 0.1 * batch[key] for key in before}


def inputs(count=7):
    return jnp.asarray(np.random.default_rng(1).normal(size=(count, *SHAPE)), jnp.float32)
