"""A language model of LSTM layers."""

# B batch, L length, D features, C classes

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from groundwork.architectures.initializers import orthogonal, scaled
from groundwork.architectures.text import tokens as tokens_lib

GATES = 4  # input, forget, candidate, output

embedding_init = nn.initializers.normal(0.1)


def forgetting(
    key: jax.Array, shape: Sequence[Any], dtype: Any = jnp.float32, out_sharding: Any = None
) -> jax.Array:
    """Returns biases of 0, and of 1 for the forget gate: [4, D], or [4·D] as Flax asks for them."""
    del key, out_sharding
    return jnp.zeros(shape, dtype).reshape(GATES, -1).at[1].set(1).reshape(shape)


class Recurrent(nn.Module):
    """What a layer adds to its gates from its own last output: h·W, of the kernel [D, 4, D]."""

    features: int

    @nn.compact
    def __call__(self) -> jax.Array:
        def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
            inputs, gates, outputs = shape
            return jnp.moveaxis(orthogonal(key, (gates, inputs, outputs), dtype), 0, 1)

        return self.param("kernel", init, (self.features, GATES, self.features))


class Layer(nn.Module):
    """One layer of LSTM: i, f, g, o = x·U + b + h·W; c ← σ(f)·c + σ(i)·tanh(g); h ← σ(o)·tanh(c).

    [B, L, E] → [B, L, D]; h and c begin at 0 in every sequence. U is [E, 4, D], for all tokens at
    once; W is [D, 4, D], in a `lax.scan` over the tokens. 4·D·(E + D + 1) parameters, and
    4·L·D·(E + D) multiply-adds for a sequence.
    Source: Hochreiter & Schmidhuber 1997, with forget gates (Gers et al. 2000).

    Attributes:
      features: D.
      dtype: the type in which it computes.
    """

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = nn.DenseGeneral(
            (GATES, self.features), dtype=self.dtype, bias_init=forgetting, name="inputs"
        )
        given = dense(x)  # [B, L, 4, D]
        kernel = Recurrent(self.features, name="recurrent")().astype(self.dtype)

        def step(
            carry: tuple[jax.Array, jax.Array], given: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            cell, hidden = carry
            gates = given + jnp.einsum("bd,dge->bge", hidden, kernel)
            let_in, keep, candidate, let_out = (gates[:, gate] for gate in range(GATES))
            cell = nn.sigmoid(keep) * cell + nn.sigmoid(let_in) * jnp.tanh(candidate)
            hidden = nn.sigmoid(let_out) * jnp.tanh(cell)
            return (cell, hidden), hidden

        start = jnp.zeros_like(given[:, 0, 0])
        _, outputs = lax.scan(step, (start, start), jnp.swapaxes(given, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)


class LSTM(nn.Module):
    """Embeddings of tokens, layers of LSTM and the output.

    Tokens [B, L] → logits [B, L, C]. Embeddings start normal with deviation 0.1, kernels of inputs
    with variance 1 / fan in (cut at two deviations), recurrent ones orthogonal for each gate, and
    biases at 0, but at 1 for forget gates. With N layers it has C·D + N·4·D·(2·D + 1) + (D + 1)·C
    parameters, and L·(8·N·D² + D·C) multiply-adds for a sequence.

    Attributes:
      classes: C, the number of different tokens.
      width: multiplies the features.
      dtype: the type in which layers compute.
      layers: N.
      features: D, of embeddings and of every layer.

    Source: the form of Zaremba et al., arXiv:1409.2329, which Yu et al., arXiv:1906.02768, prune
    with 2 layers of 650; forget gates that begin open: Jozefowicz et al. 2015.
    Departs: there is no dropout, and a sequence begins at zeros where they carry states over.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    layers: int = 2
    features: int = 64
    settings: ClassVar[tuple[str, ...]] = ("layers", "features")

    def __post_init__(self) -> None:
        if self.layers < 1 or self.features < 1:
            raise ValueError("layers and features of the LSTM must be at least 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        del train  # nothing is dropped
        tokens_lib.check(inputs)
        features = scaled(self.features, self.width)
        embed = nn.Embed(
            self.classes, features, self.dtype, embedding_init=embedding_init, name="embed"
        )
        x = embed(inputs)
        for number in range(1, self.layers + 1):
            x = Layer(features, self.dtype, name=f"lstm{number}")(x)
        return nn.Dense(self.classes, dtype=self.dtype, name="output")(x)
