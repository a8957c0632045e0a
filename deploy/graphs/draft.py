"""A graph while it is made: nodes that can still change. Read `Draft`."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deploy.graphs.constants import Constant, constant
from deploy.graphs.graph import Node, Value
from groundwork.traced.network import KERNELS

REFUSED = "refused"
"""The operation of a node that has no rule: an error only if an output needs it."""


@dataclasses.dataclass
class Draft:
    """Values, by names that say nothing yet: `0`, `1`, … in the order in which they are made.

    Attributes:
      values: name → shape and dtype.
      nodes: name of its output → node.
      constants: name → constant.
      inputs: names.
      outputs: names.
      layers: name → the path of the layer from which the value came, as far as it is known.
      current: the layer whose parameters the network has used last, while it is walked through.
      is_walked: whether it was.
    """

    values: dict[str, Value] = dataclasses.field(default_factory=dict)
    nodes: dict[str, Node] = dataclasses.field(default_factory=dict)
    constants: dict[str, Constant] = dataclasses.field(default_factory=dict)
    inputs: list[str] = dataclasses.field(default_factory=list)
    outputs: list[str] = dataclasses.field(default_factory=list)
    layers: dict[str, str] = dataclasses.field(default_factory=dict)
    current: str = ""
    is_walked: bool = False
    _names: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def input(self, value: Value) -> str:
        """Adds an input; returns its name."""
        name = self._new(value)
        self.inputs.append(name)
        return name

    def constant(self, array: Any, source: str = "") -> str:
        """Adds a constant, an array or a `Constant`; returns its name."""
        made = array if isinstance(array, Constant) else constant(array, source)
        name = self._new(Value(made.array.shape, made.array.dtype.name))
        self.constants[name] = made
        self.layers[name] = layer_of(made.source)
        return name

    def add(
        self,
        operation: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        dtype: str = "float32",
        /,
        layer: str | None = None,
        **attributes: Any,
    ) -> str:
        """Adds a node; returns the name of its output.

        Args:
          operation: of `graph.OPERATIONS`, or one that is rewritten later.
          inputs: names.
          shape: of the output.
          dtype: of the output.
          layer: by default see `layer`.
          **attributes: of the operation.
        """
        layer = self.layer(inputs) if layer is None else layer
        name = self._new(Value(tuple(map(int, shape)), dtype))
        self.layers[name] = layer
        self.nodes[name] = Node(
            operation=operation,
            inputs=tuple(inputs),
            output=name,
            attributes=attributes,
            layer=layer,
        )
        return name

    def layer(self, inputs: Sequence[str]) -> str:
        """Returns the layer to which an operation on these values belongs.

        It is that of its constants; else the current one; else that of its latest input.
        """
        for name in inputs:
            if name in self.constants and self.layers[name]:
                self.current = self.layers[name]
                return self.current
        if not self.is_walked:
            return self.current
        latest = sorted((name for name in inputs if self.layers.get(name)), key=int)
        return self.layers[latest[-1]] if latest else ""

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a value."""
        return self.values[name].shape

    def dtype(self, name: str) -> str:
        """Returns the dtype of a value."""
        return self.values[name].dtype

    def made_by(self, name: str, *operations: str) -> Node | None:
        """Returns the node that makes a value, if it is one of these operations."""
        node = self.nodes.get(name)
        return node if node is not None and node.operation in operations else None

    def array(self, name: str) -> np.ndarray | None:
        """Returns a constant's array; None for any other value."""
        return self.constants[name].array if name in self.constants else None

    def uniform(self, name: str) -> float | None:
        """Returns the number that all entries of a constant are, if they are."""
        array = self.array(name)
        if array is None or not array.size or not np.all(array == array.flat[0]):
            return None
        return float(array.flat[0])

    def ordered(self) -> list[Node]:
        """Returns the nodes that the outputs need, each after what it reads."""
        found: dict[str, Node] = {}
        for output in self.outputs:
            pending = [(output, False)]
            while pending:
                name, is_ready = pending.pop()
                if name in found or name not in self.nodes:
                    continue
                node = self.nodes[name]
                if is_ready:
                    found[name] = node
                else:
                    pending.append((name, True))
                    pending.extend((before, False) for before in reversed(node.inputs))
        return list(found.values())

    def _new(self, value: Value) -> str:
        name = str(next(self._names))
        self.values[name] = value
        return name


Rule = Callable[[Draft, Node, Mapping[str, int]], str | None]
"""(draft, node, value → how many nodes or results read it) → what takes the node's place, or None.

It adds nodes, and changes none; so a count that is out of date may cost an operation, no more.
"""


def both(*tables: Mapping[str, Sequence[Rule]]) -> dict[str, list[Rule]]:
    """Returns all rules of several tables, the first table's first."""
    joined: dict[str, list[Rule]] = {}
    for table in tables:
        for operation, rules in table.items():
            joined.setdefault(operation, []).extend(rules)
    return joined


def rewrite(draft: Draft, rules: Mapping[str, Sequence[Rule]]) -> None:
    """Applies rules to all nodes until none of them applies.

    Args:
      draft: is changed.
      rules: operation → what is tried, in this order.
    """
    for _ in range(100):
        changed = _sweep(draft, rules)
        if not changed:
            return
    raise AssertionError("rules rewrite each other without an end")


def _sweep(draft: Draft, rules: Mapping[str, Sequence[Rule]]) -> bool:
    nodes, changed = draft.ordered(), False
    alias: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name in [*draft.outputs, *(name for node in nodes for name in set(node.inputs))]:
        counts[name] = counts.get(name, 0) + 1
    for node in nodes:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        if inputs != node.inputs:
            node = dataclasses.replace(node, inputs=inputs)
            draft.nodes[node.output] = node
        found: Node | None = node
        while found is not None and (new := _applied(draft, found, rules, counts)) is not None:
            counts.setdefault(new, counts.get(node.output, 1))
            alias[node.output], changed = new, True
            found = draft.nodes.get(new)
    draft.outputs = [alias.get(name, name) for name in draft.outputs]
    return changed


def _applied(
    draft: Draft, node: Node, rules: Mapping[str, Sequence[Rule]], counts: Mapping[str, int]
) -> str | None:
    for rule in rules.get(node.operation, ()):
        name = rule(draft, node, counts)
        if name is not None and name != node.output:
            return name
    return None


def layer_of(path: str) -> str:
    """Returns the path of the layer that has a parameter: `fc1` for `fc1/kernel`."""
    above, _, last = path.rpartition("/")
    return above or ("" if last in KERNELS else last)
