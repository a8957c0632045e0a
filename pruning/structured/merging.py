"""A unit that goes hands its outgoing weights to the one that is most like it."""

# U units of a group, N values of a unit

from typing import Any

import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.trees import Variables
from pruning.structured.evidence import Evidence, values_of
from pruning.structured.graph import Graph, Member
from pruning.structured.kept import Keep, mask


def merge(
    graph: Graph, variables: Variables, keep: Keep, inputs: Any
) -> tuple[Variables, dict[str, str]]:
    """Returns variables in which a partner that stays does the work of each unit that goes.

    The partner of a unit is the kept one whose values v, in what the first layer after them is
    given, have the largest |cosine| with its own u. All layers that sum over the units add the
    unit's weights, times u·v / v·v, to the partner's, so nothing is lost where u is a multiple of
    v. Source: Srinivas and Babu, arXiv:1507.06149, section 3. Departs: partners are found by what
    units compute, not by their weights, and u may be any multiple of v.

    Args:
      graph: see `grouping.groups`.
      variables: of one replicate, at full size.
      keep: group → [U] bool.
      inputs: [B, …] of the network.

    Returns:
      `(variables, missed)`: at full size, zero where units go; and path → why a parameter that
      loses inputs stays as it is.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.array([[1.0, 2.0]]), "out": jnp.array([[1.0], [3.0]])}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> keep = {"hidden": np.array([True, False])}
        >>> merged, _ = structured.merge(graph, params, keep, jnp.ones((8, 1)))
        >>> merged["out"].tolist()  # 1 × 1 + 2 × 3 = 1 × 7
        [[7.0], [0.0]]
    """
    evidence = Evidence(graph=graph, variables=variables, inputs=inputs)
    flat = {path: np.array(leaf) for path, leaf in trees.flatten(variables).items()}
    missed: dict[str, str] = {}
    for group in graph.groups:
        kept = np.asarray(keep.get(group.name, np.ones(group.units, bool)))
        summing = [m for m in group.members if m.axis in graph.summed.get(m.path, ())]
        if kept.all():
            continue
        try:
            values = values_of(evidence, group)
        except ValueError as error:
            missed |= {member.path: str(error) for member in summing}
            continue
        for unit, partner, factor in _partners(values, kept):
            for member in summing:
                _add(flat[member.path], member, unit, partner, factor)
    merged = trees.unflatten({path: jnp.asarray(leaf) for path, leaf in flat.items()}, variables)
    return mask(graph, merged, keep), missed


def _partners(values: np.ndarray, kept: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns of each unit that goes: its number, its partner's, and u·v / v·v."""
    values = np.asarray(values, np.float64)
    products = values @ values.T
    squares = np.where(np.diag(products) > 0, np.diag(products), 1)  # of a dead unit: 0
    cosines = np.abs(products) / np.sqrt(np.outer(squares, squares))
    found = []
    for unit in np.flatnonzero(~kept).tolist():
        partner = int(np.argmax(np.where(kept, cosines[unit], -1.0)))
        found.append((unit, partner, float(products[unit, partner] / squares[partner])))
    return found


def _add(leaf: np.ndarray, member: Member, unit: int, partner: int, factor: float) -> None:
    """Adds a unit's entries of a leaf, times a factor, to its partner's, in place."""
    entries = np.moveaxis(leaf, member.axis, 0)  # a view
    entries[member.positions[partner]] += factor * entries[member.positions[unit]]
