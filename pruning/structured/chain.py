"""Makes a narrower network of the weights of a wide one that survived, for chains of layers.

In a chain, each layer sees only the layer before it. Its layers are Dense and Conv, depthwise ones
too, and BatchNorm; between them may be whatever treats all units alike, such as activations,
pooling and flattening. Networks with shortcuts or concatenations are not chains, and `chain`
refuses them.
"""

# N units of a wide layer, n of them kept

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures, trees
from groundwork.traced import network, reach
from groundwork.traced.reach import Reached
from groundwork.train.replicates import QUICKLY
from groundwork.trees import Shapes, Variables
from pruning import masks


class Link(NamedTuple):
    """A layer of a chain."""

    path: str  # "conv1"
    units: int  # N, of its outputs
    follows: bool  # whether each unit is one of the link before: BatchNorm, depthwise convolution


def chain(model: nn.Module, shape: tuple[int, ...]) -> tuple[Link, ...]:
    """Returns the layers of a network in the order of their calls, if they form a chain.

    Args:
      model: takes examples [B, *shape].
      shape: of an example.

    Raises:
      ValueError: a layer is of another kind or called twice, or is a grouped convolution that is
        not depthwise; or outputs change when each layer's units are permuted together with the
        inputs of the next layer, which changes nothing in a chain.
    """
    links: list[Link] = []

    def record(
        next_function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        outputs = next_function(*args, **kwargs)
        if context.method_name == "__call__":
            links.extend(_link(context.module, links, reached, refused))
        return outputs

    shapes = architectures.shapes(model, shape)
    example = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    reached, missed = reach.layers(model, shapes, example, train=False)
    refused = {network.layer_path(path): reason for path, reason in missed.items()}
    with nn.intercept_methods(record):
        jax.eval_shape(lambda v, x: model.apply(v, x, train=False), shapes, example)
    if not _permutes(model, links, shapes, example.shape):
        name = type(model).__name__
        raise ValueError(f"the layers of {name} do not form a chain: it cannot be shrunk")
    return tuple(links)


def shrink(
    variables: Variables,
    mask: masks.Mask | None,
    links: Sequence[Link],
    shapes: Shapes,
) -> Variables:
    """Returns variables of a narrower network: in each layer the n best units, in their order.

    A unit's score is the L2 norm of its surviving incoming weights times that of its surviving
    outgoing ones (times that of its window, if a depthwise convolution is between). No rescaling of
    ReLU units changes it; a unit without either has 0. Ties go to the lower index. All outputs of
    the last layer and all inputs of the first are kept. With the units that go, the next layer
    loses inputs, and BatchNorm statistics. Nothing makes up for them, so the network needs
    training. Pruned weights are zero, and are trained again. This is a function of one replicate;
    map it with `jax.vmap`.

    Args:
      variables: of the wide network.
      mask: path → bool, True = kept; None keeps all.
      links: of the wide network; see `chain`.
      shapes: of the narrower network's variables; see `architectures.shapes`.

    Raises:
      ValueError: the mask has other paths or shapes; or the narrower network has other layers, is
        wider somewhere, or differs in more than its widths.
    """
    params = masks.apply(mask or {}, variables["params"])
    wide = trees.flatten(jax.tree.map(jnp.asarray, {**variables, "params": params}))
    narrow = trees.flatten(shapes)
    if wide.keys() != narrow.keys():
        raise ValueError(f"the networks differ in {sorted(wide.keys() ^ narrow.keys())}")
    if {link.path for link in links} != (paths := {_layer(path) for path in wide}):
        raise ValueError(f"the links are another network's: this one's layers are {sorted(paths)}")
    chosen = {}
    for layer, score in _scores(wide, links).items():
        keep = narrow[f"params/{layer}/kernel"].shape[-1]
        if keep > score.size:
            raise ValueError(f"{layer} has {score.size} units and cannot shrink to {keep}")
        chosen[layer] = jnp.sort(jnp.argsort(-score, stable=True)[:keep])
    selected = _select(wide, links, chosen)
    differing = sorted(path for path in narrow if selected[path].shape != narrow[path].shape)
    if differing:
        listed = ", ".join(f"{p} {selected[p].shape} for {narrow[p].shape}" for p in differing)
        raise ValueError(f"the networks differ in more than their widths: {listed}")
    return trees.unflatten(selected, shapes)


def _layer(path: str) -> str:
    """Returns `block1/conv` of `params/block1/conv/kernel`."""
    return path.partition("/")[2].rpartition("/")[0]


def _link(
    module: nn.Module,
    links: Sequence[Link],
    reached: Mapping[str, Reached],
    refused: Mapping[str, str],
) -> list[Link]:
    """Returns a module as a link that follows `links`, if it has any parameters itself.

    Args:
      module: that is called.
      links: those before it.
      reached: the network's layers.
      refused: path of a layer → why it is not among them.
    """
    params = module.variables.get("params", {})
    arrays = {name: leaf for name, leaf in params.items() if hasattr(leaf, "shape")}
    path = "/".join(module.path)
    if not arrays and type(module) is not nn.BatchNorm:
        return []
    if path in [link.path for link in links]:
        raise ValueError(f"{path} is called twice: the network cannot be shrunk")
    if type(module) is nn.BatchNorm:
        stats = module.variables["batch_stats"]
        return [Link(path, stats["mean"].size, True)]
    if path not in reached:
        reason = refused.get(path, "it is no product or convolution with a kernel")
        raise ValueError(f"{path or type(module).__name__} cannot be shrunk: {reason}")
    layer = reached[path].layer
    *_, inputs, units = reached[path].kernel
    if layer.groups == 1:
        return [Link(path, units, False)]
    if inputs != 1 or layer.groups != units:
        raise ValueError(f"{path} cannot be shrunk: it has {layer.groups} groups of channels")
    return [Link(path, units, True)]


def _scores(flat: Mapping[str, Any], links: Sequence[Link]) -> dict[str, jax.Array]:
    """Returns the scores [N] of each layer whose units can be chosen; see `shrink`."""
    scores: dict[str, jax.Array] = {}
    hidden = _hidden(links)
    previous = None  # the layer whose units are the inputs now
    for link in links:
        if f"params/{link.path}/kernel" not in flat:
            continue
        kernel = flat[f"params/{link.path}/kernel"]
        if previous is not None:  # its units become columns, a flattened image's pixels rows
            weights = kernel if link.follows else jnp.moveaxis(kernel, -2, -1)
            scores[previous] *= _norm(weights.reshape(-1, scores[previous].size))
        if link.path in hidden:
            previous = link.path
            scores[previous] = _norm(kernel.reshape(-1, link.units))
    return scores


def _hidden(links: Sequence[Link]) -> list[str]:
    """Returns the layers whose units can be chosen: all that do not follow, but the last."""
    return [link.path for link in links if not link.follows][:-1]


def _norm(weights: jax.Array) -> jax.Array:
    """Returns the L2 norms of the columns, [n, N] → [N]."""
    return jnp.sqrt(jnp.sum(jnp.square(weights), 0))


def _select(
    flat: Mapping[str, Any], links: Sequence[Link], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the leaves with only the chosen units; layers that `chosen` lacks keep theirs."""
    selected = dict(flat)
    inputs: tuple[Any, int] | None = None  # the chosen ones of the input units, and their number
    for link in links:
        for path, leaf in flat.items():
            if _layer(path) != link.path:
                continue
            if link.follows:
                selected[path] = leaf if inputs is None else _take(leaf, -1, *inputs)
                continue
            if inputs is not None and path.endswith("/kernel"):
                leaf = _take(leaf, -2, *inputs)
            if link.path in chosen:
                leaf = _take(leaf, -1, chosen[link.path], link.units)
            selected[path] = leaf
        if not link.follows:
            inputs = (chosen[link.path], link.units) if link.path in chosen else None
    return selected


def _take(leaf: Any, axis: int, chosen: Any, units: int) -> Any:
    """Returns the entries `chosen` of each run of `units` along an axis.

    There is one run, or one per pixel of a flattened image.
    """
    axis %= leaf.ndim
    before, after = leaf.shape[:axis], leaf.shape[axis + 1 :]
    runs = leaf.reshape(*before, -1, units, *after)
    return runs[(slice(None),) * (axis + 1) + (chosen,)].reshape(*before, -1, *after)


def _permutes(
    model: nn.Module, links: Sequence[Link], shapes: Shapes, inputs_shape: tuple[int, ...]
) -> bool:
    """Returns whether permuted units, carried through the chain, leave the logits unchanged."""
    rng = np.random.default_rng(0)

    def draw(path: str, leaf: Any) -> np.ndarray:
        if path.endswith("/var"):
            return rng.uniform(0.5, 2, leaf.shape).astype(np.float32)
        scale = np.sqrt(np.prod(leaf.shape[:-1]))
        return (rng.normal(size=leaf.shape) / scale).astype(np.float32)

    drawn = trees.map_with_path(draw, shapes)
    units = {link.path: link.units for link in links}
    chosen = {path: rng.permutation(units[path]) for path in _hidden(links)}
    try:
        permuted = trees.unflatten(_select(trees.flatten(drawn), links, chosen), shapes)
    except (TypeError, ValueError):  # a layer's inputs are not a multiple of the units before it
        return False
    inputs = jnp.asarray(rng.normal(size=inputs_shape), jnp.float32)
    options: dict[str, Any] = {}
    if jax.default_backend() == "cpu":
        options["compiler_options"] = QUICKLY
    apply = jax.jit(lambda tree: model.apply(tree, inputs, train=False), **options)
    logits, permuted_logits = (np.asarray(apply(tree)) for tree in (drawn, permuted))
    return bool(np.abs(logits - permuted_logits).max() <= 1e-3 * np.abs(logits).max())
