"""Predictions for tokens that stop early: a network with heads that gives logits [B, L, classes].

Each token is an example: it is answered by the first exit that is confident enough of it. The
tokens of a sequence look at each other, so a block is computed for whole sequences, for those that
still have a token without an answer.

Source: exits of a Transformer by confidence, Schuster et al., arXiv:2207.07061 (CALM), Section 3.
Departs: a sequence's tokens all go on until the last of them leaves, where that source hands the
states of those that left to later blocks.
"""

# N sequences, B of a batch, L tokens, K exits

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from groundwork.errors import ArgumentError, unknown
from groundwork.trees import Variables
from msdnet import exits as exits_lib
from msdnet.cascade import fitting, sizes
from msdnet.exit_network import Features


class TokenPredictions(NamedTuple):
    """What was said of each token, in the sequences' order."""

    labels: np.ndarray  # [N, L] int32
    exits: np.ndarray  # [N, L] int32 in [0, K)
    confidences: np.ndarray  # [N, L] float32
    blocks: np.ndarray  # [N] int32 in [1, K]: how many were computed for each sequence


def predict(
    model: nn.Module,
    variables: Variables,
    tokens: Any,
    thresholds: Any,
    batch_size: int = 64,
    *,
    confidence: str = "softmax",
) -> TokenPredictions:
    """Returns the labels of tokens, each from the first exit that is confident enough.

    Blocks beyond the one where a sequence's last token leaves are not computed for it. Labels and
    exits are those of the whole network, up to rounding between batches of different sizes.

    Args:
      model: a network with exits that gives logits [B, L, classes]; see `heads.attach`.
      variables: its variables, without a replicate axis.
      tokens: network inputs [N, L], or any other array [N, …].
      thresholds: [K − 1]; a token leaves at the first exit whose confidence is above. See
        `exits.thresholds`, which takes the confidences of all tokens as [N × L, K]. Its budget is
        one of tokens that leave alone: sequences cost more, as much as `blocks` says.
      batch_size: sequences that run at once.
      confidence: `softmax`, `entropy` or `margin`.

    Raises:
      ArgumentError: a wrong number of thresholds, an unknown confidence, no sequences, or a network
        that gives no logits of tokens.

    Example:
        >>> import flax.linen as nn
        >>> from msdnet import heads, tokens
        >>> network = nn.Sequential([nn.Embed(3, 3), nn.Dense(2)])
        >>> model, texts = heads.attach(network, ["layers_0"], 2), np.array([[0, 1], [0, 2]])
        >>> chosen = lambda leaf: 5 * jnp.eye(*leaf.shape) if leaf.ndim == 2 else leaf
        >>> variables = jax.tree.map(chosen, model.init(jax.random.key(0), texts))
        >>> found = tokens.predict(model, variables, texts, thresholds=[0.9])
        >>> found.exits.tolist(), found.blocks.tolist()  # the first exit is unsure of token 2
        ([[0, 0], [0, 1]], [1, 2])
    """
    count: int = model.exits
    limits = np.append(exits_lib.check_thresholds(thresholds, count), -np.inf)
    if confidence not in exits_lib.CONFIDENCES:
        raise ArgumentError(str(unknown("confidence", confidence, exits_lib.CONFIDENCES)))
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ArgumentError(f"batch_size={batch_size!r} must be an integer, at least 1")
    inputs = np.asarray(tokens)
    if not inputs.ndim or not len(inputs):
        raise ArgumentError(f"tokens must be [N, L] of at least one sequence, not {inputs.shape}")
    parts = [
        _batch(model, variables, inputs[start : start + batch_size], limits, confidence)
        for start in range(0, len(inputs), batch_size)
    ]
    return TokenPredictions(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _batch(
    model: nn.Module, variables: Variables, inputs: np.ndarray, limits: np.ndarray, kind: str
) -> TokenPredictions:
    """Returns the predictions for one batch of sequences."""
    number = len(inputs)
    rows, places, features = np.arange(number), np.arange(number), inputs
    found: TokenPredictions | None = None
    for k, limit in enumerate(limits):
        size = fitting(sizes(number), len(rows))
        chosen = np.pad(places, (0, size - len(places)))  # the first again, where there are fewer
        features, *answers = _block(model, kind)(k, variables, features, chosen)
        labels, confidences = (np.asarray(array)[: len(rows)] for array in answers)
        if found is None:
            found = TokenPredictions(
                labels=np.zeros((number, *labels.shape[1:]), np.int32),
                exits=np.full((number, *labels.shape[1:]), -1, np.int32),
                confidences=np.zeros((number, *labels.shape[1:]), np.float32),
                blocks=np.zeros(number, np.int32),
            )
        waits = found.exits[rows] < 0
        leaves = waits & ((confidences > limit) | (k == len(limits) - 1))
        news: tuple[Any, ...] = (labels, k, confidences)
        for array, new in zip(found[:3], news, strict=True):
            array[rows] = np.where(leaves, new, array[rows])
        found.blocks[rows] = k + 1
        (places,) = np.nonzero((waits & ~leaves).any(1))
        rows = rows[places]
        if not len(rows):
            break
    assert found is not None
    return found


@functools.lru_cache(maxsize=16)
def _block(model: nn.Module, kind: str) -> Any:
    """Returns (k, variables, features, rows) → features, labels and confidences of these rows."""

    def run(k: int, variables: Variables, features: Features, rows: jax.Array) -> Any:
        taken = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], features)
        after: Any = model.apply(variables, k, taken, method="block")
        features, logits = after
        if logits.ndim != 3:
            raise ArgumentError(f"exit {k} gives {logits.shape}, not logits [B, L, classes]")
        labels = jnp.argmax(logits, -1).astype(jnp.int32)
        return features, labels, exits_lib.confidence(logits, kind)

    return jax.jit(run, static_argnums=0)
