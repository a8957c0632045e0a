"""BatchNorm in evaluation, folded into the layer before it. Read `fold` first."""

# C output channels

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from compress.quantize.data_free import chains as chains_lib
from compress.quantize.data_free.affine import added, composite, leaves_of, slope
from compress.quantize.data_free.chains import Chain, leaf_of
from compress.quantize.data_free.flat import (
    Flat,
    constant,
    depends_on,
    enclosed,
    flatten,
    hands_on,
)
from groundwork import trees
from groundwork.traced import network
from groundwork.traced.products import as_kernel, from_kernel
from groundwork.trees import Variables

TOLERANCE = 1e-5  # of what a folded pair computes, relative to its largest value, in float32
ROOTS = ("rsqrt", "sqrt", "pow", "integer_pow")  # through which a variance goes


class Folded(NamedTuple):
    """A network after folding.

    Attributes:
      variables: of the same network.
      folded: path of a kernel → paths of the variables that scaled its outputs.
      left: path of a layer that scales data by a constant of each channel → why it stays.
    """

    variables: Variables
    folded: dict[str, tuple[str, ...]]
    left: dict[str, str]


class _Cannot(Exception):
    """The reason why a chain is not folded."""


def fold(model: Any, variables: Variables, inputs: Any) -> Folded:
    """Returns variables whose kernels have taken in the factors of what follows them.

    In evaluation BatchNorm is γ (y − μ) / √(σ² + ε) + β. The kernel before it is multiplied by
    γ / √(σ² + ε) for each output, and the layer's own bias becomes 0. The BatchNorm keeps the
    scale 1, the mean 0 and the variance 1 − ε, so that it multiplies by 1, and its bias is what
    the whole added: the variables remain those of the same module, and whatever works with it works
    as before. Scales of channels by other constants are folded as well. Pairs are found in the
    network's program: a BatchNorm is folded where it alone reads a product's outputs.

    Sources: Jacob et al., arXiv:1712.05877, Section 3.2; Nagel et al., arXiv:1906.04721, Section
    5. Departs from both: the BatchNorm stays, as an identity with a bias.

    Args:
      model: a Linen module, anything with `apply`, or a function (variables, inputs) → outputs.
      variables: of one replicate.
      inputs: [B, …] of the network, arrays or shapes.

    Returns:
      See `Folded`. Each pair was checked to compute what it did, within 1e-5 of its largest factor
      and offset, or within what its variables' type can tell apart; another type than float32
      rounds folded kernels anew.
    """
    flat, leaves = flatten(model, variables, inputs), leaves_of(variables)
    found, refused = chains_lib.chains(flat)
    folded: dict[str, tuple[str, ...]] = {}
    reasons: dict[int, str] = {}
    for chain in found:
        factors = [step for step in chain.steps if _is_factor(flat, step)]
        if not factors:
            continue
        try:
            changed = _folded(flat, chain, leaves)
        except _Cannot as error:
            reasons.update((step.place, str(error)) for step in factors)
            continue
        folded[chain.kernel] = tuple(sorted(changed.keys() - {chain.kernel}))
        leaves |= changed
        reasons.update((step.place, "") for step in factors)
    left = _left(flat, reasons, refused)
    whole = trees.unflatten(leaves, variables)
    return Folded(whole, folded, left)


