"""Parameters from stored forms, and the part of a form that is trained. Read `materialize`."""

from typing import Any

import jax
import jax.numpy as jnp

from compress.quantize import grids, slices, ternary_binary
from compress.quantize.grids import Uniform
from compress.quantize.k_means import Clusters
from compress.quantize.ternary_binary import Binary, Ternary
from groundwork import trees

Stored = Clusters | Uniform | Ternary | Binary


def dequantize(stored: Stored) -> jax.Array:
    """Returns the weights of one stored form. It is differentiable in the form's floats.

    The gradient of a codebook is the sum of the weights' gradients over each cluster (Han et al.,
    arXiv:1510.00149, Section 3.3). Weights that a mask prunes are exactly zero, whatever the
    codebook says, and give it no gradient. A form that `jax.vmap` of a quantiser made of a stack of
    layers gives the stack, each slice by its own codebook or scale.

    Raises:
      ValueError: it is not a stored form.

    Example:
        >>> from compress import quantize
        >>> stored = quantize.binary(jnp.array([0.5, -1.5]), scaled=True)
        >>> quantize.dequantize(stored).tolist()
        [1.0, -1.0]
    """
    match stored:
        case Clusters():
            weights = slices.look_up(stored.codebook, stored.indices.astype(jnp.int32))
            return weights if stored.mask is None else jnp.where(stored.mask, weights, 0)
        case Uniform():
            return grids.dequantize(stored)
        case Ternary():
            return ternary_binary.dequantize_ternary(stored)
        case Binary():
            return ternary_binary.dequantize_binary(stored)
    raise ValueError(f"no stored form: {type(stored).__name__}")


def materialize(stored: Any, learned: Any = None) -> Any:
    """Returns the parameters of a tree of stored forms and plain arrays. For jit, vmap and grad.

    Args:
      stored: any pytree of forms and arrays, such as a model's parameters with some of them stored.
      learned: what `learnable(stored)` returned, trained since, to use in place of `stored`'s.

    Raises:
      ValueError: `learned` has other paths or shapes.

    Example:
        >>> from compress import quantize
        >>> kernel = quantize.kmeans(jnp.array([1.0, 1.5, 4.0, 5.0]), bits=1)
        >>> params = quantize.materialize({"kernel": kernel, "bias": jnp.zeros(1)})
        >>> params["kernel"].tolist()
        [1.25, 1.25, 4.5, 4.5]
        >>> loss = lambda learned: quantize.materialize(kernel, learned).sum()
        >>> jax.grad(loss)(quantize.learnable(kernel)).tolist()  # of the codebook: two weights each
        [2.0, 2.0]
    """
    if learned is not None:
        stored = learn(stored, learned)
    return jax.tree.map(
        lambda leaf: dequantize(leaf) if _is_stored(leaf) else leaf, stored, is_leaf=_is_stored
    )


def learn(stored: Any, learned: Any) -> Any:
    """Returns the tree `stored` with `learned`, which is `learnable(stored)` trained since, in it.

    Raises:
      ValueError: `learned` has other paths or shapes.

    Example:
        >>> from compress import quantize
        >>> kernel = quantize.kmeans(jnp.array([1.0, 1.5, 4.0, 5.0]), bits=1)
        >>> trained = quantize.learnable(kernel) + 1  # a codebook after some steps
        >>> quantize.dequantize(quantize.learn(kernel, trained)).tolist()
        [2.25, 2.25, 5.5, 5.5]
    """
    _check_same(learnable(stored), learned)
    return jax.tree.map(_with, stored, learned, is_leaf=_is_stored)


def learnable(stored: Any) -> Any:
    """Returns the tree of what fine-tuning changes: only floats, for `jax.grad` and an optimiser.

    `Clusters` become their codebook, `Uniform` and `Binary` their scale, and `Ternary` a dict of
    both scales. Plain arrays stay as they are.

    Example:
        >>> from compress import quantize
        >>> weights = jnp.array([1.0, 1.5, 4.0, 5.0])
        >>> stored = {"fc1": quantize.kmeans(weights, bits=1), "fc2": quantize.ternary(weights)}
        >>> jax.tree.map(jnp.shape, quantize.learnable(stored))
        {'fc1': (2,), 'fc2': {'negative': (), 'positive': ()}}
    """

    def floats(leaf: Any) -> Any:
        match leaf:
            case Clusters():
                return leaf.codebook
            case Uniform() | Binary():
                return leaf.scale
            case Ternary():
                return {"positive": leaf.positive, "negative": leaf.negative}
        return leaf

    return jax.tree.map(floats, stored, is_leaf=_is_stored)


def _with(leaf: Any, floats: Any) -> Any:
    """Returns the leaf with other floats, in the form of `learnable`."""
    match leaf:
        case Clusters():
            return leaf._replace(codebook=floats)
        case Uniform() | Binary():
            return leaf._replace(scale=floats)
        case Ternary():
            return leaf._replace(**floats)
    return floats


def _check_same(expected: Any, learned: Any) -> None:
    wanted, given = (
        {path: jnp.shape(leaf) for path, leaf in trees.flatten(tree).items()}
        for tree in (expected, learned)
    )
    differing = sorted(path for path in wanted | given if wanted.get(path) != given.get(path))
    if differing:
        raise ValueError(f"learned differs from learnable(stored) in shape or path at {differing}")


def _is_stored(leaf: Any) -> bool:
    return isinstance(leaf, Stored)
