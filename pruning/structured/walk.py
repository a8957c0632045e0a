"""A walk over a network's jaxpr that tells which entries of its arrays belong to which unit.

Every value has, along each of its axes, an id for each entry. Equations join ids: what is added
must be removed together, and so must an output of one layer and the input of the next one that it
meets. Read `Walk.run` first. The same walk computes the network on arrays without some units.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from groundwork.traced.walk import bind
from pruning.structured.axes import Axes, Axis, axis_of, zeros
from pruning.structured.forest import FIXED, Forest
from pruning.structured.left import Left

Place = tuple[int | str, ...]

SINGLE = "it has a single entry"
TURNS = 1000  # more than any network needs: each turn joins at least one pair, or ends


class Step(NamedTuple):
    """An equation, what is known of its operands, and where in the program it stands."""

    equation: Any
    axes: list[Axes]
    place: Place


class Rule(NamedTuple):
    """What is known of a primitive.

    Attributes:
      label: (walk, step) → the axes of the outputs; it joins what belongs together.
      compute: (walk, step, axes of the outputs, operands) → outputs, where units are missing from
        the operands; None where the primitive itself does it.
    """

    label: Callable[["Walk", Step], list[Axes]]
    compute: Callable[["Walk", Step, list[Axes], Sequence[Any]], list[Any]] | None = None


@dataclasses.dataclass(kw_only=True)
class Walk:
    """The state of walks over one jaxpr.

    Attributes:
      rules: of each primitive; one without a rule lets all that enters it stay.
      split: which units a reshape keeps where equations leave it open: those of the `outer` axis,
        such as whole heads, or of the `inner` one, such as dimensions of all heads.
      forest: of all ids.
      left: which of their entries are there, where it computes.
      judges: whether zeros are followed once all is joined, to find `inexact`.
      inexact: id → why an output may depend on what stands in the place of the unit.
      first: of each parameter's entry, by id, the number of the equation that uses it first.
      at_zero: of operations on zeros, what they make.
      check: refuses joins, made after units were removed, that do not let them go.
      listener: is told of every equation once all is joined.
    """

    rules: Mapping[str, Rule]
    split: str
    forest: Forest
    left: Left = dataclasses.field(init=False)
    judges: bool = False
    inexact: dict[int, str] = dataclasses.field(default_factory=dict)
    first: np.ndarray | None = None
    at_zero: dict[Any, np.ndarray] = dataclasses.field(default_factory=dict)
    check: Callable[[], Any] = lambda: None
    listener: Callable[[Step], None] | None = None
    _equations: int = 0
    _held: dict[Any, Any] = dataclasses.field(default_factory=dict)
    _asked: bool = False  # whether this turn had such a question
    _open: bool = False  # whether this turn may settle one question that the equations leave open

    def __post_init__(self) -> None:
        self.left = Left(forest=self.forest)

    def settle(self, closed: Any, axes: Sequence[Axes], end: Callable[[list[Axes]], None]) -> None:
        """Walks over a jaxpr until nothing changes any more.

        Args:
          closed: the jaxpr.
          axes: of its arguments.
          end: told the axes of the outputs in each turn; it may join some.
        """
        judges, listener, first = self.judges, self.listener, self.first
        self.judges, self.listener, self._open = False, None, False
        for _ in range(TURNS):
            before, self._asked = self.forest.changes, False
            end(self.run(closed, axes)[0])
            unchanged, self.first = self.forest.changes == before, None  # one turn sees them all
            if unchanged and (self._open or not self._asked):
                self.judges, self.listener, self._open = judges, listener, False
                if judges or listener:  # zeros join nothing, so they are followed once
                    self.run(closed, axes)
                self.first = first
                return
            self._open = unchanged
        raise AssertionError("units are joined without an end")

    def run(
        self,
        closed: Any,
        axes: Sequence[Axes],
        values: Sequence[Any] | None = None,
        place: Place = (),
    ) -> tuple[list[Axes], list[Any]]:
        """Returns the axes of a jaxpr's outputs, and their values where it is computed.

        Args:
          closed: a jaxpr, and the constants that it may have.
          axes: of its arguments.
          values: of its arguments, without the units that are not `left`.
          place: where in the program it stands.
        """
        jaxpr, consts = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
        numbers = dict(zip(jaxpr.constvars, consts, strict=True))
        known: dict[Any, Axes] = dict(zip(jaxpr.invars, axes, strict=True))
        have: dict[Any, Any] = dict(zip(jaxpr.invars, values or (), strict=values is not None))

        def axes_of(variable: Any, use: Place) -> Axes:
            if isinstance(variable, Literal):
                return self._constant(variable.val, (*place, *use))
            if variable in numbers:
                return self._constant(numbers[variable], (*place, *use))
            return known[variable]

        def value_of(variable: Any, axes: Axes) -> Any:
            if isinstance(variable, Literal):
                return self.left.cut(variable.val, axes)
            return self.left.cut(numbers[variable], axes) if variable in numbers else have[variable]

        for number, equation in enumerate(jaxpr.eqns):
            given = [axes_of(v, (number, "use", n)) for n, v in enumerate(equation.invars)]
            step = Step(equation, given, (*place, number))
            outputs = self._labelled(step)
            if self.listener is not None:
                self.listener(step)
            known.update(zip(equation.outvars, outputs, strict=True))
            if values is not None:
                operands = [value_of(*pair) for pair in zip(equation.invars, given, strict=True)]
                computed = self._computed(step, outputs, operands)
                have.update(zip(equation.outvars, computed, strict=True))
        ends = [axes_of(v, ("out", n)) for n, v in enumerate(jaxpr.outvars)]
        if values is None:
            return ends, []
        return ends, [value_of(*pair) for pair in zip(jaxpr.outvars, ends, strict=True)]

    def _labelled(self, step: Step) -> list[Axes]:
        self._equations += 1
        if self.first is not None:
            for axis in (axis for axes in step.axes for axis in axes):
                ids = axis["id"][axis["id"] < len(self.first)]
                self.first[ids] = np.minimum(self.first[ids], self._equations)
        rule = self.rules.get(step.equation.primitive.name)
        if rule is not None:
            return rule.label(self, step)
        name = step.equation.primitive.name
        return self.freeze(step, f"it enters {name}, of which nothing is known")

    def _computed(self, step: Step, outputs: list[Axes], operands: Sequence[Any]) -> list[Any]:
        whole = all(map(self.left.whole, (*step.axes, *outputs)))
        rule = self.rules.get(step.equation.primitive.name)
        if whole or rule is None or rule.compute is None:
            return bind(step.equation, operands)
        return rule.compute(self, step, outputs, operands)

    # ids

    def new(self, count: int, key: Any) -> Axis:
        """Returns an axis that belongs to nothing yet; the same one for the same key."""
        if count == 1:
            return self.fixed(1, SINGLE)
        if key not in self._held:
            self._held[key] = axis_of(self.forest.new(count))
        return self._held[key]

    def held(self, key: Any) -> bool:
        """Returns whether `new` has been asked for this key."""
        return key in self._held

    def fixed(self, count: int, reason: str) -> Axis:
        """Returns an axis that stays."""
        return axis_of(self.forest.fixed(count, reason))

    def fixed_axes(self, shape: Sequence[int], reason: str) -> Axes:
        """Returns the axes of an array that stays as it is."""
        return [self.fixed(count, reason) for count in shape]

    def freeze(self, step: Step, reason: str) -> list[Axes]:
        """Lets all that enters an equation stay; returns the axes of its outputs."""
        for axes in step.axes:
            for axis in axes:
                self.fix(axis, reason)
        return [self.fixed_axes(v.aval.shape, reason) for v in step.equation.outvars]

    def fix(self, axis: Axis, reason: str) -> None:
        """Lets an axis stay."""
        self.forest.fix(axis["id"], reason)

    def join(self, *axes: Axis) -> Axis:
        """Joins axes entry by entry; an entry of the result is zero if it is in all of them."""
        first, *others = axes
        for other in others:
            if other is not first:
                self.forest.join(first["id"], other["id"])
        if not others or not self.judges:
            return first
        return zeros(first, np.logical_and.reduce([axis["zero"] for axis in axes]))

    def free(self, axis: Axis) -> np.ndarray:
        """Returns of each entry whether its unit may be removed."""
        return self.forest.free(axis["id"])

    def classes(self, axis: Axis) -> np.ndarray:
        """Returns the unit of each entry, `FIXED` for all that stay."""
        return self.forest.classes(axis["id"])

    def doubt(self, axis: Axis, reason: str) -> None:
        """Notes that an output depends on the entries of an axis that are not zero."""
        if self.judges:
            for number in np.unique(self.classes(axis[~axis["zero"]])):
                if number != FIXED:
                    self.inexact.setdefault(int(number), reason)

    def decides(self) -> bool:
        """Returns whether an open question may be settled now: one, where all else is settled."""
        if self._open:
            self._open = False
            self.forest.changes += 1
            return True
        self._asked = True
        return False

    def _constant(self, const: Any, key: Place) -> Axes:
        """Returns the axes of a constant in one use; its entries go with whatever they meet."""
        shape = np.shape(const)
        if not shape:
            return []
        if key not in self._held:
            is_known = not isinstance(const, jax.core.Tracer) and _is_numeric(const)
            self._held[key] = is_known and not np.asarray(const).any()
        return [zeros(self.new(count, (key, n)), self._held[key]) for n, count in enumerate(shape)]


def _is_numeric(const: Any) -> bool:
    return not jnp.issubdtype(jnp.result_type(const), jax.dtypes.extended)
