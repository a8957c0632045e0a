"""What `pruning.structured` makes of `structured_jax`'s networks: for `structured{,_peers}`."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import setting
from benchmarks.structured_jax import NETWORKS, Projected
from groundwork import architectures, trees
from groundwork.architectures.cpu.convolution import available
from groundwork.traced.macs import multiply_adds
from groundwork.trees import Variables
from pruning import structured

STAYS = dict.fromkeys(("attentive", "static"), ("params/patches/*",))  # whose outputs stay
HALF = {"name": "vgg_11", "width": 0.5}
UNCOUNTED = "_depthwise/kernel"  # Torch-Pruning's norms lack kernels of depthwise convolutions


def drawn(network: str, seed: int = 0) -> Variables:
    """Returns variables of which none is zero, and all variances are positive."""
    shapes = architectures.shapes(NETWORKS[network](), (32, 32, 3))
    random = np.random.default_rng(seed)

    def one(leaf: Any) -> jax.Array:
        if leaf.ndim == 1:
            return jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(scale * random.normal(size=leaf.shape), jnp.float32)

    return jax.tree.map(one, shapes)


def analysed(network: str, variables: Variables) -> tuple[Any, float]:
    """Returns the groups of a network's units, and the seconds that they took."""
    begun = time.perf_counter()
    graph = structured.groups(
        NETWORKS[network](), variables, (32, 32, 3), ignored=STAYS.get(network, ())
    )
    return graph, time.perf_counter() - begun


def units(graph: structured.Graph) -> set[frozenset[tuple[str, int, int]]]:
    """Returns the units, each as the entries (path, axis, position) that go together."""
    return {
        frozenset(
            (member.path, member.axis, int(position))
            for member in group.members
            for position in member.positions[unit]
        )
        for group in graph.groups
        for unit in range(group.units)
    }


def compared(network: str, images: np.ndarray, ratio: float) -> dict[str, Any]:
    """Returns what our analysis, and pruning by L2 norms, make of a network.

    Args:
      network: one of `NETWORKS`.
      images: [B, H, W, C].
      ratio: of the units that go.
    """
    variables = drawn(network)
    analysed(network, variables)  # warms up
    graph, seconds = analysed(network, variables)
    counted = trees.map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if path.endswith(UNCOUNTED) else leaf, variables
    )
    keep = structured.choose(graph, structured.scores(graph, counted, "l2"), ratio)
    narrow, small = structured.narrow(graph, variables, keep)
    apply = graph.model.apply
    expected = jax.jit(apply)(structured.mask(graph, variables, keep), images)
    logits = jax.jit(narrow.apply)(small, images)
    costs = [multiply_adds(*call, images) for call in ((narrow.apply, small), (apply, variables))]
    return {
        "units": units(graph),
        "seconds": seconds,
        "given": {path: np.asarray(leaf) for path, leaf in trees.flatten(variables).items()},
        "arrays": {path: np.asarray(leaf) for path, leaf in trees.flatten(small).items()},
        "whole": np.asarray(jax.jit(apply)(variables, images)),
        "logits": np.asarray(logits),
        "said": setting.distance(logits, expected),
        "share": costs[0] / costs[1],
        "left": trees.count(small["params"]) / trees.count(variables["params"]),
    }


def make(network: str, by: str) -> dict[str, Callable[[int], None]]:
    """Returns form → (batch) → None: calls of the whole network, and of two that are half as wide.

    Args:
      network: `vgg_11` or `resnet_20`.
      by: `onednn` or `xla`.
    """
    os.environ["ARCHITECTURES_CPU_CONVOLUTION"] = by
    assert available() == (by == "onednn"), "oneDNN is not built: make cpu"
    variables = drawn(network)
    graph, _ = analysed(network, variables)
    keep = structured.choose(graph, structured.scores(graph, variables, "l2"), 0.5)
    narrow, small = structured.narrow(graph, variables, keep)
    built = Projected(base=8) if network == "resnet_20" else architectures.build(HALF, 10)
    random = np.random.default_rng(0)

    @functools.cache
    def images(batch: int) -> jax.Array:
        return jnp.asarray(random.normal(size=(batch, 32, 32, 3)), jnp.float32)

    def call(apply: Callable[..., jax.Array], given: Variables) -> Callable[[int], None]:
        compiled = jax.jit(functools.partial(apply, train=False))
        return lambda batch: compiled(given, images(batch)).block_until_ready()

    forms = ((graph.model, variables), (narrow, small), (built, small))
    names = ("whole", "narrow", "built")
    return {n: call(model.apply, given) for n, (model, given) in zip(names, forms, strict=True)}
