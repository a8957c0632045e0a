"""Which units are kept where a narrower network of the same kind says how many."""

# U units of a group

import collections
from collections.abc import Mapping

import numpy as np

from pruning.structured.choice import check_scores, lowest_go
from pruning.structured.graph import Graph, Group
from pruning.structured.importance import Scores
from pruning.structured.kept import Keep, entries_kept

Places = Mapping[tuple[str, int], np.ndarray]
"""(path, axis) → [n] integers, one for each entry."""

Signature = tuple[tuple[str, int, tuple[int, ...]], ...]
STAYS = -1


def to_shape(graph: Graph, scores: Scores, narrow: Graph) -> Keep:
    """Returns which units are kept so that a network gets the shape of a narrower one.

    Where an axis has the units of several groups one after the other, as a concatenation has, each
    such run keeps as many as the narrower network has there. What that network computes from the
    number of its units, such as the mean of a LayerNorm, it computes in its own way.

    Args:
      graph: see `grouping.groups`.
      scores: group → [U], higher = keep; ties go to the lower index.
      narrow: of the narrower network, with variables of the same names.

    Raises:
      ValueError: the narrower network has other variables, more units, or joins them otherwise;
        or scores are missing.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> wide = {"hidden": jnp.ones((1, 4)), "out": jnp.ones((4, 1))}
        >>> narrow = {"hidden": jnp.ones((1, 2)), "out": jnp.ones((2, 1))}
        >>> x = jnp.ones((1, 1))
        >>> before, after = (structured.groups(network, params, x) for params in (wide, narrow))
        >>> scores = {"hidden": np.array([3.0, 1.0, 4.0, 2.0])}
        >>> structured.to_shape(before, scores, after)["hidden"].astype(int).tolist()
        [1, 0, 1, 0]
    """
    check_scores(graph, scores)
    _check_variables(graph, narrow)
    owners, narrow_owners = _owners(graph), _owners(narrow)
    runs, narrow_runs = _runs(owners), _runs(narrow_owners)
    _check_runs(graph, narrow, owners, narrow_owners)
    wanted: dict[Signature, int] = collections.Counter()
    for group in narrow.groups:
        wanted.update({s: len(units) for s, units in _alike(group, narrow_runs).items()})
    keep, single = {}, {}
    for group in graph.groups:
        keep[group.name], single[group.name] = (np.zeros(group.units, bool) for _ in range(2))
        for signature, units in _alike(group, runs).items():
            alone = signature not in wanted and _is_single(signature, narrow_runs, narrow_owners)
            count = 1 if alone else wanted.get(signature, 0)
            if not 0 < count <= len(units):
                raise ValueError(_misfit(graph, narrow, group, len(units), count))
            keep[group.name][units] = lowest_go(scores[group.name][units], len(units) - count)
            single[group.name][units] = alone
    _check_joins(graph, narrow, keep, single)
    return keep


def _check_variables(graph: Graph, narrow: Graph) -> None:
    names = [{path: len(axes) for path, axes in one.axes.items()} for one in (graph, narrow)]
    if differing := sorted({path for path, _ in names[0].items() ^ names[1].items()}):
        raise ValueError(f"the networks differ in {', '.join(differing)}")


def _owners(graph: Graph) -> dict[tuple[str, int], np.ndarray]:
    """Returns of each entry the number of the group whose unit it belongs to, or `STAYS`."""
    owners = {
        (path, axis): np.full(len(ids), STAYS)
        for path, axes in graph.axes.items()
        for axis, ids in enumerate(axes)
    }
    for number, group in enumerate(graph.groups):
        for member in group.members:
            owners[member.path, member.axis][member.positions] = number
    return owners


def _runs(owners: Places) -> dict[tuple[str, int], np.ndarray]:
    """Returns of each entry the number of its run: neighbours of one group."""
    return {place: np.cumsum(np.diff(of, prepend=of[:1]) != 0) for place, of in owners.items()}


