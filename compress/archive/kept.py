"""The units that a narrow network of a file has kept. Read `to_json` and `network` first.

The header's `kept` has the keys `split` and `ignored`, as `pruning.structured.groups` takes them,
and `groups`: name of a group → [its number of units, the places of those kept in rising order].
Where examples are no floats but integers, such as tokens, it also has `dtype`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.archive import forms
from compress.archive.forms import Leaf, Leaves
from compress.archive.headers import shown
from groundwork import trees
from pruning import structured
from pruning.structured import Graph, Keep, Narrowed

KEYS = {"split", "ignored", "groups"}
DTYPES = ("float32", "int32")  # of examples, the usual one first
MOST = 1 << 22  # the most entries along all axes of a network whose groups are looked for


def is_narrow(model: Any) -> bool:
    """Returns whether a model is a module without some units, which a file can describe."""
    return isinstance(model, Narrowed) and forms.is_module(model.graph.model)


def to_json(
    narrow: Narrowed, shape: Sequence[int] | None, dtype: str = DTYPES[0]
) -> dict[str, Any]:
    """Returns the header's `kept`, checked to give the same network when it is read.

    Args:
      narrow: the network.
      shape: of one example.
      dtype: of its numbers, one of `DTYPES`.

    Raises:
      ValueError: replicates keep units of their own, no shape is known, or the network has other
        groups when it is traced for examples of this shape.
    """
    graph = narrow.graph
    if any(np.ndim(units) != 1 for units in narrow.keep.values()):
        raise ValueError("one network is stored, and this one keeps units of several replicates")
    if shape is None:
        raise ValueError("a narrow network needs example=, the shape of one example")
    groups = {
        name: [len(units), np.flatnonzero(units).tolist()] for name, units in narrow.keep.items()
    }
    header = {"split": graph.split, "ignored": list(graph.ignored), "groups": groups}
    header |= {"dtype": dtype} if dtype != DTYPES[0] else {}
    again = network(header, graph.model, shape).graph
    if not (_same(graph, again)):
        raise ValueError(f"it has other groups of units for examples of {tuple(shape)}")
    return header


def network(header: Any, model: Any, shape: Sequence[int] | None) -> Narrowed:
    """Returns the narrow network that a header describes.

    Args:
      header: its `kept`.
      model: the whole network.
      shape: of one example.

    Raises:
      ValueError: the header does not describe units of this network.
    """
    if shape is None:
        raise ValueError("it keeps some units alone, and its example is missing")
    if not isinstance(header, dict) or header.keys() - {"dtype"} != KEYS:
        raise ValueError("its kept units are invalid")
    dtype = header.get("dtype", DTYPES[0])
    if dtype not in DTYPES:
        raise ValueError("its kept units are of examples of an unknown dtype")
    shapes = forms.shapes(model, jax.ShapeDtypeStruct((1, *shape), dtype))
    if sum(sum(leaf.shape) for leaf in jax.tree.leaves(shapes)) > MOST:
        raise ValueError("its network is too wide to look for the units that it keeps")
    ignored = header["ignored"]
    if not isinstance(ignored, list) or not all(isinstance(one, str) for one in ignored):
        raise ValueError("its kept units ignore what is no list of patterns")
    keep = _keep(header["groups"])
    examples = jax.ShapeDtypeStruct((2, *shape), dtype)
    graph = structured.groups(model, shapes, examples, ignored=ignored, split=header["split"])
    structured.check(graph, keep)
    return Narrowed(graph=graph, keep=keep)


def leaves(narrow: Narrowed) -> Leaves:
    """Returns the arrays of a narrow network."""
    graph = narrow.graph
    small = jax.eval_shape(lambda tree: structured.cut(graph, tree, narrow.keep), graph.shapes)
    return of(small)


def of(shapes: Any) -> Leaves:
    """Returns the properties of arrays by path."""
    return {
        path: Leaf(tuple(leaf.shape), jnp.issubdtype(leaf.dtype, jnp.floating))
        for path, leaf in trees.flatten(shapes).items()
    }


def check(narrow: Narrowed, stored: Mapping[str, Leaf]) -> None:
    """Refuses arrays that are not those of a narrow network.

    Raises:
      ValueError: they are not.
    """
    wanted = leaves(narrow)
    for path in sorted(wanted.keys() | stored.keys()):
        if wanted.get(path) != stored.get(path):
            ours, theirs = forms.described(stored.get(path)), forms.described(wanted.get(path))
            raise ValueError(f"{shown(path)} is {ours}, and the units kept need {theirs}")


def same(one: Narrowed, other: Narrowed) -> bool:
    """Returns whether two networks are the same units of alike networks."""
    keeps = [
        {n: np.asarray(units).tolist() for n, units in each.keep.items() if not np.all(units)}
        for each in (one, other)
    ]
    return keeps[0] == keeps[1] and _same(one.graph, other.graph)


def _same(one: Graph, other: Graph) -> bool:
    described = [
        [
            (g.name, [(m.path, m.axis, m.positions.tolist()) for m in g.members])
            for g in graph.groups
        ]
        for graph in (one, other)
    ]
    return described[0] == described[1]


def _keep(groups: Any) -> Keep:
    """Returns which units are kept, of a header.

    Raises:
      ValueError: it does not say so.
    """
    if not isinstance(groups, dict):
        raise ValueError("its kept units have no groups")
    keep: dict[str, np.ndarray] = {}
    for name, given in groups.items():
        valid = isinstance(given, list) and len(given) == 2 and isinstance(given[1], list)
        if not valid or not all(type(n) is int for n in (given[0], *given[1])):
            raise ValueError(f"its kept units of {shown(name)} are no number and places")
        units, places = given
        if not 1 <= units <= MOST or not places:
            raise ValueError(f"its kept units of {shown(name)} are none, or too many")
        if places[0] < 0 or places[-1] >= units or any(np.diff(places) <= 0):
            raise ValueError(f"its kept units of {shown(name)} are not places in rising order")
        keep[name] = np.isin(np.arange(units), places)
    return keep
