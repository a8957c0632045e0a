"""Groups of units that can be removed from a network. Read `groups` first."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np
from flax import nnx

from groundwork import trees
from groundwork.architectures.own.network import in_training
from groundwork.errors import reason
from groundwork.traced import network
from groundwork.trees import Shapes, Variables
from pruning.structured import meetings, program
from pruning.structured.axes import Axes, parameter
from pruning.structured.collect import collect, most
from pruning.structured.forest import Forest
from pruning.structured.graph import Graph
from pruning.structured.program import Program
from pruning.structured.rules import RULES
from pruning.structured.walk import Walk

SPLITS = ("outer", "inner")


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
      model: a Linen module; an NNX module, whose variables are `nnx.state(module, nnx.Param)` (in
        those of a whole state, criteria take statistics for parameters); an object with `apply`;
        or a function (variables, inputs) → outputs.
      variables: arrays or shapes.
      example: inputs [B, …], arrays or shapes; or the shape of one example of floats.
      ignored: patterns of variables' paths, such as "params/stem/*", whose units all stay.
      split: what is a unit where the network leaves it open, in a reshape of one axis to two:
        `outer` = all of an entry of the first, such as a head; `inner` = an entry of the second in
        all of the first, such as a dimension of all heads.

    Raises:
      ValueError: the network does not take the example, a pattern matches nothing, or nothing can
        be removed.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
        >>> graph = structured.groups(network, params, jnp.ones((1, 2)))
        >>> graph
        Graph(hidden: 3)
        >>> [(member.path, member.axis) for member in graph.groups[0].members]
        [('hidden', 1), ('out', 0)]
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} must be one of {', '.join(SPLITS)}")
    if isinstance(ignored, str):
        raise ValueError(f"ignored={ignored!r} must be a list of patterns, such as [{ignored!r}]")
    if isinstance(model, nnx.Module):
        model = program.of_nnx(model)
    shapes = jax.tree.map(
        lambda leaf: network.shape(leaf) if program.is_array(leaf) else leaf, variables
    )
    traced = _calls(model, shapes, _of_several(trees.example(example)))
    walk = Walk(rules=RULES, split=split, forest=Forest(), judges=True)
    axes = _new_axes(walk, shapes)
    walk.first = np.full(walk.forest.size, np.iinfo(np.int64).max)
    _ignore(walk.forest, axes, ignored)
    given = arguments(walk, traced, axes)
    sums = meetings.Sums(axes)
    walk.listener = sums.listen
    walk.settle(traced.closed, given, _end(walk, traced, axes))
    found, frozen = collect(walk, traced, axes)
    if not found:
        raise ValueError(f"nothing of this network can be removed: {most(frozen)}")
    return Graph(
        groups=found,
        frozen=frozen,
        model=model,
        shapes=shapes,
        axes=axes,
        summed=sums.found,
        forest=walk.forest,
        split=split,
        ignored=tuple(ignored),
    )


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
