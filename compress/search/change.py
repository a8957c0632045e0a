"""A network in which one layer is changed, without training. Read `changed`.

Others make up for what goes, where the house knows how: after units go, the next layers are solved
for anew (`structured.least_squares`); after weights go, the weights that remain
(`pruning.criteria.second_order`); factors may be those of the outputs (`svd_outputs`); and biases
take the mean error of the layer's outputs, as `quantize.data_free.correct` does.
"""

# G groups of channels, K inputs of a layer, M outputs

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import quantize
from compress.quantize import k_means
from compress.search import settings
from compress.search.original import Replicate
from compress.search.settings import Rank, Setting
from groundwork import trees
from groundwork.traced.reach import Reached
from groundwork.trees import Variables
from lowrank import factorization
from lowrank.factorization.methods import METHODS
from lowrank.factorization.plan import stored
from pruning import enforce, grams, structured
from pruning.criteria import second_order

SOLVED = 1e9  # Σ (weights of an output)³, above which pruned weights are not made up for


def changed(replicate: Replicate, layer: str, setting: Setting, criterion: str = "l2") -> Variables:
    """Returns the variables of one replicate, at full size, as the changed network computes.

    A factorised kernel is the one that its factors make up, units that go are zero, and rounded
    weights are what their codebook gives. So all of them are evaluated by one program.

    Args:
      replicate: of the network.
      layer: the layer whose setting it is.
      setting: one that changes the form (units, or a low rank), or weights (density, bits) alone;
        bits of the inputs change no variable, and are left out of account.
      criterion: what ranks units.

    Raises:
      ValueError: the setting changes both the form and weights.
    """
    weights = setting.density < 1 or setting.bits > 0
    if setting.changes_form and (weights or (setting.units < 1 and setting.method)):
        raise ValueError(f"{layer}: {setting}: a form and weights are changed one at a time")
    if setting.units < 1:
        return _without_units(replicate, layer, setting.units, criterion)
    reached = replicate.original.found.layers[layer]
    if setting.method:
        whole = _low_rank(replicate, layer, setting)
        new = factorization.with_kernel(replicate.variables, reached, whole)
    elif weights:
        kernel = values(stored_weights(replicate, layer, setting))
        new = _replaced(replicate.variables, reached, jnp.asarray(kernel))
    else:
        return replicate.variables
    return _with_bias(replicate, layer, new)


def stored_weights(replicate: Replicate, layer: str, setting: Setting, make_up: bool = True) -> Any:
    """Returns a layer's kernel with the density and the bits of a setting: an array, or a codebook.

    Args:
      replicate: of the network.
      layer: of the kernel.
      setting: its density and its bits alone count.
      make_up: whether the weights that remain make up for those that go.
    """
    reached = replicate.original.found.layers[layer]
    kernel = trees.flatten(replicate.variables["params"])[reached.parameter]
    mask = kept_weights(replicate, layer, setting.density)
    if mask is not None:
        before = replicate.mask.get(reached.parameter)
        if make_up and (before is None or mask.sum() < before.sum()):
            key = (layer, setting.density)  # which several numbers of bits have in turn
            kernel = replicate.latest(
                "made up", key, lambda: _made_up(replicate, layer, kernel, mask)
            )
        kernel = np.where(mask, kernel, np.float32(0))
    if not setting.bits:
        return kernel
    most = replicate.original.largest
    return k_means.kmeans_of_any_size(np.asarray(kernel), setting.bits, mask, most)


def values(weights: Any) -> np.ndarray:
    """Returns the kernel of what `stored_weights` returns, on the host."""
    if isinstance(weights, quantize.Clusters):
        return np.asarray(weights.codebook)[np.asarray(weights.indices)]
    return np.asarray(weights)


def kept_weights(replicate: Replicate, layer: str, density: float) -> np.ndarray | None:
    """Returns which of a kernel's weights stay, the largest; None if nothing is pruned.

    What the original's mask prunes stays pruned. Ties go to the lower index.
    """
    reached = replicate.original.found.layers[layer]
    before = replicate.mask.get(reached.parameter)
    kernel = np.asarray(trees.flatten(replicate.variables["params"])[reached.parameter])
    count = max(1, round(density * kernel.size))
    if count >= (kernel.size if before is None else int(before.sum())):
        return before
    sizes = np.abs(kernel) if before is None else np.where(before, np.abs(kernel), -1)
    kept = np.zeros(kernel.size, bool)
    kept[np.argsort(-sizes.ravel(), kind="stable")[:count]] = True
    return kept.reshape(kernel.shape)


