"""By how much the loss grows when one layer alone is changed. Read `measure`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import form as form_lib
from compress import quantize
from compress.form import Form
from compress.search import change, settings
from compress.search.evaluation import Evaluate, Measured, evaluation, increases, mean
from compress.search.options import Space
from compress.search.original import Original
from compress.search.settings import AS_IT_IS, Setting
from groundwork import trees
from groundwork.traced import override
from groundwork.traced.override import Override
from groundwork.traced.products import Layer
from groundwork.trees import Variables

EXAMPLES = 512  # of training, with which losses are measured


class Sensitivities(NamedTuple):
    """What was measured.

    Attributes:
      plain: of the network as it is.
      rows: layer → setting → by how much it gets worse.
      examples: with which it was measured.
    """

    plain: Measured
    rows: Mapping[str, Mapping[Setting, Measured]]
    examples: int

    def of(self, layer: str, setting: Setting) -> Measured:
        """Returns by how much a network gets worse.

        Of a setting that was not measured, it is the sum of its parts: the form, the weights, and
        the inputs.

        Raises:
          KeyError: a part was not measured.
        """
        row = self.rows[layer]
        if setting in row:
            return row[setting]
        parts = [row[part] for part in parts_of(setting)]
        return Measured(sum(p.loss for p in parts), sum(p.accuracy for p in parts))

    def to_json(self) -> dict[str, Any]:
        """Returns them as JSON keeps them."""
        return {
            "plain": list(self.plain),
            "examples": self.examples,
            "rows": {
                layer: [[setting.to_json(), *measured] for setting, measured in row.items()]
                for layer, row in self.rows.items()
            },
        }

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> "Sensitivities":
        """Returns those of what `to_json` gave."""
        return Sensitivities(
            Measured(*saved["plain"]),
            {
                layer: {settings.setting(one): Measured(*rest) for one, *rest in row}
                for layer, row in saved["rows"].items()
            },
            saved["examples"],
        )


def parts_of(setting: Setting) -> list[Setting]:
    """Returns what is measured of a setting: its form, its weights, and its inputs, as they are."""
    parts = [
        Setting(units=setting.units),
        Setting(method=setting.method, rank=setting.rank),
        Setting(density=setting.density, bits=setting.bits),
        Setting(activation_bits=setting.activation_bits),
    ]
    return [part for part in parts if part != AS_IT_IS] or [AS_IT_IS]


def measure(
    original: Original,
    space: Space,
    examples: int = EXAMPLES,
    criterion: str = "l2",
    known: Sensitivities | None = None,
    after: Callable[[str, Sensitivities], None] = lambda layer, so_far: None,
) -> Sensitivities:
    """Returns by how much the loss on training examples grows for each layer and option alone.

    Nothing is trained; `change` says what makes up for what goes. Every form of a layer is
    measured, every pair of a density and a number of bits, and every number of its inputs' bits.
    That these add up, and those of the layers, is the additive model of `analytic`.

    Args:
      original: the network.
      space: whose options are measured.
      examples: of training, the first ones.
      criterion: what ranks units.
      known: what was measured before, of the same network, and is not measured again.
      after: is called when a layer has been measured, with all that is known by then.

    Raises:
      UserError: the examples are not in memory.
    """
    programs = _Programs(original, space, examples)
    plain = programs.plain if known is None else known.plain
    rows = {} if known is None else {layer: dict(row) for layer, row in known.rows.items()}
    for layer, options in space.options.items():
        row = rows.setdefault(layer, {AS_IT_IS: Measured(0.0, 0.0)})
        wanted = dict.fromkeys(part for option in options for part in parts_of(option))
        new = [setting for setting in wanted if setting not in row]
        changes = {
            setting: functools.partial(
                change.changed, layer=layer, setting=setting, criterion=criterion
            )
            for setting in new
            if not setting.activation_bits
        }
        found = increases(lambda tree: programs.evaluate(tree), original.replicates, changes, plain)
        found |= {
            setting: programs.rounded(layer, setting.activation_bits)
            for setting in new
            if setting.activation_bits
        }
        sign = -original.loss.metric.sign  # more is worse
        row |= {one: Measured(by.loss, sign * by.accuracy) for one, by in found.items()}
        after(layer, Sensitivities(plain, rows, examples))
    return Sensitivities(plain, rows, examples)


class _Programs:
    """The compiled evaluations of a network: as it is, and with layers that round their inputs."""

    def __init__(self, original: Original, space: Space, examples: int) -> None:
        self._original, self._examples = original, examples
        self._paths = tuple(
            layer
            for layer, options in space.options.items()
            if any(option.activation_bits for option in options)
        )

    @functools.cached_property
    def evaluate(self) -> Evaluate:
        """Evaluates variables of one replicate."""
        original = self._original
        return evaluation(original.model.apply, original.dataset, self._examples, original.loss)

    @functools.cached_property
    def plain(self) -> Measured:
        """The mean of the network as it is."""
        return mean(self.evaluate(one.variables) for one in self._original.replicates)

    def rounded(self, layer: str, bits: int) -> Measured:
        """Returns by how much the loss and the metric grow when a layer's inputs are rounded."""
        none, replicates = self._none, self._original.replicates
        found = mean(
            self._evaluate(
                one.variables, {**none, layer: _rounding(self._original, one, layer, bits)}
            )
            for one in replicates
        )
        return found - self._plain

    @functools.cached_property
    def _none(self) -> dict[str, "_Rounding"]:
        return {path: _Rounding.none() for path in self._paths}

    @functools.cached_property
    def _evaluate(self) -> Callable[..., Measured]:
        original = self._original
        apply = functools.partial(_with_rounded_inputs, original.model, self._paths)
        return evaluation(apply, original.dataset, self._examples, original.loss)

    @functools.cached_property
    def _plain(self) -> Measured:
        each = self._original.replicates
        return mean(self._evaluate(one.variables, self._none) for one in each)


class _Rounding(NamedTuple):
    """How the inputs of a layer are rounded."""

    on: jax.Array  # [] bool
    grid: quantize.Grid

    @staticmethod
    def none() -> "_Rounding":
        """Returns one that changes nothing."""
        zero = jnp.int32(0)
        return _Rounding(jnp.array(False), quantize.Grid(jnp.ones(()), zero, zero, zero))


def _rounding(original: Original, one: Any, layer: str, bits: int) -> _Rounding:
    form = Form(original.model)
    grids = form_lib.calibrated(form, one.variables, original.inputs, {layer: bits})
    return _Rounding(jnp.array(True), form_lib.grid(trees.flatten(grids), layer, bits))


def _with_rounded_inputs(
    model: Any,
    paths: tuple[str, ...],
    variables: Variables,
    inputs: Any,
    roundings: Any,
    **how: Any,
) -> Any:
    """Returns the outputs of a network some of whose layers round their inputs."""

    def of(rounding: _Rounding) -> Override:
        def compute(layer: Layer, kernel: Any, given: jax.Array) -> jax.Array:
            rounded = quantize.fake_quantize(given, rounding.grid)
            return override.compute(layer, kernel, jnp.where(rounding.on, rounded, given))

        return Override(compute)

    chosen = {path: of(roundings[path]) for path in paths}
    return override.override(model, chosen)(variables, inputs, **how)
