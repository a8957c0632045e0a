"""The residual MLP of MNIST-1D."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures.initializers import scaled, torch_bias, torch_kernel


class ResidualMLP(nn.Module):
    """inputs-500-500-classes; the second hidden layer is added to the first.

    276,010 parameters for 40 inputs and 10 classes. Kernels and biases start as PyTorch's Linear
    initialises them.
    Source: Greydanus & Kobak, arXiv:2011.14439, the lottery-ticket notebook.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    hidden: int = 500

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = inputs.reshape((inputs.shape[0], -1))
        hidden = scaled(self.hidden, self.width)
        x = nn.relu(self._dense(x, hidden, "fc1"))
        x = x + nn.relu(self._dense(x, hidden, "fc2"))
        return self._dense(x, self.classes, "output")

    def _dense(self, x: jax.Array, units: int, name: str) -> jax.Array:
        bias = torch_bias(x.shape[-1])
        dense = nn.Dense(
            units, True, self.dtype, kernel_init=torch_kernel, bias_init=bias, name=name
        )
        return dense(x)