def kept_units(replicate: Replicate, group: str, share: float, criterion: str) -> np.ndarray:
    """Returns which units of a group stay, [U] bool: those with the highest scores."""
    scores = replicate.scores(criterion)[group]
    count = max(1, round(share * len(scores)))
    return structured.lowest_go(scores, len(scores) - count)


def _low_rank(replicate: Replicate, layer: str, setting: Setting) -> jax.Array:
    """Returns the kernel that the factors of a rank make up.

    The two factors of an SVD of any rank are the first columns and rows of those of full rank,
    which are computed once.
    """
    reached = replicate.original.found.layers[layer]
    method = METHODS[reached.layer.kind][setting.method]
    full = method.full(reached.kernel)
    if isinstance(full, tuple) or len(method.stages) != 2:
        return method.reconstruct(*_factors(replicate, layer, setting.method, setting.rank))
    first, last = replicate.once(
        (layer, setting.method), lambda: _factors(replicate, layer, setting.method, full)
    )
    kept = jnp.asarray(np.arange(full) < setting.rank, first.dtype)
    first = first * kept.reshape((1,) * (first.ndim - 1) + (-1,))
    return method.reconstruct(first, last)


def _factors(replicate: Replicate, layer: str, method: str, rank: Rank) -> list[jax.Array]:
    """Returns the kernels of a layer's factors, in their order."""
    reached = {layer: replicate.original.found.layers[layer]}
    chosen = METHODS[reached[layer].layer.kind][method]
    plan = settings.plan({layer: Setting(method=method, rank=rank)})
    rows = {layer: replicate.rows(layer)} if chosen.needs_inputs else None
    factors, _ = factorization.decompose(replicate.variables, plan, rows, replicate.key, reached)
    _, parts = stored(factors, layer, plan[layer])
    return [parts[name]["kernel"] for name in chosen.names]


def _without_units(replicate: Replicate, group: str, share: float, criterion: str) -> Variables:
    original = replicate.original
    graph = original.found.graph
    assert graph is not None
    keep = {group: kept_units(replicate, group, share, criterion)}
    solved, _ = structured.least_squares(graph, replicate.variables, keep, original.inputs)
    mask: Any = replicate.mask
    return {**solved, "params": enforce.apply(mask, solved["params"])}


def _made_up(replicate: Replicate, layer: str, kernel: jax.Array, mask: np.ndarray) -> jax.Array:
    """Returns a kernel whose weights in the mask make up for the others.

    It stays as it is where a layer has many inputs, or where so many weights stay that solving for
    those of each output takes long: little is lost there.
    """
    gram = replicate.grams.get(layer)
    outputs = mask.shape[-1]
    if gram is None or outputs * (mask.sum() / outputs) ** 3 > SOLVED:
        return kernel
    reached = replicate.original.found.layers[layer]
    weight, keep = (grams.as_matrices(reached, jnp.asarray(leaf)) for leaf in (kernel, mask))
    return grams.from_matrices(reached, second_order.made_up(gram, weight, keep))


def _replaced(variables: Variables, reached: Reached, kernel: jax.Array) -> Variables:
    return {
        **variables,
        "params": trees.map_with_path(
            lambda path, leaf: kernel if path == reached.parameter else leaf, variables["params"]
        ),
    }


def _with_bias(replicate: Replicate, layer: str, new: Variables) -> Variables:
    """Returns variables in which the layer's own bias, if it has one, takes the mean error.

    Entries of the bias that the original's mask prunes stay zero.
    """
    mean = replicate.means.get(layer)
    bias, reached = f"{layer}/bias", replicate.original.found.layers[layer]
    before, after = (trees.flatten(v["params"]) for v in (replicate.variables, new))
    if mean is None or bias not in after:
        return new
    error = grams.as_matrices(reached, after[reached.parameter] - before[reached.parameter])
    moved = jnp.einsum("gk,gkm->gm", mean, error, precision=jax.lax.Precision.HIGHEST)
    if moved.size != after[bias].size:
        return new
    kept = jnp.asarray(replicate.mask.get(bias, True))
    after[bias] = jnp.where(kept, after[bias] - moved.reshape(after[bias].shape), 0)
    return {**new, "params": trees.unflatten(after, new["params"])}
