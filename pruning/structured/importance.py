"""How much each unit matters, by several criteria. Read `scores` and `CRITERIA`; higher = keep."""

# U units of a group

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.errors import unknown
from groundwork.trees import Variables
from pruning.structured import criteria, layers
from pruning.structured.evidence import Evidence, consumer, scales
from pruning.structured.graph import Graph, Group
from pruning.structured.kept import check_shape

Scores = dict[str, np.ndarray]
"""Group → [U] float64, higher = keep."""

Criterion = Callable[[Evidence, Group], np.ndarray]
CRITERIA: dict[str, Criterion] = {
    "l1": criteria.l1,
    "l2": criteria.l2,
    "product": criteria.product,
    "scale": criteria.scale,
    "geometric_median": criteria.geometric_median,
    "taylor": criteria.taylor,
    "apoz": criteria.apoz,
    "activation": criteria.activation,
    "correlation": criteria.correlation,
    "lamp": criteria.lamp,
    "random": criteria.random,
}
OF_VALUES = ("apoz", "activation", "correlation")  # criteria of what units compute
LOOKS = ("taylor", *OF_VALUES)  # criteria that look at examples


def scores(
    graph: Graph,
    variables: Variables,
    criterion: str = "l2",
    *,
    members: str = "all",
    loss: Callable[[Variables], jax.Array] | None = None,
    inputs: Any = None,
    seed: int = 0,
) -> Scores:
    """Returns a score of each unit of each group, higher = keep.

    Args:
      graph: see `grouping.groups`.
      variables: of one replicate.
      criterion: one of `CRITERIA`.
      members: see `Evidence`.
      loss: see `Evidence`.
      inputs: see `Evidence`.
      seed: see `Evidence`.

    Raises:
      ValueError: the criterion is unknown, or cannot judge a group of this network; or the
        variables are another network's, or those of several replicates.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.array([[1.0, 5.0, 3.0]]), "out": jnp.array([[2.0, 0.0, 4.0]]).T}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> structured.scores(graph, params, "l1")["hidden"].tolist()  # 1 + 2, 5 + 0 and 3 + 4
        [3.0, 5.0, 7.0]
    """
    if criterion not in CRITERIA:
        raise ValueError(str(unknown("criterion", criterion, CRITERIA)))
    if members not in ("all", "first"):
        raise ValueError(f"members={members!r} must be all or first")
    given = trees.flatten(variables)
    for path in dict.fromkeys(m.path for group in graph.groups for m in group.members):
        if path not in given:
            raise ValueError(f"the variables are another network's: they lack {path}")
        check_shape(graph, path, given[path])
    evidence = Evidence(
        graph=graph, variables=variables, members=members, loss=loss, inputs=inputs, seed=seed
    )
    return {group.name: CRITERIA[criterion](evidence, group) for group in graph.groups}


def check_criterion(graph: Graph, criterion: str, inputs: Any) -> None:
    """Refuses a criterion that cannot judge a group of this network; nothing is computed.

    Args:
      graph: see `grouping.groups`.
      criterion: one of `CRITERIA`.
      inputs: [B, …] of the network, arrays or shapes.

    Raises:
      ValueError: the error says which group, and why.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params, x = {"hidden": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}, jnp.ones((1, 2))
        >>> structured.check_criterion(structured.groups(network, params, x), "scale", x)
        Traceback (most recent call last):
        ValueError: criterion scale: no normalisation scales the units of hidden
    """
    if criterion == "scale":
        for group in graph.groups:
            scales(group)
    elif criterion in OF_VALUES:
        found, _ = layers.reached(graph, inputs)
        for group in graph.groups:
            consumer(graph, group, found)
