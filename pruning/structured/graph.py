"""Groups of units that can be removed from a network. Read `groups` first."""

# U units of a group

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.architectures.own.network import in_training
from groundwork.errors import reason
from groundwork.traced import network
from groundwork.trees import Shapes, Variables
from pruning.structured import meetings, program, table
from pruning.structured.forest import FIXED, Forest
from pruning.structured.program import Program
from pruning.structured.rules import RULES
from pruning.structured.walk import Axes, Step, Walk, parameter

SPLITS = ("outer", "inner")
UNUSED = "nothing uses it"


@dataclasses.dataclass(frozen=True)
class Member:
    """What the units of a group have along one axis of a variable.

    Attributes:
      path: of the variable, "params/conv1/kernel".
      axis: of it.
      positions: [U, n] integers: the entries along the axis that each unit has.
    """

    path: str
    axis: int
    positions: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Units that are alike: each has as many entries in the same variables as any other.

    Attributes:
      name: of the layer that makes them.
      units: U.
      members: where their entries are.
      doubt: why the network without a unit may compute something else than with zeros in its place;
        "" if it does not.
      ids: [U] integers that stand for them in the graph.
    """

    name: str
    units: int
    members: tuple[Member, ...]
    doubt: str
    ids: np.ndarray

    @property
    def exact(self) -> bool:
        """Whether the network without a unit computes what it does with zeros in its place."""
        return not self.doubt


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """What can be removed from a network.

    Attributes:
      groups: of units, in the order in which the network makes them.
      frozen: "path axis" → why its entries, or some of them, stay.
      model: the network.
      shapes: of its variables.
      axes: path of a variable → of each axis the ids of its entries.
      summed: path of a parameter → its axes over which products sum.
      forest: which ids belong together.
      split: as `groups` was told.
      ignored: likewise.
    """

    groups: tuple[Group, ...]
    frozen: Mapping[str, str]
    model: Any
    shapes: Shapes
    axes: Mapping[str, list[np.ndarray]]
    summed: Mapping[str, tuple[int, ...]]
    forest: Forest
    split: str
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        return table.table(self.groups, self.frozen)


def groups(
    model: Any,
    variables: Variables,
    example: Any,
    *,
    ignored: Sequence[str] = (),
    split: str = "outer",
) -> Graph:
    """Returns the groups of units that can be removed from a network.

    The network is traced, and nothing is computed. A Linen module is traced in training too. Two
    entries of variables belong to one unit where the network adds, multiplies or contracts them
    with each other (Fang et al., arXiv:2301.12900, find such groups from the kinds of layers).

    Args:
      model: a Linen module; an object with `apply`; or a function (variables, inputs) → outputs.
      variables: arrays or shapes.
      example: inputs [B, …], arrays or shapes; or the shape of one example of floats.
      ignored: patterns of variables' paths, such as "params/stem/*", whose units all stay.
      split: what is a unit where the network leaves it open, in a reshape of one axis to two:
        `outer` = all of an entry of the first, such as a head; `inner` = an entry of the second in
        all of the first, such as a dimension of all heads.

    Raises:
      ValueError: the network does not take the example, a pattern matches nothing, or nothing can
        be removed.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} must be one of {', '.join(SPLITS)}")
    shapes = jax.tree.map(
        lambda leaf: network.shape(leaf) if program.is_array(leaf) else leaf, variables
    )
    traced = _calls(model, shapes, _of_several(trees.example(example)))
    walk = Walk(rules=RULES, split=split, forest=Forest(), judges=True)
    axes = _new_axes(walk, shapes)
    walk.first = np.full(walk.forest.size, np.iinfo(np.int64).max)
    _ignore(walk.forest, axes, ignored)
    given = arguments(walk, traced, axes)
    walk.settle(traced.closed, given, _end(walk, traced, axes))
    found, frozen = _collect(walk, traced, axes)
    if not found:
        raise ValueError(f"nothing of this network can be removed: {_most(frozen)}")
    return Graph(
        groups=found,
        frozen=frozen,
        model=model,
        shapes=shapes,
        axes=axes,
        summed=_summed(walk, traced.closed, given, axes),
        forest=walk.forest,
        split=split,
        ignored=tuple(ignored),
    )


