"""The section `quantize` of a config: how weights, and inputs of layers, lose bits."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

from compress.quantize import k_means, ranges, ternary_binary
from compress.quantize.activations import RANGES as ACTIVATION_RANGES
from compress.stages import rate
from compress.stages.bits import LEAST_BITS
from compress.stages.latent import METHODS, Settings
from groundwork.errors import UserError, unknown
from groundwork.numerics import checks

MOST_BITS = 16
CORRECTIONS = ("none", "empirical")


@dataclasses.dataclass(frozen=True)
class QuantizeSpec(Settings):
    """`quantize`: how weights, and inputs of layers, lose bits; see `latent.Settings`, too.

    Attributes:
      bits: of kernels, with one network for each number; `ternary` and `binary` do not use them.
      layers: a pattern (fnmatch) of kernels, such as `conv*` → bits that they have instead.
      mixed: whether `bits` are the mean over all kept weights, and measured losses choose the bits
        of each layer.
      rate: of `kmeans`: what a bit of the file costs, in the mean square of a kernel's kept
        weights; 0 = nothing. See `compress.quantize.rate_distortion`.
      rate_importance: `gradients`: an error counts by the mean squared gradient of its weight, and
        a bit by the mean of that times the square of all kept weights; `none`: errors count alike.
      rate_rounds: how often weights are assigned, each time before a fine-tuning of its own. After
        the first, weights have moved as their values have; see `rate.again`. Each is a network.
      fine_tune: whether the quantised network is trained.
      bias_correction: `empirical`: without training, biases are moved by the mean error that
        rounded weights make on training examples; see `quantize.data_free.correct`. `none`: no.
      activation_bits: of the inputs of layers; 0 = float32.
      activation_range: see `compress.quantize.calibrate`.
      gradient_bits: of the gradients of layers' outputs; 0 = float32.
    """

    bits: Annotated[tuple[int | float, ...], "numbers, such as (4, 5)"]
    layers: Annotated[Mapping[str, int], "patterns with their bits, such as {'conv*': 6}"]
    mixed: bool
    rate: float
    rate_importance: str
    rate_rounds: int
    fine_tune: bool
    bias_correction: str
    activation_bits: int
    activation_range: str
    gradient_bits: int

    def __post_init__(self) -> None:
        known = {
            "method": METHODS,
            "init": k_means.INITS,
            "range": ranges.RANGES,
            "scales": ternary_binary.SCALES,
            "activation_range": ACTIVATION_RANGES,
            "bias_correction": CORRECTIONS,
            "rate_importance": rate.IMPORTANCES,
        }
        for key, names in known.items():
            if getattr(self, key) not in names:
                raise unknown(f"quantize.{key}", getattr(self, key), names)
        if self.corrects and self.fine_tune:
            raise UserError(
                f"quantize.bias_correction={self.bias_correction} is for networks that are not "
                "trained: set quantize.fine_tune=False"
            )
        if self.mixed and self.method not in LEAST_BITS:
            raise UserError("quantize.mixed chooses bits of kmeans or uniform alone")
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise UserError(f"quantize.rate={self.rate} must be a number from 0 on")
        if self.rate and self.method != "kmeans":
            raise UserError(f"quantize.rate is of method='kmeans': set it to 0 for {self.method}")
        if self.rate_rounds < 1:
            raise UserError(f"quantize.rate_rounds={self.rate_rounds} must be at least 1")
        if self.method in LEAST_BITS:
            self._check_bits()
        for key, least in (("other_bits", 2), ("activation_bits", 2), ("gradient_bits", 1)):
            _check_width(f"quantize.{key}", getattr(self, key), least, none=True)

    @property
    def corrects(self) -> bool:
        """Whether biases are moved."""
        return self.bias_correction != "none"

    @property
    def weighs(self) -> bool:
        """Whether errors count by gradients."""
        return self.rate > 0 and self.rate_importance == "gradients"

    def _check_bits(self) -> None:
        least = LEAST_BITS[self.method]
        if not self.bits:
            raise UserError(f"quantize.bits={self.bits!r} must be numbers, such as (4, 5)")
        if len({f"{bits:g}" for bits in self.bits}) < len(self.bits):
            raise UserError(f"quantize.bits={self.bits} must name each number once")
        for bits in self.bits:
            if self.mixed:
                if not least <= bits <= 8:
                    raise UserError(f"quantize.bits: a mean of {bits} is outside {least}…8")
            else:
                _check_width("quantize.bits", bits, least)
        for pattern, bits in self.layers.items():
            _check_width(f"quantize.layers of {pattern!r}", bits, least)

    def fixed(self, paths: Sequence[str]) -> dict[str, int]:
        """Returns path → bits of the kernels that `layers` names.

        If several patterns match a kernel, the longest counts.

        Raises:
          UserError: a pattern matches none of the paths.
        """
        for pattern in self.layers:
            if not any(_matches(pattern, path) for path in paths):
                listed = ", ".join(paths)
                raise UserError(f"quantize.layers: {pattern!r} matches none of {listed}")
        fixed = {}
        for path in paths:
            if matching := [pattern for pattern in self.layers if _matches(pattern, path)]:
                fixed[path] = self.layers[max(matching, key=lambda p: (len(p), p))]
        return fixed


def _matches(pattern: str, path: str) -> bool:
    """Returns whether a pattern matches the path of a kernel, or of its layer."""
    return any(fnmatchcase(name, pattern) for name in (path.rpartition("/")[0], path))


def _check_width(name: str, bits: Any, least: int, none: bool = False) -> None:
    if none and type(bits) is int and bits == 0:
        return
    try:
        checks.bits(bits, least, MOST_BITS)
    except ValueError as error:
        raise UserError(f"{name}: {error}" + (" (0 = none)" if none else "")) from error
