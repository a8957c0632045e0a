"""Affine maps of channels, such as BatchNorm, as part of the product before them.

Read `folded_affine`. Everything is computed in float64 and rounded to float32 once.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from deploy.graphs.constants import Constant, compact
from deploy.graphs.draft import Draft, Rule
from deploy.graphs.graph import FREE, Node
from deploy.graphs.rules.entries import binary

ONE, NOTHING = np.ones(()), np.zeros(())
PRODUCTS = ("conv", "dense")


class Affine(NamedTuple):
    """A value as scale × root + offset."""

    root: str
    scale: np.ndarray
    offset: np.ndarray
    steps: tuple[str, ...]  # its operations, in order

    def then(self, scale: np.ndarray, offset: np.ndarray, step: str) -> "Affine | None":
        """Returns the map after another one; None where its arrays would outgrow both."""
        shapes = {np.shape(a) for a in (self.scale, self.offset, scale, offset) if np.ndim(a)}
        if len(shapes) > 1:
            return None
        offset = self.offset * scale + offset
        return Affine(self.root, self.scale * scale, offset, (*self.steps, step))


def folded_affine(draft: Draft) -> None:
    """Folds chains of sums and products with constants, each into one product and one sum.

    Where a chain begins with a convolution or a dense layer that nothing else reads, and has one
    number for each channel, both become part of that layer.

    Args:
      draft: is changed.
    """
    counts = _counts(draft)
    chains: dict[str, Affine] = {}
    alias: dict[str, str] = {}
    ordered = draft.ordered()
    for node in ordered:
        step = _step(draft, node)
        if step is None:
            continue
        name, scale, offset = step
        start = chains.get(name) if counts[name] == 1 else None
        longer = start.then(scale, offset, node.operation) if start else None
        chains[node.output] = longer or Affine(name, scale, offset, (node.operation,))
        if longer is not None:
            del chains[name]
    for output, chain in chains.items():
        emitted = _emitted(draft, output, chain, counts)
        if emitted is not None:
            alias[output] = emitted
    _renamed(draft, alias)


def _counts(draft: Draft) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for name in [*draft.outputs, *(name for node in draft.ordered() for name in node.inputs)]:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _step(draft: Draft, node: Node) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Returns (value, scale, offset) of an operation that maps a value so."""
    if draft.dtype(node.output) != "float32" or node.attributes:
        return None
    if node.operation == "neg":
        return node.inputs[0], -ONE, NOTHING
    if node.operation not in ("add", "sub", "mul", "div"):
        return None
    left, right = node.inputs
    name, constant = (right, left) if left in draft.constants else (left, right)
    array = draft.array(constant)
    if array is None or draft.shape(name) != draft.shape(node.output):
        return None
    wide = compact(array, draft.shape(name)).astype(np.float64)
    match node.operation, constant == left:
        case "add", _:
            return name, ONE, wide
        case "mul", _:
            return name, wide, NOTHING
        case "sub", False:
            return name, ONE, -wide
        case "sub", True:
            return name, -ONE, wide
        case "div", False if np.all(wide):
            return name, 1 / wide, NOTHING
    return None


def _emitted(draft: Draft, output: str, chain: Affine, counts: Mapping[str, int]) -> str | None:
    """Returns what stands for a chain; None where it stays as it is."""
    channels = draft.shape(output)[-1:]
    scale, offset = chain.scale, chain.offset
    flat = all(np.ndim(a) == 0 or np.shape(a) == channels for a in (scale, offset))
    if flat and _takes(draft, chain.root, counts):
        return _into(draft, chain.root, scale, offset)
    if chain.steps in (("mul",), ("add",), ("sub",), ("neg",), ("mul", "add")):
        return None
    made, layer = chain.root, draft.layers[output]
    for operation, array in (("mul", scale), ("add", offset)):
        if not np.all(array == (1 if operation == "mul" else 0)):
            number = draft.constant(np.float32(array), f"{layer}/{operation}")
            made = binary(draft, operation, made, number)
    return made


def _takes(draft: Draft, name: str, counts: Mapping[str, int]) -> bool:
    """Returns whether a value is one product, or a sum of two, that nothing else reads."""
    node = draft.made_by(name, *PRODUCTS, "add")
    if node is None or counts.get(name, 1) != 1 or _bounded(node):
        return False
    if node.operation in PRODUCTS:
        return True
    parts = [draft.made_by(part, *PRODUCTS) for part in node.inputs]
    alike = {draft.shape(part) for part in node.inputs} == {draft.shape(name)}
    return alike and all(part and _takes(draft, part.output, counts) for part in parts)


def _into(draft: Draft, name: str, scale: np.ndarray, offset: np.ndarray) -> str:
    """Returns a product, or a sum of two, that is scale × a value + offset."""
    node = draft.nodes[name]
    if node.operation == "add":
        left, right = node.inputs
        parts = [_into(draft, left, scale, offset), _into(draft, right, scale, NOTHING)]
        return draft.add("add", parts, draft.shape(name), layer=node.layer)
    x, kernel, bias = node.inputs
    taps, sums = draft.constants[kernel], draft.constants[bias]
    wide = sums.array.astype(np.float64) * scale + offset
    made = draft.constant(scaled(taps, scale))
    draft.layers[made] = node.layer
    inputs = [x, made, draft.constant(wide.astype(np.float32))]
    return draft.add(
        node.operation, inputs, draft.shape(node.output), layer=node.layer, **node.attributes
    )


def scaled(kernel: Constant, scale: np.ndarray) -> Constant:
    """Returns a kernel times a factor for each channel; its integers change their sign at most."""
    if np.all(scale == 1):
        return kernel
    if kernel.codes is None or kernel.scales is None:
        array = (kernel.array.astype(np.float64) * scale).astype(np.float32)
        return Constant(array, kernel.source)
    scales = (kernel.scales.astype(np.float64) * np.abs(scale)).astype(np.float32)
    codes = np.where(scales == 0, 0, kernel.codes * np.sign(scale)).astype(np.int8)
    scales = np.where(scales == 0, kernel.scales, scales)
    return Constant(codes * scales, kernel.source, codes, scales)


def _bounded(node: Node) -> bool:
    return node.attributes.get("bounds", FREE) != FREE


def _renamed(draft: Draft, alias: Mapping[str, str]) -> None:
    for node in list(draft.nodes.values()):
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        if inputs != node.inputs:
            draft.nodes[node.output] = Node(
                operation=node.operation,
                inputs=inputs,
                output=node.output,
                attributes=node.attributes,
                layer=node.layer,
            )
    draft.outputs = [alias.get(name, name) for name in draft.outputs]


def bounds(draft: Draft, node: Node, counts: Mapping[str, int]) -> str | None:
    """Bounds of a sum or a product that nothing else reads."""
    (name,) = node.inputs
    before = draft.made_by(name, *PRODUCTS, "add")
    if before is None or _bounded(before) or counts.get(name, 1) != 1:
        return None
    options = {**before.attributes, "bounds": node.attributes["bounds"]}
    shape = draft.shape(node.output)
    return draft.add(before.operation, before.inputs, shape, layer=before.layer, **options)


BOUNDS: Mapping[str, list[Rule]] = {"clip": [bounds]}
