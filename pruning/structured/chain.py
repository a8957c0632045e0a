"""A narrower network of a wide one's surviving weights, for chains of layers.

A chain is a network in which each layer sees the one before it alone: Dense and Conv layers,
depthwise ones too, BatchNorm, and between them whatever treats all units alike (activations,
pooling, flattening). Networks with shortcuts or concatenations are none; `chain` notices and
refuses them.
"""

# N units of a wide layer, n of them kept

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from groundwork import architectures
from groundwork.traced import override
from groundwork.train.replicates import QUICKLY
from pruning import masks


class Link(NamedTuple):
    """A layer of a chain."""

    path: str  # "conv1"
    units: int  # N: of its outputs
    follows: bool  # each unit is one unit of the link before: BatchNorm, depthwise convolution


def chain(model: nn.Module, shape: tuple[int, ...]) -> tuple[Link, ...]:
    """The layers of a network in the order of their calls, if they are a chain.

    Args:
      model: it takes examples [B, *shape].
      shape: of an example.

    Raises:
      ValueError: a layer of another kind, one that is called twice, a grouped convolution that is
        not depthwise; or other outputs when each layer's units are permuted together with the
        inputs of the next, which changes nothing in a chain.
    """
    met: list[Link] = []

    def record(next_fun, args, kwargs, context):
        found = next_fun(*args, **kwargs)
        if context.method_name == "__call__":
            met.extend(_link(context.module, met))
        return found

    wanted = architectures.shapes(model, shape)
    example = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    with nn.intercept_methods(record):
        jax.eval_shape(lambda v, x: model.apply(v, x, train=False), wanted, example)
    links = tuple(met)
    if not _permutes(model, links, wanted, example.shape):
        raise ValueError(f"the layers of {type(model).__name__} are no chain: it cannot be shrunk")
    return links


def shrink(
    variables: Mapping[str, Any],
    mask: Mapping[str, Any] | None,
    links: Sequence[Link],
    shapes: Mapping[str, Any],
) -> dict[str, Any]:
    """Variables of a narrower network: of each layer the n units that survived best, in order.

    A unit's score is the L2 norm of its surviving incoming weights times that of its surviving
    outgoing ones (times its window's, where a depthwise convolution is between), which no rescaling
    of ReLU units changes; a unit without either has 0. Ties go to the lower index. Outputs of the
    last layer and inputs of the first are all kept; the next layer loses the inputs, BatchNorm the
    statistics, of the units that go. Nothing makes up for them: the network is to be trained.
    Pruned weights are zero, and free. Of one replicate: map it with `jax.vmap`.

    Args:
      variables: of the wide network, `params` and, where there are any, `batch_stats`.
      mask: as `pruning.masks` has it, path → bool, True = kept; None keeps all.
      links: of the wide network, as `chain` gives them.
      shapes: of the narrower network's variables, as `architectures.shapes` gives them.

    Raises:
      ValueError: the mask has other paths or shapes; the narrower network has other layers, is
        wider somewhere, or differs in more than its widths.
    """
    params = masks.apply(dict(mask or {}), variables["params"])
    arrays = jax.tree.map(jnp.asarray, {**variables, "params": params})
    flat = flatten_dict(arrays, sep="/")
    wanted = flatten_dict(dict(shapes), sep="/")
    if flat.keys() != wanted.keys():
        raise ValueError(f"the networks differ in {sorted(flat.keys() ^ wanted.keys())}")
    if {link.path for link in links} != (layers := {_layer(path) for path in flat}):
        raise ValueError(f"the links are another network's: this one's layers are {sorted(layers)}")
    chosen = {}
    for layer, score in _scores(flat, links).items():
        keep = wanted[f"params/{layer}/kernel"].shape[-1]
        if keep > score.size:
            raise ValueError(f"{layer} has {score.size} units and cannot shrink to {keep}")
        chosen[layer] = jnp.sort(jnp.argsort(-score, stable=True)[:keep])
    found = _select(flat, links, chosen)
    differing = sorted(path for path in found if found[path].shape != wanted[path].shape)
    if differing:
        listed = ", ".join(f"{p} {found[p].shape} for {wanted[p].shape}" for p in differing)
        raise ValueError(f"the networks differ in more than their widths: {listed}")
    return unflatten_dict(found, sep="/")


def _layer(path: str) -> str:
    """`params/block1/conv/kernel` → `block1/conv`."""
    return path.partition("/")[2].rpartition("/")[0]


