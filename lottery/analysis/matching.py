"""Units of one network in the order of another's: the same function, closer weights.

Source: Ainsworth et al., arXiv:2209.04836, section 3.2 and Algorithm 1 (weight matching).
"""

# U units of a group

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.optimize import linear_sum_assignment

from groundwork import trees
from groundwork.traced import network
from lottery.analysis import trial
from lottery.analysis.path import check_ends
from pruning.structured import Graph, Group, Member, groups
from pruning.structured.graph import parameters
from pruning.structured.program import whole

ROUNDS = 100
STATISTICS = ("mean", "var")  # of BatchNorm, where no collection tells them from parameters

Orders = dict[str, np.ndarray]
"""Group → [U] integers: the unit of the second network that takes each unit's place."""


def match(model: Any, first: Any, second: Any, *, example: Any = None, tries: int = 3) -> Any:
    """Returns the second network with its units in the order that is nearest to the first.

    Units are permuted in whole groups: those that `pruning.structured.groups` finds, so that any
    network serves, and statistics of BatchNorm go with their channels. Units that are tied to
    inputs or outputs stay, and so do groups whose permutation would change what the second network
    computes, such as channels that GroupNorm normalises together: that is tried on random inputs,
    once for each of two permutations that generate all others.
    The order maximises the sum of products of the two networks' parameters, without statistics, one
    group after the other, until no group gains. That need not be the best order of all.
    Departs: groups are visited in the network's order, then, for each further of the `tries`, in
    random ones from the start; the best end counts. The paper has one random order.

    Args:
      model: see `pruning.structured.groups`.
      first: variables of one replicate, which stay: all that the network has, with statistics. Of
        Linen, {"params": …, …}; of NNX, the module's state.
      second: variables of the other network.
      example: inputs [B, …], arrays or shapes, or the shape of one example of floats. Without it,
        a vector and common sizes of images are tried, until the network takes one.
      tries: the number of orders in which groups are visited, at least 1.

    Raises:
      ValueError: the two networks differ in more than their values, `tries` is below 1, no example
        fits, the network has no units that could be permuted, or the result computes something else
        than the second network.

    Example:
        >>> from lottery import analysis
        >>> network = lambda variables, x: jax.nn.relu(x @ variables["first"]) @ variables["last"]
        >>> one = {"first": jnp.array([[1.0, 2.0, 3.0]]), "last": jnp.array([[1.0], [2.0], [3.0]])}
        >>> two = jax.tree.map(jnp.flip, one)  # the same three units, in the other order
        >>> analysis.match(network, one, two, example=jnp.ones((1, 1)))["first"].tolist()
        [[1.0, 2.0, 3.0]]
    """
    check_ends(first, second)
    return matcher(model, second, example=example, tries=tries)(first, second)


def matcher(
    model: Any, like: Any, *, example: Any = None, tries: int = 3
) -> Callable[[Any, Any], Any]:
    """Returns (first, second) → `match`, for many pairs of one network, which is traced once.

    Args:
      model: see `match`.
      like: variables of one replicate, or their shapes.
      example: see `match`.
      tries: see `match`.

    Raises:
      ValueError: see `match`.

    Example:
        >>> from lottery import analysis
        >>> network = lambda variables, x: jax.nn.relu(x @ variables["first"]) @ variables["last"]
        >>> one = {"first": jnp.array([[1.0, 2.0]]), "last": jnp.array([[1.0], [2.0]])}
        >>> two = {"first": jnp.array([[2.5, 0.5]]), "last": jnp.array([[2.0], [1.0]])}
        >>> match = analysis.matcher(network, one, example=jnp.ones((1, 1)))
        >>> match(one, two)["first"].tolist(), match(two, one)["first"].tolist()
        ([[0.5, 2.5]], [[2.0, 1.0]])
    """
    if tries < 1:
        raise ValueError(f"tries={tries} must be at least 1")
    if isinstance(whole(model), nn.Module) and not network.has_collections(like):
        raise ValueError('these are parameters alone: give variables, {"params": …}')
    if isinstance(like, nnx.Module):
        raise ValueError("these are modules of NNX: give their states, nnx.state(module)")
    shapes = trees.example(trial.example_of(model, like) if example is None else example)
    graph = groups(model, like, shapes)
    outputs = trial.outputs_of(graph, like, shapes)

    def matched(first: Any, second: Any) -> Any:
        check_ends(first, second)
        free = _free(graph, second, outputs)
        orders = _orders(graph, free, _flat(graph, first), _flat(graph, second), tries)
        nearest = permuted(graph, second, orders)
        if not trial.same(outputs(nearest), outputs(second)):
            raise ValueError("the nearest order of all units changes what this network computes")
        return nearest

    return matched


