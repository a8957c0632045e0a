"""A small decoder Transformer."""

# B batch, L length, D features, H heads, S features of a head, C classes

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures.initializers import scaled
from groundwork.architectures.text import tokens as tokens_lib

HIDDEN = 4  # times the features: units of a block's hidden layer
EPSILON = 1e-5  # added to the variance, as in GPT-2

embedding_init = nn.initializers.normal(0.02)  # as in GPT-2


class Attention(nn.Module):
    """Causal attention of H heads: a token attends to itself and to those before it.

    [B, L, D] → [B, L, D], with 4·(D² + D) parameters, for H·S = D, and, for each sequence,
    4·L·D² + 2·L²·D multiply-adds: all pairs of tokens are computed, and the later ones left out.
    The axes of the kernels are [D, H, S], of `out` [H, S, D]; scores are divided by √S, and the
    softmax is computed in float32 or a longer type.
    Source: Vaswani et al., arXiv:1706.03762, Section 3.2.

    Attributes:
      heads: H.
      size: S.
      dtype: the type in which it computes.
    """

    heads: int
    size: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        project = functools.partial(nn.DenseGeneral, (self.heads, self.size), dtype=self.dtype)
        query, key, value = (project(name=name)(x) for name in ("query", "key", "value"))
        scores = jnp.einsum("bqhs,bkhs->bhqk", query * self.size**-0.5, key)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        earlier = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        shares = jax.nn.softmax(jnp.where(earlier, scores, -jnp.inf)).astype(value.dtype)
        mixed = jnp.einsum("bhqk,bkhs->bqhs", shares, value)
        return nn.DenseGeneral(x.shape[-1], (-2, -1), dtype=self.dtype, name="out")(mixed)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), whose hidden layer has 4·D units and GELU.

    LayerNorm stands before each part (pre-norm), and nothing is dropped.
    [B, L, D] → [B, L, D], with 12·D² + 13·D parameters.
    Source: Radford et al. 2019 (GPT-2), Section 2.3; Vaswani et al., arXiv:1706.03762.

    Attributes:
      heads: of the attention.
      dtype: the type in which it computes.
    """

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        norm = functools.partial(nn.LayerNorm, EPSILON, self.dtype)
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        attention = Attention(self.heads, features // self.heads, self.dtype, name="attention")
        x = x + attention(norm(name="norm1")(x))
        hidden = nn.gelu(dense(HIDDEN * features, name="fc1")(norm(name="norm2")(x)))
        return x + dense(features, name="fc2")(hidden)


class Transformer(nn.Module):
    """Embeddings of tokens and learned positions, blocks, LayerNorm and the output.

    Tokens [B, L] → logits [B, L, C]. The context L is the length of the example with which
    variables are made; other lengths are refused. Embeddings and positions start normal with
    deviation 0.02, kernels with variance 1 / fan in (cut at two deviations), biases at 0.
    With N layers it has C·D + L·D + N·(12·D² + 13·D) + 2·D + (D + 1)·C parameters, and
    L·(N·(12·D² + 2·L·D) + D·C) multiply-adds for a sequence; if it is tied, (D + 1)·C parameters
    fewer.

    Attributes:
      classes: C, the number of different tokens.
      width: multiplies the features of every head, and so D and the hidden units.
      dtype: the type in which layers compute.
      layers: N, the number of blocks.
      heads: H, of each attention.
      features: D, a multiple of the heads.
      tied: whether the embedding is the output's kernel, too, which then has no biases.

    Source: Radford et al. 2019 (GPT-2), Section 2.3; tied weights: Press & Wolf,
    arXiv:1608.05859.
    Departs: kernels start as Flax's do, where GPT-2 has deviation 0.02 and smaller ones at the end
    of residual branches; there is no dropout.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    layers: int = 2
    heads: int = 4
    features: int = 64
    tied: bool = False
    settings: ClassVar[tuple[str, ...]] = ("layers", "heads", "features", "tied")

    def __post_init__(self) -> None:
        if self.layers < 1 or self.heads < 1 or self.features < 1:
            raise ValueError("layers, heads and features of the Transformer must be at least 1")
        if self.features % self.heads:
            raise ValueError(f"features={self.features} must be a multiple of heads={self.heads}")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        del train  # nothing is dropped
        tokens_lib.check(inputs)
        features = self.heads * scaled(self.features // self.heads, self.width)
        embed = nn.Embed(
            self.classes, features, self.dtype, embedding_init=embedding_init, name="embed"
        )
        shape = (inputs.shape[1], features)
        positions = self.param("positions", embedding_init, shape)
        x = embed(inputs) + positions.astype(self.dtype)[None]
        for number in range(1, self.layers + 1):
            x = Block(self.heads, self.dtype, name=f"block{number}")(x)
        x = nn.LayerNorm(EPSILON, self.dtype, name="norm")(x)
        if self.tied:
            return embed.attend(x)
        return nn.Dense(self.classes, dtype=self.dtype, name="output")(x)
