"""A chain while it is built: nodes that what follows may still become part of. Read `Builder`."""

# N batch, H W image, C channels

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from groundwork.architectures.cpu import chain as chain_lib
from groundwork.architectures.cpu.chain import FREE, WEIGHTED, Bounds, Chain, Node, Sizes
from groundwork.traced.predictions import budget


@dataclasses.dataclass(eq=False)
class Open:
    """A node that may still change; see `chain.Node`.

    Attributes:
      layer: the path of a convolution, for errors.
      kernel: the first weights, an array; of an affine map its scale [C].
      bias: the second ones [C].
      pattern: of a sparse layer which entries of its kernel are stored, bool.
    """

    kind: str
    inputs: list["Value"]
    shape: tuple[int, ...]
    fields: tuple[int, ...] = ()
    bounds: Bounds = FREE
    layer: str = ""
    kernel: Any = None
    bias: Any = None
    pattern: Any = None


@dataclasses.dataclass(eq=False)
class Value:
    """An array that a chain is given, or what one of its nodes makes.

    Attributes:
      shape: that the network sees.
      made: the node; None for a given array.
      array: the given array.
      is_view: whether it shows another value in another shape, or under another name.
    """

    shape: tuple[int, ...]
    made: Open | None = None
    array: Any = None
    is_view: bool = False

    @property
    def key(self) -> int:
        """What tells values apart; views have that of what they show."""
        return id(self.array if self.made is None else self.made)

    def view(self, shape: tuple[int, ...]) -> "Value":
        """Returns the same numbers in another shape, or under another name."""
        return Value(shape, self.made, self.array, True)


class Builder:
    """Collects the nodes of one chain, until a value of it is needed outside.

    Args:
      most: bytes of scratch memory that each convolution may take; None for any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._nodes: list[Open] = []
        self._given: dict[int, Value] = {}

    def given(self, array: jax.Array) -> Value:
        """Returns an array as a value of the chain."""
        return self._given.setdefault(id(array), Value(tuple(array.shape), array=array))

    def add(self, kind: str, inputs: Sequence[Value], shape: tuple[int, ...], **more: Any) -> Value:
        """Returns what a new node makes."""
        node = Open(kind, list(inputs), shape, **more)
        self._nodes.append(node)
        return Value(shape, node)

    def place(self, value: Value) -> int:
        """Returns the place of the node that makes a value; −1 for a given one."""
        return -1 if value.made is None else self._nodes.index(value.made)

    def close(self, wanted: Sequence[Value]) -> dict[int, jax.Array]:
        """Returns the key of each wanted value → its array, all of them from one call."""
        distinct = list({one.key: one for one in wanted}.values())
        nodes = self._needed(distinct)
        given = {one.key: one for node in nodes for one in node.inputs if one.made is None}
        number = {key: place for place, key in enumerate(given)}
        number |= {id(node): len(given) + place for place, node in enumerate(nodes)}
        shapes = [one.array.shape for one in given.values()] + [node.shape for node in nodes]
        chain = Chain(
            sizes=tuple(map(_sizes, shapes)),
            given=len(given),
            results=tuple(number[one.key] for one in distinct),
            nodes=tuple(self._node(node, number) for node in nodes),
        )
        weights = [x for n in nodes if n.kind in WEIGHTED for x in (_stored(n), n.bias)]
        floats = [jnp.asarray(x, jnp.float32) for x in weights]
        arrays = [one.array.reshape(_sizes(one.array.shape)) for one in given.values()]
        made = [node for node in nodes if id(node) in {one.key for one in distinct}]
        results = self._computed(chain, floats, arrays)
        outputs = dict(zip(chain.results, results, strict=True))
        return {id(node): outputs[number[id(node)]].reshape(node.shape) for node in made}

    def _needed(self, wanted: Sequence[Value]) -> list[Open]:
        keys = {one.key for one in wanted}
        for node in reversed(self._nodes):
            if id(node) in keys:
                keys |= {one.key for one in node.inputs}
        return [node for node in self._nodes if id(node) in keys]

    def _node(self, node: Open, number: dict[int, int]) -> Node:
        inputs, fields = tuple(number[one.key] for one in node.inputs), node.fields
        if self._most is not None and node.kind == "convolve":
            fields = (*fields, budget.form(_alone(node), self._most, node.layer))
        return Node(node.kind, inputs, number[id(node)], fields, node.bounds)

    def _computed(self, chain: Chain, weights: Any, arrays: Any) -> list[jax.Array]:
        if self._most is None:
            return chain_lib.computed(chain, weights, arrays)
        return chain_lib.run(chain, chain_lib.pack(chain, weights), arrays)


def _stored(node: Open) -> Any:
    """Returns the kernel, in which a zero that is stored is −0, and one that is not is +0."""
    if node.pattern is None:
        return node.kernel
    zeros = jnp.where(node.pattern, jnp.float32(-0.0), jnp.float32(0.0))
    return jnp.where(node.kernel == 0, zeros.reshape(node.kernel.shape), node.kernel)


def _alone(node: Open) -> Chain:
    """Returns the chain of one node."""
    sizes = (*(_sizes(one.shape) for one in node.inputs), _sizes(node.shape))
    last = len(node.inputs)
    one = Node(node.kind, tuple(range(last)), last, node.fields, node.bounds)
    return Chain(sizes, last, (last,), (one,))


def _sizes(shape: tuple[int, ...]) -> Sizes:
    n, *rest = shape
    return tuple(shape) if len(shape) == 4 else (n, 1, 1, math.prod(rest))  # type: ignore[return-value]
