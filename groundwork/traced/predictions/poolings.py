"""Poolings that are written as slices of which the larger, or the sum, is taken, axis by axis."""

# N batch, H W image, C channels

import math
from typing import Any, NamedTuple

import jax
from jax import lax

from groundwork.traced import walk
from groundwork.traced.predictions.flat import Constant, Flat, Name

NEUTRAL = {"max": -math.inf, "sum": 0.0}
REDUCTION = {"select_n": "max", "max": "max", "add": "sum"}


class Stage(NamedTuple):
    """Windows along one axis, in pixels: where the first one begins, which may be outside."""

    first: int
    size: int
    stride: int
    number: int


class Windows(NamedTuple):
    """A value as windows of another.

    Attributes:
      source: name of the images [N, H, W, C].
      reduction: of `NEUTRAL`, whose number stands outside the images; None: there is no outside,
        and each window is one pixel.
      along: rows and columns.
    """

    source: Name
    reduction: str | None
    along: tuple[Stage, ...]


def recognised(flat: Flat) -> Flat:
    """Returns the same with `reduce_window` in the place of slices that are compared or added."""
    made = {name: (equation, inputs) for equation, inputs, made in flat.equations for name in made}
    images = _Images(made)
    equations = []
    for equation, inputs, outputs in flat.equations:
        windows = images.pooled(equation, inputs, outputs)
        if windows is not None:
            equation = _reduction(windows, images.sizes[windows.source], equation)
            inputs = [windows.source]
        equations.append((equation, inputs, outputs))
    return flat._replace(equations=_needed(equations, flat.outputs))


