"""Biases that make up for the mean error of rounded weights. Read `correct` first."""

# C output channels

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.quantize.data_free import chains as chains_lib
from compress.quantize.data_free.affine import added, leaves_of, slope
from compress.quantize.data_free.chains import Chain
from compress.quantize.data_free.flat import Equation, Flat, bound, evaluate, flatten
from groundwork import trees
from groundwork.trees import Variables
from pruning.structured import program


class Corrected(NamedTuple):
    """A network after bias correction.

    Attributes:
      variables: the exact network's, whose biases are those that the rounded one needs.
      corrected: path of a kernel → path of the variable that was changed.
      left: path of a kernel → why the mean of its outputs is not corrected.
    """

    variables: Variables
    corrected: dict[str, str]
    left: dict[str, str]


class _Target(NamedTuple):
    """A chain, and the variable that can move the mean of its end."""

    chain: Chain
    path: str
    slope: np.ndarray  # [C], by how much the end grows with it


def correct(model: Any, exact: Variables, rounded: Variables, inputs: Any) -> Corrected:
    """Returns biases with which a rounded network has the exact one's mean outputs, layer by layer.

    The mean error E[(W̃ − W) x] of each output channel of a layer, over examples and positions, is
    subtracted from the bias that follows: the layer's own, or that of the BatchNorm after it. x is
    what the layer is given in each of the two networks, where all layers before are corrected. So
    the means at the end of each chain (see `chains`) are those of the exact network.

    Source: Nagel et al., arXiv:1906.04721, Section 4.2 and its appendix on empirical bias
    correction.

    Args:
      model: a Linen module, anything with `apply`, or a function (variables, inputs) → outputs.
      exact: variables of one replicate before rounding.
      rounded: of the same shapes, as the rounded network computes with them.
      inputs: [B, …] of the network, examples.

    Returns:
      See `Corrected`. Kernels are those of `exact`: round them again, or put the biases into what
      was rounded.

    Raises:
      ValueError: the two trees have different structures.
    """
    if [*trees.flatten(exact)] != [*trees.flatten(rounded)]:
        raise ValueError("the rounded variables must be a tree like the exact ones")
    flat = flatten(model, exact, inputs)
    leaves = leaves_of(exact)
    found, refused = chains_lib.chains(flat)
    rough = leaves_of(rounded)
    targets, left = _targets(flat, found, rough, refused)
    wanted = _run(flat, targets, exact, inputs, None)
    moved = _run(flat, targets, rounded, inputs, wanted)
    corrected = {}
    for target, change in zip(targets, moved, strict=True):
        leaf = rough[target.path]
        change = np.asarray(change, np.float64) / target.slope
        leaves[target.path] = (leaf + change.reshape(leaf.shape)).astype(leaf.dtype)
        corrected[target.chain.kernel] = target.path
    return Corrected(trees.unflatten(leaves, exact), corrected, left)


def _targets(
    flat: Flat, found: list[Chain], leaves: Mapping[str, Any], refused: Mapping[str, str]
) -> tuple[list[_Target], dict[str, str]]:
    """Returns the chains that can be corrected, and why others cannot."""
    targets, left = [], dict(refused)
    for chain in found:
        paths = added(flat, chain)
        if not paths:
            left[chain.kernel] = "no bias follows that is its own"
            continue
        path = paths[max(paths)]
        per = slope(flat, chain, leaves, path)
        if not np.all(per):
            left[chain.kernel] = f"{path} is multiplied by 0"
            continue
        targets.append(_Target(chain, path, per))
    return targets, left


def _run(
    flat: Flat,
    targets: list[_Target],
    variables: Variables,
    inputs: Any,
    wanted: list[jax.Array] | None,
) -> list[jax.Array]:
    """Returns the mean of each chain's end, [C]; or, if means are wanted, what was added to it."""
    ends = {target.chain.end: number for number, target in enumerate(targets)}

    def call(arguments: list[Any], wanted: list[jax.Array] | None) -> list[jax.Array]:
        noted: dict[int, jax.Array] = {}

        def made(one: Equation, values: Mapping[int, Any]) -> list[Any]:
            outputs = bound(one, values)
            for place, value in enumerate(one.outputs):
                if value in ends:
                    number = ends[value]
                    axis = targets[number].chain.axis
                    found = _means(outputs[place], axis)
                    noted[number] = found
                    if wanted is not None:
                        noted[number] = wanted[number] - found
                        along = [-1 if n == axis else 1 for n in range(outputs[place].ndim)]
                        change = noted[number].reshape(along).astype(outputs[place].dtype)
                        outputs[place] = outputs[place] + change
            return outputs

        evaluate(flat, arguments, made)
        return [noted[number] for number in range(len(targets))]

    compiled: Callable[..., Any] = jax.jit(call)
    return compiled(arguments(variables, inputs), wanted)


def arguments(variables: Variables, inputs: Any) -> list[Any]:
    """Returns the arguments of a program in their order."""
    return [jnp.asarray(leaf) for leaf in program.arrays((variables, inputs))]


def _means(values: jax.Array, axis: int) -> jax.Array:
    """Returns the mean along all axes but one, in float32 or more."""
    others = tuple(n for n in range(values.ndim) if n != axis)
    return jnp.mean(values, others, dtype=jnp.promote_types(values.dtype, jnp.float32))
