"""Cross-layer equalisation: the ranges of neighbouring layers' channels. Read `equalize` first."""

# C output channels, N inputs of a layer, G groups

from typing import Any, NamedTuple

import numpy as np

from compress.quantize.data_free import chains as chains_lib
from compress.quantize.data_free.affine import added, leaves_of
from compress.quantize.data_free.chains import Chain, leaf_of
from compress.quantize.data_free.flat import Flat, flatten
from compress.quantize.data_free.spans import Spans, Use, spans
from groundwork import trees
from groundwork.traced.products import as_kernel, from_kernel
from groundwork.trees import Variables

SWEEPS = 200
CONVERGED = 1e-3  # of the logarithm of a scale, the largest of a sweep


class Equalized(NamedTuple):
    """A network after equalisation.

    Attributes:
      variables: of the same network.
      pairs: path of a kernel → paths of those that take its output channels.
      left: path of a kernel → why its output channels keep their scale.
    """

    variables: Variables
    pairs: dict[str, tuple[str, ...]]
    left: dict[str, str]


def equalize(model: Any, variables: Variables, inputs: Any) -> Equalized:
    """Returns variables whose kernels have even ranges, and which compute the same.

    Output channel i of a layer is divided by s_i, its bias with it, and the next layers' weights
    of this input are multiplied by s_i, with s_i = √(r_i⁽¹⁾ / r_i⁽²⁾), where r_i⁽¹⁾ is the largest
    size of the channel's weights and r_i⁽²⁾ that of the weights that it meets. Both then have the
    range √(r_i⁽¹⁾ r_i⁽²⁾). All pairs are visited in turn until no scale changes by a thousandth.
    Depthwise layers are on both sides of a pair. Between the layers stands what is positively
    homogeneous alone; see `spans`. Fold BatchNorm first (`folding.fold`): a factor that stands
    between is not seen in the range.

    Source: Nagel et al., arXiv:1906.04721, Section 4.1, equations 9 to 11. Departs: several layers
    that take one channel share its scale, r⁽²⁾ being the largest of theirs; a channel that is 0 on
    either side keeps its scale.

    Args:
      model: a Linen module, anything with `apply`, or a function (variables, inputs) → outputs.
      variables: of one replicate.
      inputs: [B, …] of the network, arrays or shapes.

    Returns:
      See `Equalized`. Channels that are added to others, as residual ones, are left.
    """
    flat, leaves = flatten(model, variables, inputs), leaves_of(variables)
    found, refused = chains_lib.chains(flat)
    where = spans(flat, found)
    left = {found[number].kernel: reason for number, reason in where.blocked.items()}
    for number, chain in enumerate(found):
        if number not in where.blocked and (reason := _offsets_stay(flat, chain)):
            where.blocked[number] = left[chain.kernel] = reason
    kernels = [as_kernel(c.layer, leaves[c.kernel]).astype(np.float64) for c in found]
    scales = _scales(found, where, kernels)
    for number, chain in enumerate(found):
        kernel = from_kernel(chain.layer, kernels[number])
        leaves[chain.kernel] = kernel.astype(leaves[chain.kernel].dtype)
        for path in added(flat, chain).values():
            leaf = leaves[path]
            scaled = leaf.reshape(-1) / scales[number]
            leaves[path] = scaled.reshape(leaf.shape).astype(leaf.dtype)
    pairs = _pairs(found, where)
    return Equalized(trees.unflatten(leaves, variables), pairs, {**refused, **left})


def _scales(found: list[Chain], where: Spans, kernels: list[np.ndarray]) -> list[np.ndarray]:
    """Scales kernels in place; returns by how much the channels of each chain were divided."""
    total = sum(chain.channels for chain in found)
    scales = np.ones(total)
    sizes = [np.abs(kernel) for kernel in kernels]
    free = [number for number in range(len(found)) if number not in where.blocked]
    users: dict[int, list[Use]] = {number: [] for number in free}
    for use in where.uses:
        for number in free:
            first = where.first[number]
            if np.any((use.ids >= first) & (use.ids < first + found[number].channels)):
                users[number].append(use)
    for _ in range(SWEEPS):
        largest = 0.0
        for number in free:
            chain, first = found[number], where.first[number]
            channels = slice(first, first + chain.channels)
            own = sizes[number].reshape(-1, chain.channels).max(0)
            theirs = _met(found, users[number], sizes, total)[channels]
            usable = (own > 0) & (theirs > 0)
            step = np.ones(chain.channels)
            step[usable] = np.sqrt(own[usable] / theirs[usable])
            scales[channels] *= step
            every = np.ones(total)
            every[channels] = step
            for array in (kernels, sizes):
                array[number] /= step
                for use in users[number]:
                    array[use.chain] *= _by_input(found[use.chain], use.ids, every)
            largest = max(largest, float(np.abs(np.log(step)).max(initial=0)))
        if largest < CONVERGED:
            break
    return [
        scales[first : first + chain.channels]
        for first, chain in zip(where.first, found, strict=True)
    ]


def _met(found: list[Chain], uses: list[Use], sizes: list[np.ndarray], total: int) -> np.ndarray:
    """Returns the largest size of the weights that each channel meets, 0 where it meets none."""
    largest = np.zeros(total + 1)
    for use in uses:
        inputs = _of_inputs(found[use.chain], sizes[use.chain])
        np.maximum.at(largest, use.ids, inputs)
    return largest[:-1]  # the last stands for inputs that are no channel


def _of_inputs(chain: Chain, size: np.ndarray) -> np.ndarray:
    """Returns the largest size of the weights of each input, [N]."""
    groups = chain.layer.groups
    parted = size.reshape(-1, size.shape[-2], groups, size.shape[-1] // groups)
    return parted.max((0, 3)).T.reshape(-1)


def _by_input(chain: Chain, ids: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Returns what each weight of a kernel is multiplied by, [N / G, outputs]."""
    groups, outputs = chain.layer.groups, chain.channels
    factors = np.where(ids >= 0, scales[ids], 1.0).reshape(groups, -1).T
    return np.repeat(factors, outputs // groups, axis=1)


def _offsets_stay(flat: Flat, chain: Chain) -> str:
    """Returns why what is added to a chain's outputs cannot be scaled; empty if it can."""
    scaled = added(flat, chain)
    for number, step in enumerate(chain.steps):
        if step.name in ("add", "sub") and number not in scaled:
            path = leaf_of(flat, step.operand)
            return f"{path} is used elsewhere, too" if path else "what is added is no parameter"
    return ""


def _pairs(found: list[Chain], where: Spans) -> dict[str, tuple[str, ...]]:
    pairs = {}
    for number, chain in enumerate(found):
        if number in where.blocked:
            continue
        first = where.first[number]
        pairs[chain.kernel] = tuple(
            found[use.chain].kernel
            for use in where.uses
            if np.any((use.ids >= first) & (use.ids < first + chain.channels))
        )
    return pairs