class _Images:
    """What is known about the images of a network: of which others they are windows.

    Attributes:
      sizes: name → shape [N, H, W, C].
    """

    def __init__(self, made: dict[Name, tuple[Any, list[Any]]]) -> None:
        self.sizes: dict[Name, tuple[int, ...]] = {}
        self._made = made
        self._windows: dict[Name, Windows] = {}

    def pooled(self, equation: Any, inputs: list[Any], outputs: list[Name]) -> Windows | None:
        """Notes what an equation makes; returns the windows if it is the last of a pooling."""
        shapes = [tuple(variable.aval.shape) for variable in equation.invars]
        self.sizes.update(
            (name, shape)
            for name, shape in zip(inputs, shapes, strict=True)
            if len(shape) == 4 and not isinstance(name, Constant)
        )
        aval = equation.outvars[0].aval if equation.outvars else None
        if aval is None or len(getattr(aval, "shape", ())) != 4 or aval.dtype != "float32":
            return None
        name = equation.primitive.name
        found = None
        if name in ("slice", "pad"):
            found = self._cut(equation, inputs)
        elif name in REDUCTION:
            pair = inputs if name != "select_n" else self._compared(inputs)
            found = self._joined(pair, REDUCTION[name]) if pair else None
        if found is not None:
            self._windows[outputs[0]] = found
        return found if name in REDUCTION else None

    def _of(self, name: Name) -> Windows:
        _, *pixels, _ = self.sizes[name]
        whole = tuple(Stage(0, 1, 1, count) for count in pixels)
        return self._windows.get(name, Windows(name, None, whole))

    def _cut(self, equation: Any, inputs: list[Any]) -> Windows | None:
        """Returns images without some pixels, or with more around them, as windows."""
        if isinstance(inputs[0], Constant):
            return None
        inner, options = self._of(inputs[0]), equation.params
        if equation.primitive.name == "slice":
            reduction = None
            strides = options["strides"] or (1, 1, 1, 1)
            cut = [*zip(options["start_indices"], strides, strict=True)]
        else:
            reduction = next((r for r, n in NEUTRAL.items() if n == self._number(inputs[1])), None)
            cut = [(-int(low), 1) for low, _, _ in options["padding_config"]]
            if reduction is None or any(inside for _, _, inside in options["padding_config"]):
                return None
        before, after = self.sizes[inputs[0]], equation.outvars[0].aval.shape
        if (before[0], before[3]) != (after[0], after[3]) or (cut[0], cut[3]) != ((0, 1), (0, 1)):
            return None
        stages = [Stage(int(f), 1, int(s), n) for (f, s), n in zip(cut, after, strict=True)][1:3]
        return self._within(inner, stages, reduction)

    def _within(self, inner: Windows, stages: list[Stage], reduction: str | None) -> Windows | None:
        """Returns windows of one pixel each of other windows as windows of the source."""
        if None not in (inner.reduction, reduction) and inner.reduction != reduction:
            return None
        along = []
        for own, outer, most in zip(
            inner.along, stages, self.sizes[inner.source][1:3], strict=True
        ):
            last = outer.first + (outer.number - 1) * outer.stride
            below = outer.first < 0 and (own.size > 1 or own.first >= own.stride)
            end = own.first + own.number * own.stride
            above = last >= own.number and (own.size > 1 or end < most)
            if below or above:  # of what is outside here, the source has some
                return None
            first = own.first + outer.first * own.stride
            along.append(Stage(first, own.size, own.stride * outer.stride, outer.number))
        return Windows(inner.source, inner.reduction or reduction, tuple(along))

    def _compared(self, inputs: list[Any]) -> list[Any] | None:
        """Returns a and b of where((a ≥ b) or a is NaN, a, b), the larger of both."""
        condition, second, first = inputs if len(inputs) == 3 else [None] * 3
        greater, unequal = self._operands(condition, "or") or (None, None)
        if self._operands(greater, "ge") != [first, second]:
            return None
        return [first, second] if self._operands(unequal, "ne") == [first, first] else None

    def _joined(self, pair: list[Any], reduction: str) -> Windows | None:
        """Returns windows of which two values have a part each."""
        if any(isinstance(name, Constant) or name not in self.sizes for name in pair):
            return None
        one, other = sorted(map(self._of, pair), key=lambda w: [s.first for s in w.along])
        if one.source != other.source or {one.reduction, other.reduction} - {None, reduction}:
            return None
        along = list(one.along)
        differ = [n for n, (a, b) in enumerate(zip(one.along, other.along, strict=True)) if a != b]
        if len(differ) != 1 or not along[differ[0]].number:
            return None
        low, high = along[differ[0]], other.along[differ[0]]
        if high != Stage(low.first + low.size, high.size, low.stride, low.number):
            return None
        along[differ[0]] = low._replace(size=low.size + high.size)
        return Windows(one.source, reduction, tuple(along))

    def _operands(self, name: Any, operation: str) -> list[Any] | None:
        """Returns what an operation makes a value of; None if another one makes it."""
        if isinstance(name, Constant) or name not in self._made:
            return None
        equation, inputs = self._made[name]
        return inputs if equation.primitive.name == operation else None

    def _number(self, name: Any) -> float | None:
        """Returns a scalar that is written in the network."""
        while not isinstance(name, Constant):
            equation, inputs = self._made.get(name, (None, []))
            if equation is None or equation.primitive.name not in walk.SAME:
                return None
            name = inputs[0]
        return float(name.value)


def _reduction(windows: Windows, sizes: tuple[int, ...], replaced: Any) -> Any:
    """Returns the equation of a pooling."""
    pads = []
    for stage, size in zip(windows.along, sizes[1:3], strict=True):
        covered = (stage.number - 1) * stage.stride + stage.size
        pads.append((-stage.first, covered - size + stage.first))
    operation = {"max": lax.max, "sum": lax.add}[windows.reduction or "max"]
    number = NEUTRAL[windows.reduction or "max"]
    window, strides = ([1, *(s[place] for s in windows.along), 1] for place in (1, 2))
    outside = ((0, 0), *pads, (0, 0))

    def pooled(x: jax.Array) -> jax.Array:
        return lax.reduce_window(x, number, operation, window, strides, outside)

    like = jax.ShapeDtypeStruct(sizes, replaced.outvars[0].aval.dtype)
    (equation,) = jax.make_jaxpr(pooled)(like).jaxpr.eqns
    return equation


def _needed(equations: list[Any], outputs: list[Any]) -> list[Any]:
    """Returns the equations that the outputs need."""
    wanted: set[Name] = {name for name in outputs if not isinstance(name, Constant)}
    kept = []
    for equation, inputs, made in reversed(equations):
        if wanted & set(made) or equation.effects:
            kept.append((equation, inputs, made))
            wanted |= {name for name in inputs if not isinstance(name, Constant)}
    return kept[::-1]