def _orders(graph: Graph, free: Sequence[Group], one: Any, two: Any, tries: int) -> Orders:
    """Returns the best orders of some groups that were found in so many tries."""
    generator = np.random.default_rng(0)
    best: Orders = {}
    most = -np.inf
    for number in range(tries):
        orders = {group.name: np.arange(group.units) for group in free}
        visit = list(free)
        for _ in range(ROUNDS):
            if number:
                generator.shuffle(visit)
            gained = [_improve(graph, group, one, two, orders) for group in visit]
            if not any(gained):
                break
        value = _value(graph, free, one, two, orders)
        if value > most:
            best, most = orders, value
    return best


def permuted(graph: Graph, variables: Any, orders: Orders) -> Any:
    """Returns variables whose units are in other orders; see `Orders`."""

    def one(path: str, leaf: Any) -> Any:
        moved = leaf
        for axis, places in _places(graph, path, orders).items():
            moved = np.take(np.asarray(moved), places, axis)
        return jnp.asarray(moved) if isinstance(leaf, jax.Array) and moved is not leaf else moved

    return trees.map_with_path(one, variables)


def _improve(graph: Graph, group: Group, one: Any, two: Any, orders: Orders) -> bool:
    """Puts a group's units into the best order, all other orders given; returns whether it gained.

    A kernel that has the group on two axes is taken as if one of them had its order already.
    """
    gains = np.zeros((group.units, group.units))
    for member in _weights(graph, group):
        places = _places(graph, member.path, orders)
        entries = places.get(member.axis, np.arange(one[member.path].shape[member.axis])).copy()
        for same in group.members:  # these keep their places along this axis
            if (same.path, same.axis) == (member.path, member.axis):
                entries[same.positions] = same.positions
        places[member.axis] = entries
        other = two[member.path]
        for axis, order in places.items():
            other = np.take(other, order, axis)
        pair = (np.moveaxis(leaf, member.axis, 0) for leaf in (one[member.path], other))
        mine, theirs = (leaf[member.positions].reshape(group.units, -1) for leaf in pair)
        gains += mine @ theirs.T
    before = orders[group.name]
    value = _value(graph, [group], one, two, orders)
    orders[group.name] = linear_sum_assignment(gains, maximize=True)[1]
    if _value(graph, [group], one, two, orders) > value + 1e-9 * abs(value):
        return True
    orders[group.name] = before
    return False


def _value(graph: Graph, among: Any, one: Any, two: Any, orders: Orders) -> float:
    """Returns the sum of products of all parameters that some groups have entries in."""
    paths = {member.path for group in among for member in _weights(graph, group)}
    total = 0.0
    for path in sorted(paths):
        other = two[path]
        for axis, order in _places(graph, path, orders).items():
            other = np.take(other, order, axis)
        total += float(np.vdot(one[path], other))
    return total


def _places(graph: Graph, path: str, orders: Orders) -> dict[int, np.ndarray]:
    """Returns axis of a variable → the entry that comes to each place of it."""
    places: dict[int, np.ndarray] = {}
    for group in graph.groups:
        for member in group.members:
            if member.path == path and group.name in orders:
                count = len(graph.axes[path][member.axis])
                axis = places.setdefault(member.axis, np.arange(count))
                axis[member.positions] = member.positions[orders[group.name]]
    return places


def _free(graph: Graph, variables: Any, outputs: Callable[[Any], list[np.ndarray]]) -> list[Group]:
    """Returns the groups whose permutation leaves the network's outputs as they are."""
    before = outputs(variables)

    def stays(group: Group) -> bool:
        places = np.arange(group.units)
        swapped = np.concatenate([places[:2][::-1], places[2:]])
        both = (swapped, np.roll(places, 1))  # all permutations are products of these
        return all(
            trial.same(outputs(permuted(graph, variables, {group.name: o})), before) for o in both
        )

    found = [group for group in graph.groups if stays(group)]
    if not found:
        raise ValueError("this network has no units whose order could be changed")
    return found


def _weights(graph: Graph, group: Group) -> list[Member]:
    """Returns the members of a group that count: parameters, but no statistics."""
    members = parameters(graph, group.members)
    return [member for member in members if member.path.rpartition("/")[2] not in STATISTICS]


def _flat(graph: Graph, variables: Any) -> dict[str, np.ndarray]:
    """Returns path → array of all parameters that have entries of units."""
    flat = trees.flatten(variables)
    paths = {member.path for group in graph.groups for member in _weights(graph, group)}
    return {path: np.asarray(flat[path], np.float64) for path in paths}