def _link(module: nn.Module, met: Sequence[Link]) -> list[Link]:
    """The link that a module is, if it has parameters of its own."""
    inside = module.variables.get("params", {})
    own = {name: leaf for name, leaf in inside.items() if hasattr(leaf, "shape")}
    path = "/".join(module.path)
    if not own and type(module) is not nn.BatchNorm:
        return []
    if path in [link.path for link in met]:
        raise ValueError(f"{path} is called twice: the network cannot be shrunk")
    if type(module) is nn.BatchNorm:
        stats = module.variables["batch_stats"]
        return [Link(path, stats["mean"].size, True)]
    layer = override.described(module)
    if isinstance(layer, str):
        raise ValueError(f"{path or type(module).__name__} cannot be shrunk: {layer}")
    *_, inputs, units = own["kernel"].shape
    if layer.groups == 1:
        return [Link(path, units, False)]
    if inputs != 1 or layer.groups != units:
        raise ValueError(f"{path} cannot be shrunk: it has {layer.groups} groups of channels")
    return [Link(path, units, True)]


def _scores(flat: Mapping[str, Any], links: Sequence[Link]) -> dict[str, jax.Array]:
    """Layer → how well each of its units survived, [N]; of all layers with units to choose."""
    scores: dict[str, jax.Array] = {}
    hidden = _hidden(links)
    above = None  # the layer whose units are the inputs now
    for link in links:
        if f"params/{link.path}/kernel" not in flat:
            continue
        kernel = flat[f"params/{link.path}/kernel"]
        if above is not None:  # columns: the units before; a flattened image's rows: its pixels
            weights = kernel if link.follows else jnp.moveaxis(kernel, -2, -1)
            scores[above] *= _norm(weights.reshape(-1, scores[above].size))
        if link.path in hidden:
            above = link.path
            scores[above] = _norm(kernel.reshape(-1, link.units))
    return scores


def _hidden(links: Sequence[Link]) -> list[str]:
    """The layers whose units can be chosen: all that make any, but the last."""
    return [link.path for link in links if not link.follows][:-1]


def _norm(weights: jax.Array) -> jax.Array:
    """L2 norms of the columns, [n, N] → [N]."""
    return jnp.sqrt(jnp.sum(jnp.square(weights), 0))


def _select(
    flat: Mapping[str, Any], links: Sequence[Link], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """The leaves with the chosen units alone; layers that `chosen` lacks keep all of theirs."""
    found = dict(flat)
    above: tuple[Any, int] | None = None  # units of the inputs: the chosen ones, and how many
    for link in links:
        for path, leaf in flat.items():
            if _layer(path) != link.path:
                continue
            if link.follows:
                found[path] = leaf if above is None else _take(leaf, -1, *above)
                continue
            if above is not None and path.endswith("/kernel"):
                leaf = _take(leaf, -2, *above)
            if link.path in chosen:
                leaf = _take(leaf, -1, chosen[link.path], link.units)
            found[path] = leaf
        if not link.follows:
            above = (chosen[link.path], link.units) if link.path in chosen else None
    return found


def _take(leaf: Any, axis: int, chosen: Any, units: int) -> Any:
    """Entries `chosen` of each run of `units` along an axis: a flattened image's are its pixels."""
    axis %= leaf.ndim
    before, after = leaf.shape[:axis], leaf.shape[axis + 1 :]
    apart = leaf.reshape(*before, -1, units, *after)
    return apart[(slice(None),) * (axis + 1) + (chosen,)].reshape(*before, -1, *after)


def _permutes(
    model: nn.Module, links: Sequence[Link], shapes: Any, images: tuple[int, ...]
) -> bool:
    """Whether permuted units, carried through the chain, leave the logits as they are."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "var":
            return rng.uniform(0.5, 2, leaf.shape).astype(np.float32)
        scale = np.sqrt(np.prod(leaf.shape[:-1]))
        return (rng.normal(size=leaf.shape) / scale).astype(np.float32)

    drawn = jax.tree_util.tree_map_with_path(draw, shapes)
    flat = flatten_dict(drawn, sep="/")
    units = {link.path: link.units for link in links}
    chosen = {path: rng.permutation(units[path]) for path in _hidden(links)}
    try:
        permuted = unflatten_dict(_select(flat, links, chosen), sep="/")
    except (TypeError, ValueError):  # a layer's inputs are no multiple of the units before it
        return False
    inputs = jnp.asarray(rng.normal(size=images), jnp.float32)
    options: dict[str, Any] = {}
    if jax.default_backend() == "cpu":
        options["compiler_options"] = QUICKLY
    apply = jax.jit(lambda tree: model.apply(tree, inputs, train=False), **options)
    one, other = (np.asarray(apply(tree)) for tree in (drawn, permuted))
    return bool(np.abs(one - other).max() <= 1e-3 * np.abs(one).max())
