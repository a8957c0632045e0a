"""From a draft to a graph: names that say where values come from. Read `graph`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.graphs.constants import Constant
from deploy.graphs.draft import REFUSED, Draft
from deploy.graphs.graph import FREE, OPERATIONS, Graph, Node, Stored
from groundwork import trees

ACTIVATIONS = {(0.0, np.inf): "relu", (0.0, 6.0): "relu6"}


def inputs(example: Any) -> list[str]:
    """Returns the names of a network's inputs: `input`, or paths in the tree of the example."""
    paths = list(trees.flatten(example))
    if len(paths) == 1:
        return ["input"]
    return [f"input_{path}" if path.isdigit() else path for path in paths]


def graph(draft: Draft, names: list[str], structure: str, stored: Mapping[str, Stored]) -> Graph:
    """Returns the graph of a draft.

    Args:
      draft: is changed: a result that is an input becomes a node.
      names: of the inputs.
      structure: of the outputs.
      stored: integers that kernels had at first.

    Raises:
      ValueError: an operation has no rule, or a result depends on no input.
    """
    _results(draft)
    nodes = draft.ordered()
    for node in nodes:
        if node.operation == REFUSED:
            raise ValueError(node.attributes["why"])
        if node.operation not in OPERATIONS:
            of = f" of {node.layer!r}" if node.layer else ""
            raise ValueError(f"no rule for {node.operation}{of}")
    called = _named(draft, nodes, names)
    made = tuple(
        dataclasses.replace(
            node,
            inputs=tuple(called[name] for name in node.inputs),
            output=called[node.output],
            attributes=_complete(node),
        )
        for node in nodes
    )
    constants = {called[name]: draft.constants[name] for name in called if name in draft.constants}
    kept = {name: one for name, found in constants.items() if (one := integers(found)) is not None}
    return Graph(
        inputs=tuple(names),
        outputs=tuple(called[name] for name in draft.outputs),
        nodes=made,
        values={called[name]: value for name, value in draft.values.items() if name in called},
        constants={
            name: np.ascontiguousarray(c.array).reshape(c.array.shape)
            for name, c in constants.items()
        },
        stored=kept,
        structure=structure,
        lost=_lost(constants, kept, stored),
    )


def integers(constant: Constant) -> Stored | None:
    """Returns a constant's integers if it has one scale for each index of its last axis."""
    codes, scales = constant.codes, constant.scales
    if codes is None or scales is None or not codes.ndim:
        return None
    rows = scales.reshape(-1, scales.shape[-1])
    if not np.all(rows == rows[:1]):
        return None
    return Stored(np.ascontiguousarray(codes), np.array(rows[0], np.float32))


def _lost(
    constants: Mapping[str, Constant], kept: Mapping[str, Stored], stored: Mapping[str, Stored]
) -> dict[str, str]:
    sources = {constants[name].source for name in kept}
    used = {constant.source for constant in constants.values()}
    reasons = {
        True: "it is changed before it is multiplied, or its scales go along another axis",
        False: "nothing reads it as it is",
    }
    return {path: reasons[path in used] for path in stored if path not in sources}


def _results(draft: Draft) -> None:
    """Makes each result the output of a node of its own."""
    for place, name in enumerate(draft.outputs):
        if name in draft.constants:
            raise ValueError(f"result {place} depends on no input")
        if name in draft.inputs or name in draft.outputs[:place]:
            shape, dtype = draft.shape(name), draft.dtype(name)
            draft.outputs[place] = draft.add("reshape", [name], shape, dtype)


def _complete(node: Node) -> Mapping[str, Any]:
    """Returns a node's attributes, bounds among them where there may be some."""
    bounded = node.operation in ("conv", "dense", "add")
    return {
        **node.attributes,
        **({"bounds": node.attributes.get("bounds", FREE)} if bounded else {}),
    }


def _named(draft: Draft, nodes: list[Node], names: list[str]) -> dict[str, str]:
    """Returns name in the draft → name in the graph, of all that the nodes need."""
    called = dict(zip(draft.inputs, names, strict=True))
    several = len(draft.outputs) > 1
    for number, name in enumerate(draft.outputs):
        called[name] = f"logits_{number}" if several else "logits"
    taken = set(called.values())

    def unique(name: str) -> str:
        tried, number = name, 1
        while tried in taken:
            number += 1
            tried = f"{name}_{number}"
        taken.add(tried)
        return tried

    for node in nodes:
        if node.output not in called:
            called[node.output] = unique(_name(node))
        constants = [name for name in node.inputs if name in draft.constants]
        if node.operation in ("conv", "dense"):
            _, kernel, bias = node.inputs
            layer = node.layer or called[node.output]
            for name, source in (
                (kernel, draft.constants[kernel].source or f"{layer}/kernel"),
                (bias, f"{layer}/bias"),
            ):
                called[name] = called.get(name) or unique(source)
        for name in constants:
            source = draft.constants[name].source or f"{called[node.output]}/constant"
            called[name] = called.get(name) or unique(source)
    return called


def _name(node: Node) -> str:
    """Returns what an operation is called: its layer, or its own name beside the layer's."""
    if node.operation in ("conv", "dense", "gather") and node.layer:
        return node.layer
    what = node.operation
    if what == "clip":
        what = ACTIVATIONS.get(node.attributes["bounds"], what)
    above = node.layer.rpartition("/")[0]
    return f"{above}/{what}" if above else what