def _alike(group: Group, runs: Places) -> dict[Signature, list[int]]:
    """Returns the units of a group that have their entries in the same runs."""
    alike: dict[Signature, list[int]] = {}
    places = [
        (member.path, member.axis, runs[member.path, member.axis][member.positions])
        for member in sorted(group.members, key=lambda member: (member.path, member.axis))
    ]
    for unit in range(group.units):
        signature = tuple((path, axis, tuple(of[unit].tolist())) for path, axis, of in places)
        alike.setdefault(signature, []).append(unit)
    return alike


def _is_single(signature: Signature, runs: Places, owners: Places) -> bool:
    """Returns whether runs have one unit alone, which never is one of a group."""
    for path, axis, numbers in signature:
        for number, count in collections.Counter(numbers).items():
            there = runs[path, axis] == number
            if there.sum() != count or (owners[path, axis][there] != STAYS).any():
                return False
    return True


def _check_runs(graph: Graph, narrow: Graph, owners: Places, narrow_owners: Places) -> None:
    """Refuses an axis with another number of runs, or with more or less of what stays."""
    runs, narrow_runs = _runs(owners), _runs(narrow_owners)
    for (path, axis), of in owners.items():
        counts, after = (np.bincount(one[path, axis]) for one in (runs, narrow_runs))
        same = len(counts) == len(after)
        if same and len(counts):
            first = np.cumsum(counts) - counts  # the first entry of each run
            same = bool((counts == after)[of[first] == STAYS].all())
        if not same:
            why = graph.frozen.get(f"{path} {axis}", "its units stand beside each other otherwise")
            raise ValueError(f"{_shapes(graph, narrow, path)}: of axis {axis}, {why}")


def _shapes(graph: Graph, narrow: Graph, path: str) -> str:
    before, after = (tuple(map(len, one.axes[path])) for one in (graph, narrow))
    return f"{path} of shape {before} cannot become {after}"


def _misfit(graph: Graph, narrow: Graph, group: Group, units: int, count: int) -> str:
    members = sorted(group.members, key=lambda member: -len(graph.axes[member.path]))
    if count > units:
        shapes = _shapes(graph, narrow, members[0].path)
        return f"{group.name} has {units} units and cannot shrink to {count}: {shapes}"
    for member in members:
        before, after = (len(one.axes[member.path][member.axis]) for one in (graph, narrow))
        if before != after:
            shapes = _shapes(graph, narrow, member.path)
            return f"{shapes}: units of {group.name} are joined with others in the narrower network"
    return f"units of {group.name} are joined with others in the narrower network"


def _check_joins(graph: Graph, narrow: Graph, keep: Keep, single: Keep) -> None:
    """Refuses a network in which other entries than those that are left belong to one unit."""
    left = entries_kept(graph, keep)
    ours, theirs = _units(graph, single), _units(narrow, {})
    forward: dict[int, int] = {STAYS: STAYS}
    backward: dict[int, int] = {STAYS: STAYS}
    for (path, axis), units in ours.items():
        units = units[left.get(path, {}).get(axis, np.ones(len(units), bool))]
        other = theirs[path, axis]
        if len(units) != len(other):
            raise ValueError(_shapes(graph, narrow, path))
        for one, two in np.unique(np.stack([units, other], 1), axis=0).tolist():
            if forward.setdefault(one, two) != two or backward.setdefault(two, one) != one:
                raise ValueError(
                    f"the narrower network joins the units of {path}, axis {axis}, with others "
                    "than this one"
                )


def _units(graph: Graph, without: Keep) -> dict[tuple[str, int], np.ndarray]:
    """Returns of each entry the number of its unit, or `STAYS`, which those `without` have too."""
    units = {place: np.full(len(of), STAYS) for place, of in _owners(graph).items()}
    first = 0
    for group in graph.groups:
        numbers = np.arange(first, first + group.units)
        first += group.units
        if group.name in without:
            numbers = np.where(without[group.name], STAYS, numbers)
        for member in group.members:
            units[member.path, member.axis][member.positions] = numbers[:, None]
    return units
