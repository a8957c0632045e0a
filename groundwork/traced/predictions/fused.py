"""A network's function in which whole chains of layers are one call of oneDNN. Read `fused`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.architectures.cpu import sparse
from groundwork.architectures.cpu.chain import FREE
from groundwork.architectures.cpu.geometry import Geometry
from groundwork.traced import walk
from groundwork.traced.predictions import budget, poolings, rules
from groundwork.traced.predictions import flat as flat_lib
from groundwork.traced.predictions.builder import Builder, Value
from groundwork.traced.predictions.flat import Constant, Flat


def fused(
    closed: Any,
    known: Sequence[bool],
    paths: Sequence[str] = (),
    most: int | None = None,
    patterns: Sequence[Any] | None = None,
) -> Callable[..., list[Any]]:
    """Returns a function of the arguments of a jaxpr → its outputs.

    Args:
      closed: the jaxpr of a network in evaluation.
      known: for each argument, whether it is a weight. What depends on weights alone is computed as
        it was; layers that multiply data by it become nodes of chains, with what follows them.
      paths: of the weights, which are the first arguments, for errors.
      most: bytes of scratch memory that each convolution may take; None for any number.
      patterns: the arguments that are known, with their zeros, if layers may be sparse.
    """
    flat = poolings.recognised(flat_lib.flat(closed))
    zeros = {} if patterns is None else _values(flat, known, patterns)
    asked = Asked(budget.names(flat, paths), most, zeros)
    return lambda *arguments: Fusion(flat, known, arguments, asked).outputs()


class Asked(NamedTuple):
    """What a network's layers are held to.

    Attributes:
      layers: name of a value of weights → the path of its layer.
      most: bytes of scratch memory of a convolution; None for any number.
      zeros: name of a value of weights → the array that has zeros where others have them.
    """

    layers: Mapping[int, str]
    most: int | None
    zeros: Mapping[int, Any]


def _values(flat: Flat, known: Sequence[bool], given: Sequence[Any]) -> dict[int, Any]:
    """Returns the name → array of what depends on weights alone."""
    names = [name for name, is_known in zip(flat.inputs, known, strict=True) if is_known]
    found = dict(zip(names, given, strict=True)) | flat.constants
    with jax.ensure_compile_time_eval():
        for equation, inputs, outputs in flat.equations:
            if all(isinstance(name, Constant) or name in found for name in inputs):
                read = [n.value if isinstance(n, Constant) else found[n] for n in inputs]
                found.update(zip(outputs, walk.bind(equation, read), strict=True))
    return found


class Fusion:
    """One evaluation of a flat jaxpr, whose values are arrays or a chain's."""

    def __init__(
        self,
        flat: Flat,
        known: Sequence[bool],
        arguments: Sequence[Any],
        asked: Asked,
    ) -> None:
        self._asked, self._flat = asked, flat
        self.builder = Builder(asked.most)
        self._values: dict[int, Any] = dict(zip(flat.inputs, arguments, strict=True))
        self._values |= flat.constants
        self._concrete: dict[int, Any] = dict(flat.constants)  # no argument changes them
        weights = (name for name, is_known in zip(flat.inputs, known, strict=True) if is_known)
        self._known = {*weights, *flat.constants}
        self._uses: dict[int, int] = {}
        for names in [*(inputs for _, inputs, _ in flat.equations), flat.outputs]:
            for name in names:
                if not isinstance(name, Constant):
                    self._uses[name] = self._uses.get(name, 0) + 1
        self._left = dict(self._uses)

    def outputs(self) -> list[Any]:
        """Returns the outputs of the jaxpr."""
        for equation, inputs, outputs in self._flat.equations:
            if all(map(self.is_known, inputs)):
                self._weights(equation, inputs, outputs)
            else:
                self._data(equation, inputs, outputs)
            for name in inputs:
                if not isinstance(name, Constant):
                    self._left[name] -= 1
        self._flush()
        return [self.read(name) for name in self._flat.outputs]

    def read(self, name: Any) -> Any:
        """Returns the array, or the `Value`, of a name."""
        return name.value if isinstance(name, Constant) else self._values[name]

    def value(self, name: Any) -> Value:
        """Returns what a name has as a value of the chain."""
        found = self.read(name)
        return found if isinstance(found, Value) else self.builder.given(found)

    def layer(self, name: Any) -> str:
        """Returns the path of the layer that a value of weights belongs to."""
        return budget.layer_of(self._asked.layers, name)

    def is_known(self, name: Any) -> bool:
        """Does it depend on weights alone?"""
        return isinstance(name, Constant) or name in self._known

    def is_only(self, name: Any) -> bool:
        """Does nothing but the equation under way read it?"""
        return self._uses[name] == 1

    def is_open(self, name: Any, *kinds: str) -> bool:
        """May the node of such a kind that makes a value still be changed?"""
        found = self.read(name)
        if not isinstance(found, Value) or found.made is None or found.is_view:
            return False
        return self.is_only(name) and found.made.kind in kinds and found.made.bounds == FREE

    def number(self, name: Any) -> float | None:
        """Returns the value of a scalar that no argument changes; None if it is not that."""
        found = name.value if isinstance(name, Constant) else self._concrete.get(name)
        return None if found is None or np.ndim(found) else float(found)

    def channels(self, name: Any, like: Value) -> jax.Array | None:
        """Returns a known operand as one number for each channel [C]; None if it is not that."""
        if not self.is_known(name):
            return None
        found, width = jnp.asarray(self.read(name)), like.shape[-1]
        if found.ndim == 0:
            return jnp.broadcast_to(found, (width,))
        if found.ndim == len(like.shape) and found.size == width == found.shape[-1]:
            return found.reshape(width)
        return None

    def sparse(self, name: Any, geometry: Geometry) -> dict[str, Any] | None:
        """Returns what a node stores of a kernel with zeros; None if it had better be dense."""
        if name not in self._asked.zeros:
            return None
        pattern = np.asarray(self._asked.zeros[name]).reshape(geometry.kernel) != 0
        form = sparse.chosen(pattern, geometry)
        return form and {"fields": form.fields(geometry), "pattern": pattern}

    def _weights(self, equation: Any, inputs: list[Any], outputs: list[int]) -> None:
        """Evaluates an equation of known values."""
        made = walk.bind(equation, list(map(self.read, inputs)))
        self._values.update(zip(outputs, made, strict=True))
        self._known |= set(outputs)
        if inputs and all(isinstance(n, Constant) or n in self._concrete for n in inputs):
            with jax.ensure_compile_time_eval():
                given = [n.value if isinstance(n, Constant) else self._concrete[n] for n in inputs]
                self._concrete.update(zip(outputs, walk.bind(equation, given), strict=True))

    def _data(self, equation: Any, inputs: list[Any], outputs: list[int]) -> None:
        """Evaluates an equation of data: as part of the chain, or after it."""
        rule = rules.RULES.get(equation.primitive.name)
        made = rule(self, equation, inputs) if rule else None
        if made is not None:
            self._values[outputs[0]] = made
            return
        if any(isinstance(self.read(name), Value) for name in inputs):
            self._flush()
        found = walk.bind(equation, list(map(self.read, inputs)))
        self._values.update(zip(outputs, found, strict=True))

    def _flush(self) -> None:
        """Ends the chain: what is needed of it later becomes arrays."""
        values = {n: v for n, v in self._values.items() if isinstance(v, Value)}
        needed = {n: v for n, v in values.items() if self._left.get(n)}
        wanted = [v for v in needed.values() if v.made is not None]
        arrays = self.builder.close(wanted) if wanted else {}
        for name in values.keys() - needed.keys():
            del self._values[name]
        for name, one in needed.items():
            array = one.array if one.made is None else arrays[one.key]
            self._values[name] = array.reshape(one.shape)
        self.builder = Builder(self._asked.most)
