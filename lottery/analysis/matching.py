"""Units of one network in the order of another's: the same function, closer weights.

Source: Ainsworth et al., arXiv:2209.04836, section 3.2 and Algorithm 1 (weight matching).
"""

# U units of a group

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from groundwork import trees
from groundwork.errors import reason
from lottery.analysis.path import check_ends
from pruning.structured import Graph, Group, groups
from pruning.structured.graph import parameters
from pruning.structured.program import evaluation

SIZES = (28, 32, 8, 64, 16, 224, 96, 4)  # of images that are tried where no example is given
ROUNDS = 100
SAME = 1e-3  # of the largest output: what orders of summation may change

Orders = dict[str, np.ndarray]
"""Group → [U] integers: the unit of the second network that takes each unit's place."""


def match(model: Any, first: Any, second: Any, *, example: Any = None, tries: int = 3) -> Any:
    """Returns the second network with its units in the order that is nearest to the first.

    Units are permuted in whole groups: those that `pruning.structured.groups` finds, so that any
    network serves, and statistics of BatchNorm go with their channels. Units that are tied to
    inputs or outputs stay, and so do groups whose permutation would change what the network
    computes, such as channels that GroupNorm normalises together: each is tried on random inputs.
    The order maximises the sum of products of the two networks' parameters, one group after the
    other, until no group gains. That need not be the best order of all.
    Departs: groups are visited in the network's order, then, for each further of the `tries`, in
    random ones from the start; the best end counts. The paper has one random order.

    Args:
      model: see `pruning.structured.groups`.
      first: variables of one replicate, which stay.
      second: variables of the other network.
      example: inputs [B, …], arrays or shapes, or the shape of one example of floats. Without it,
        a vector and common sizes of images are tried, until the network takes one.
      tries: the number of orders in which groups are visited, at least 1.

    Raises:
      ValueError: the two networks differ in more than their values, `tries` is below 1, no example
        fits, or the network has no units that could be permuted.
    """
    check_ends(first, second)
    return matcher(model, second, example=example, tries=tries)(first, second)


def matcher(
    model: Any, like: Any, *, example: Any = None, tries: int = 3
) -> Callable[[Any, Any], Any]:
    """Returns (first, second) → `match`, for many pairs of one network, which is traced once.

    Args:
      model: see `match`.
      like: variables of one replicate, on which it is tried which units can be permuted.
      example: see `match`.
      tries: see `match`.

    Raises:
      ValueError: see `match`.
    """
    if tries < 1:
        raise ValueError(f"tries={tries} must be at least 1")
    host = jax.tree.map(np.asarray, like)
    shapes = trees.example(_example(model, like) if example is None else example)
    graph = groups(model, like, shapes)
    free = _free(graph, host, shapes)

    def matched(first: Any, second: Any) -> Any:
        check_ends(first, second)
        orders = _orders(graph, free, _flat(first), _flat(second), tries)
        return permuted(graph, jax.tree.map(np.asarray, second), orders)

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
        for axis, places in _places(graph, path, orders).items():
            leaf = np.take(leaf, places, axis)
        return leaf

    return trees.map_with_path(one, variables)


def _improve(graph: Graph, group: Group, one: Any, two: Any, orders: Orders) -> bool:
    """Puts a group's units into the best order, all other orders given; returns whether it gained.

    A kernel that has the group on two axes is taken as if one of them had its order already.
    """
    gains = np.zeros((group.units, group.units))
    for member in parameters(graph, group.members):
        places = _places(graph, member.path, orders)
        whole = places.get(member.axis, np.arange(one[member.path].shape[member.axis])).copy()
        for same in group.members:  # these keep their places along this axis
            if (same.path, same.axis) == (member.path, member.axis):
                whole[same.positions] = same.positions
        places[member.axis] = whole
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
    paths = {member.path for group in among for member in parameters(graph, group.members)}
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


def _free(graph: Graph, variables: Any, example: Any) -> list[Group]:
    """Returns the groups whose permutation leaves the network's outputs as they are."""
    call = jax.jit(evaluation(graph.model))
    inputs = _inputs(example)

    def outputs(orders: Orders) -> list[np.ndarray]:
        with jax.default_matmul_precision("highest"):
            found = call(permuted(graph, variables, orders), inputs)
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]

    before = outputs({})

    def stays(among: list[Group]) -> bool:
        draw = np.random.default_rng(1).permutation
        after = outputs({group.name: draw(group.units) for group in among})
        return all(
            np.abs(a - b).max(initial=0) <= SAME * np.abs(b).max(initial=0)
            for a, b in zip(after, before, strict=True)
        )

    found = list(graph.groups)
    if not stays(found):
        found = [group for group in found if stays([group])]
    if not found or not stays(found):
        raise ValueError("this network has no units whose order could be changed")
    return found


def _inputs(example: Any) -> Any:
    """Returns random inputs; integers, such as tokens, are zeros and ones."""
    generator = np.random.default_rng(0)

    def one(leaf: Any) -> np.ndarray:
        if np.issubdtype(leaf.dtype, np.integer):
            return generator.integers(0, 2, leaf.shape).astype(leaf.dtype)
        return generator.standard_normal(leaf.shape).astype(leaf.dtype)

    return jax.tree.map(one, example)


def _flat(tree: Any) -> dict[str, np.ndarray]:
    flat = trees.flatten(tree)
    return {path: np.asarray(leaf, np.float64) for path, leaf in flat.items()}


def _example(model: Any, variables: Any) -> tuple[int, ...]:
    """Returns the shape of one example that a network takes."""
    call, said = evaluation(model), "it has no kernels"
    for shape in _shapes(variables):
        try:
            jax.eval_shape(call, variables, trees.example(shape))
        except Exception as error:  # a user's network may raise anything
            said = reason(error)
        else:
            return shape
    raise ValueError(f"give an example=: the network takes none of the usual shapes ({said})")


def _shapes(variables: Any) -> Iterator[tuple[int, ...]]:
    shapes = [np.shape(leaf) for leaf in trees.flatten(variables).values()]
    widths = dict.fromkeys(shape[0] for shape in shapes if len(shape) == 2)
    yield from ((width,) for width in widths)
    channels = sorted({shape[2] for shape in shapes if len(shape) == 4})
    yield from ((size, size, count) for count in channels for size in SIZES)