def coupling(graph: Graph) -> dict[str, dict[str, list[str]]]:
    """Returns layer → {"makes": …, "takes": …}: the groups of its outputs, and of its inputs.

    A layer is what has a kernel; it takes the units over which its products sum, and makes all
    others. Layers are in the order of the last group that they meet; those that make none are last.
    """
    order = {group.name: number for number, group in enumerate(graph.groups)}
    layers: dict[str, dict[str, list[str]]] = {}
    for group in graph.groups:
        for member in group.members:
            if len(graph.axes[member.path]) < 2:
                continue
            sums = member.axis in graph.summed.get(member.path, ())
            layer = layers.setdefault(_layer(member.path), {"makes": [], "takes": []})
            names = layer["takes" if sums else "makes"]
            names += [] if group.name in names else [group.name]

    def place(layer: str) -> tuple[bool, int, int]:
        makes, takes = ([order[n] for n in layers[layer][side]] for side in ("makes", "takes"))
        return not makes, max(makes + takes), max(takes, default=-1)

    return {layer: layers[layer] for layer in sorted(layers, key=place)}


def arguments(walk: Walk, traced: Program, axes: Mapping[str, list[np.ndarray]]) -> list[Axes]:
    """Returns the axes of a traced call's arguments."""
    return [
        [parameter(ids) for ids in axes[path]]
        if path is not None
        else walk.fixed_axes(variable.aval.shape, "it meets an axis of the inputs")
        for path, variable in zip(traced.paths, traced.closed.jaxpr.invars, strict=True)
    ]


def _calls(model: Any, shapes: Shapes, example: Any) -> Program:
    """Returns the calls of a network: {"eval": …, "train": (outputs, changed variables)}."""
    key = jax.eval_shape(lambda: jax.random.key(0))

    def function(variables: Variables, args: tuple[Any, Any]) -> Any:
        inputs, key = args
        outputs = {"eval": program.evaluation(model)(variables, inputs)}
        if program.has_modes(model):
            outputs["train"] = in_training(program.own(model))(variables, inputs, key)
        return outputs

    try:
        return program.trace(function, shapes, (example, key))
    except Exception as error:  # a user's network may raise anything
        raise ValueError(
            f"the network cannot be called with this example: {reason(error)}"
        ) from error


def _of_several(example: Any) -> Any:
    """Returns an example whose batch of one is one of two: an axis of one entry is like no axis."""
    leaves = jax.tree.leaves(example)
    if any(not program.is_array(leaf) or leaf.shape[:1] != (1,) for leaf in leaves):
        return example
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), example
    )


def _new_axes(walk: Walk, shapes: Shapes) -> dict[str, list[np.ndarray]]:
    flat = {path: leaf for path, leaf in trees.flatten(shapes).items() if program.is_array(leaf)}
    return {
        path: [walk.new(count, (path, axis))["id"] for axis, count in enumerate(leaf.shape)]
        for path, leaf in flat.items()
    }


def _ignore(forest: Forest, axes: Mapping[str, list[np.ndarray]], patterns: Sequence[str]) -> None:
    for pattern in patterns:
        matched = [path for path in axes if fnmatchcase(path, pattern)]
        if not matched:
            raise ValueError(f"ignored={pattern!r} matches no variable, such as {next(iter(axes))}")
        for path in matched:
            for ids in axes[path]:
                forest.fix(ids, f"it is ignored, as {pattern}")


def _end(
    walk: Walk, traced: Program, axes: Mapping[str, list[np.ndarray]]
) -> Callable[[list[Axes]], None]:
    """Returns what is done with the axes of outputs: they stay, but those of changed variables."""
    names = list(trees.flatten(traced.outputs))

    def end(outputs: list[Axes]) -> None:
        for name, given in zip(names, outputs, strict=True):
            changed = axes.get(name.removeprefix("train/1/"))
            if changed is None or not name.startswith("train/1/"):
                for axis in given:
                    walk.fix(axis, "it is an output")
                continue
            for axis, ids in zip(given[1:], changed, strict=True):  # before them that of devices
                walk.join(axis, parameter(ids))

    return end