def _folded(flat: Flat, chain: Chain, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the variables of a chain as they are after folding, by path."""
    factor, offset = composite(flat, chain, leaves)
    new = {**leaves, **_neutral(flat, chain, leaves)}
    offsets = added(flat, chain)
    for path in offsets.values():
        new[path] = np.zeros_like(leaves[path])
    ones, start = composite(flat, chain, new)
    if not np.all(np.isfinite(factor)) or not np.all(ones):
        raise _Cannot("a factor of it is not finite, or 0")
    if offsets:
        path = offsets[max(offsets)]
        per = slope(flat, chain, new, path)
        new[path] = _like(leaves[path], (offset - start) / per)
    kernel = as_kernel(chain.layer, leaves[chain.kernel].astype(np.float64)) * (factor / ones)
    new[chain.kernel] = _like(leaves[chain.kernel], from_kernel(chain.layer, kernel))
    if not np.all(np.isfinite(new[chain.kernel].astype(np.float64))):
        raise _Cannot("its kernel would not be finite")
    changed = {path: leaf for path, leaf in new.items() if leaf is not leaves[path]}
    steps = [2 * float(jnp.finfo(leaf.dtype).eps) for leaf in changed.values()]
    _check(composite(flat, chain, new), (ones, offset), max(TOLERANCE, *steps))
    return changed


def _neutral(flat: Flat, chain: Chain, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the variables that make the factors of a chain, with values that make them 1."""
    new = {}
    for step in chain.steps:
        if step.name not in ("mul", "div"):
            continue
        for path, epsilon in _roles(flat, step.operand).items():
            if not chains_lib.used_once(flat, path):
                raise _Cannot(f"{path} is used elsewhere, too")
            value = 1.0 if epsilon is None else 1.0 - epsilon
            new[path] = np.full_like(leaves[path], value)
    return new


def _roles(flat: Flat, value: int) -> dict[str, float | None]:
    """Returns the variables that a factor is computed from → ε of a variance, None of a scale."""
    path = leaf_of(flat, value)
    if path is not None:
        return {path: None}
    if value not in flat.makers:
        return {}  # a number
    one = flat.equations[flat.makers[value]]
    if one.name in ROOTS:
        return _variance(flat, one.inputs[0])
    if hands_on(one) or one.name in (*chains_lib.SHAPED, "mul", "div"):
        roles: dict[str, float | None] = {}
        for each in one.inputs:
            roles |= _roles(flat, each)
        return roles
    raise _Cannot(f"its factor goes through {one.name}")


def _variance(flat: Flat, value: int) -> dict[str, float | None]:
    """Returns the variable in σ² + ε, and ε; 0 where nothing is added."""
    path = leaf_of(flat, value)
    if path is not None:
        return {path: 0.0}
    one = flat.equations[flat.makers[value]] if value in flat.makers else None
    if one is not None and (hands_on(one) or one.name in chains_lib.SHAPED):
        return _variance(flat, one.inputs[0])
    if one is not None and one.name == "add":
        paths = [leaf_of(flat, each) for each in one.inputs]
        for side in (0, 1):
            path, other = paths[side], one.inputs[1 - side]
            if path is not None and not depends_on(flat, other):
                return {path: float(np.max(constant(flat, other, {})))}
    raise _Cannot("its factor is the root of something else than σ² + ε")


def _check(
    now: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray], tolerance: float
) -> None:
    for new, old in zip(now, wanted, strict=True):
        if not np.allclose(new, old, rtol=tolerance, atol=tolerance * np.abs(old).max(initial=0)):
            raise _Cannot("no parameter of it can hold the offset or the factor 1")


def _is_factor(flat: Flat, step: chains_lib.Step) -> bool:
    return step.name in ("mul", "div") and bool(depends_on(flat, step.operand))


def _left(flat: Flat, reasons: dict[int, str], refused: dict[str, str]) -> dict[str, str]:
    """Returns the layers that scale data by a constant of each channel and were not folded."""
    left: dict[str, str] = {}
    for place, one in enumerate(flat.equations):
        if one.name not in ("mul", "div") or reasons.get(place) == "":
            continue
        constants = [v for v in one.inputs if v not in flat.data]
        paths = {path for value in constants for path in depends_on(flat, value)}
        if len(constants) == 1 and len(one.inputs) == 2 and paths:
            data = next(v for v in one.inputs if v in flat.data)
            reason = reasons.get(place) or _why(flat, data, refused)
            for path in sorted(paths):
                left.setdefault(_layer(path), reason)
    for path, reason in enclosed(flat).items():
        left.setdefault(_layer(path), reason)
    return left


def _layer(path: str) -> str:
    """Returns the path of the layer that a variable belongs to, without its collection."""
    above, _, last = path.rpartition("/")
    path = network.layer_path(path) if last in network.KERNELS else above or path
    return path.removeprefix("params/").removeprefix("batch_stats/")


def _why(flat: Flat, value: int, refused: dict[str, str]) -> str:
    """Returns why what is scaled is no product's output that it alone reads."""
    while value in flat.makers:
        one = flat.equations[flat.makers[value]]
        if len(flat.uses[value]) > 1:
            return f"what it reads, an output of {one.name}, is used elsewhere, too"
        if one.name not in chains_lib.AFFINE and not hands_on(one):
            break
        inputs = [v for v in one.inputs if v in flat.data]
        if len(inputs) != 1:
            break
        value = inputs[0]
    if value not in flat.makers:
        return "it reads what the network is given"
    one = flat.equations[flat.makers[value]]
    for each in one.inputs:
        for path in depends_on(flat, each) if each not in flat.data else ():
            if path in refused:
                return f"it reads the output of {_layer(path)}: {refused[path]}"
    return f"it reads an output of {one.name}, which is no product"


def _like(leaf: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values.reshape(leaf.shape).astype(leaf.dtype)