def _collect(
    walk: Walk, traced: Program, axes: Mapping[str, list[np.ndarray]]
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """Returns the groups, and why all else stays."""
    used = _used(traced)
    entries: dict[int, dict[tuple[str, int], list[int]]] = {}
    frozen: dict[str, str] = {}
    for path, given in axes.items():
        for axis, ids in enumerate(given):
            if path not in used:
                frozen[f"{path} {axis}"] = UNUSED
                continue
            classes = walk.forest.classes(ids)
            for position, unit in enumerate(classes.tolist()):
                if unit != FIXED:
                    entries.setdefault(unit, {}).setdefault((path, axis), []).append(position)
            if (why := _why(walk.forest, ids, classes)) and len(ids) > 1:
                frozen[f"{path} {axis}"] = why
    alike: dict[Any, list[int]] = {}
    for unit, members in entries.items():
        alike.setdefault(tuple((key, len(p)) for key, p in members.items()), []).append(unit)
    made = [_group(walk, axes, units, entries) for units in alike.values()]
    made.sort(key=lambda pair: pair[0])
    return tuple(_renamed([group for _, group in made])), frozen


def _summed(
    walk: Walk, closed: Any, given: list[Axes], axes: Mapping[str, list[np.ndarray]]
) -> dict[str, tuple[int, ...]]:
    owners = meetings.Owners(axes)
    summed: dict[str, tuple[int, ...]] = {}

    def listen(step: Step) -> None:
        summed.update([found] if (found := meetings.summed(owners, step)) else [])

    walk.listener = listen
    walk.run(closed, given)
    return summed


def _group(
    walk: Walk, axes: Mapping[str, list[np.ndarray]], units: list[int], entries: Mapping[int, Any]
) -> tuple[int, Group]:
    """Returns a group, and the number of the equation that is the first to use it."""
    assert walk.first is not None
    members = tuple(
        Member(path, axis, np.array([entries[unit][path, axis] for unit in units]))
        for path, axis in entries[units[0]]
    )
    doubts = {
        int(root): why
        for n, why in walk.inexact.items()
        for root in walk.forest.roots(np.array([n]))
    }
    uses = [int(walk.first[axes[m.path][m.axis][m.positions[0]]].min()) for m in members]
    group = Group(
        name=_layer(members[uses.index(min(uses))].path),
        units=len(units),
        members=members,
        doubt=next((doubts[unit] for unit in units if unit in doubts), ""),
        ids=np.array(units),
    )
    return min(uses), group


def _layer(path: str) -> str:
    """Returns the path of the layer that has a variable: "conv1" of "params/conv1/kernel"."""
    inside = path.removeprefix("params/")
    return inside.rpartition("/")[0] or inside


def _renamed(found: Sequence[Group]) -> list[Group]:
    """Returns groups of different names: of several of one layer, "qkv", "qkv:2", ..."""
    seen: dict[str, int] = {}
    renamed = []
    for group in found:
        seen[group.name] = number = seen.get(group.name, 0) + 1
        name = group.name if number == 1 else f"{group.name}:{number}"
        renamed.append(dataclasses.replace(group, name=name))
    return renamed


def _most(frozen: Mapping[str, str]) -> str:
    """Returns the reason that most axes have."""
    reasons = collections.Counter(frozen.values())
    return reasons.most_common(1)[0][0] if reasons else "it has no variables"


def _why(forest: Forest, ids: np.ndarray, classes: np.ndarray) -> str:
    stays = ids[classes == FIXED]
    if not stays.size:
        return ""
    why = forest.reason(int(stays[0]))
    return why if len(stays) == len(ids) else f"{len(stays)} of {len(ids)} entries: {why}"


def _used(traced: Program) -> set[str]:
    """Returns the paths of the variables that an equation or an output has."""
    jaxpr = traced.closed.jaxpr
    read = {id(v) for equation in jaxpr.eqns for v in equation.invars}
    return {p for p, v in zip(traced.paths, jaxpr.invars, strict=True) if p and id(v) in read}
