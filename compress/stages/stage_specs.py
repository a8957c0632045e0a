"""The sections of the stages; `compress.spec` has the whole experiment."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, get_args

from compress import distill, share
from compress.quantize import k_means, ranges, ternary_binary
from compress.quantize.activations import RANGES as ACTIVATION_RANGES
from groundwork.errors import UserError, unknown
from groundwork.numerics import checks
from lottery import spec as lottery_spec
from lowrank.spec import DecomposeSpec, Point

METHODS = ("kmeans", "uniform", "ternary", "binary")
INITS = ("fresh", "shrink", "keep")
BEFORE = "before"  # the teacher: the network that the stage was given
LEAST_BITS = {"kmeans": 1, "uniform": 2}
MOST_BITS = 16


@dataclasses.dataclass(frozen=True)
class ShareSpec:
    """`share`: layers that become one; see `compress.share`."""

    groups: tuple[tuple[str, ...], ...]
    values: share.Values

    def __post_init__(self) -> None:
        groups = self.groups
        listed = isinstance(groups, tuple | list) and all(
            isinstance(group, tuple | list) and all(isinstance(path, str) for path in group)
            for group in groups
        )
        if not listed:
            raise UserError(f"share.groups={groups!r} must be groups of paths, as (('a', 'b'),)")
        object.__setattr__(self, "groups", tuple(map(tuple, groups)))
        if self.values not in get_args(share.Values):
            raise unknown("share.values", self.values, get_args(share.Values))


@contextlib.contextmanager
def in_own_words() -> Iterator[None]:
    """What `lowrank` refuses of `decompose` is said of `factorize`."""
    try:
        yield
    except UserError as error:
        text = str(error).replace("decompose.methods", "factorize.method")
        raise UserError(text.replace("decompose.", "factorize.")) from error


@dataclasses.dataclass(frozen=True)
class FactorizeSpec:
    """`factorize`: low-rank layers; the keys are those of `lowrank.spec.DecomposeSpec`."""

    method: str
    ranks: str
    shares: tuple[float, ...]
    measure: str
    leave: tuple[str, ...]
    keep_slow: bool

    def __post_init__(self) -> None:
        with in_own_words():
            _ = self.decompose

    @property
    def decompose(self) -> DecomposeSpec:
        """As `lowrank` has it."""
        own = dataclasses.asdict(self)
        method = own.pop("method")
        return DecomposeSpec(methods=(method,), **own, scratch=False, frobenius_decay=0.0)

    @property
    def settings(self) -> tuple[float, ...]:
        """Shares; (0,) where the rank needs none."""
        return tuple(point.share for point in self.decompose.points)

    def point(self, share: float) -> Point:
        """What `lowrank` calls one of them."""
        return Point(self.method, share)


@dataclasses.dataclass(frozen=True)
class PruneSpec(lottery_spec.PruneSpec):
    """`prune`: as `lottery` has it, to several levels.

    Attributes:
      levels: those from which the pipeline goes on; all up to the last are trained.
      rewind: `start`: to the initial values, then as many steps as the original's; `none`: on
        from where it is, for the steps of fine-tuning.
    """

    levels: tuple[int, ...]
    rewind: str

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = self.levels
        whole = isinstance(levels, tuple | list) and all(type(level) is int for level in levels)
        if not whole or not levels or min(levels) < 1 or len(set(levels)) < len(levels):
            raise UserError(f"prune.levels={levels!r} must be integers from 1, as (8, 12)")
        if self.rewind not in ("start", "none"):
            raise unknown("prune.rewind", self.rewind, ("start", "none"))


@dataclasses.dataclass(frozen=True)
class DistillSpec:
    """`distill`: who teaches whom.

    Attributes:
      teachers: `before` = the network that the stage was given, each replicate its own; others are
        folders of runs, all of whose replicates teach, as `runs/conv4` or `runs/conv4:UNIT`.
      unit: of those that name none.
      temperature, weight, mean: see `compress.distill.make_loss`.
      model: config section of the student; empty: the same architecture.
      init: `fresh`; `shrink`: the units that survived best, where the student is narrower;
        `keep`: the network as it is, of the same architecture.
      during: other stages whose training is to hear the teachers too.
    """

    teachers: tuple[str, ...]
    unit: str
    temperature: float
    weight: float
    mean: distill.Mean
    model: Mapping[str, Any]
    init: str
    during: tuple[str, ...]

    def __post_init__(self) -> None:
        for key in ("teachers", "during"):
            given = getattr(self, key)
            listed = isinstance(given, tuple | list) and all(isinstance(n, str) for n in given)
            if not listed:
                raise UserError(f"distill.{key}={given!r} must be names, as ('before',)")
        if not self.teachers or len(set(self.teachers)) < len(self.teachers):
            raise UserError(f"distill.teachers={self.teachers} must name teachers, each once")
        for key, known in (("init", INITS), ("mean", get_args(distill.Mean))):
            if getattr(self, key) not in known:
                raise unknown(f"distill.{key}", getattr(self, key), known)
        if not 0 <= self.weight <= 1:
            raise UserError(f"distill.weight={self.weight} must be in [0, 1]")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"distill.temperature={self.temperature} must be positive")
        if not isinstance(self.model, Mapping):
            raise UserError(f"distill.model={self.model!r} must be a model section, or empty")
        if self.init == "shrink" and not self.model:
            raise UserError("distill.init='shrink' needs a narrower distill.model to shrink to")
        if self.init == "keep" and self.model:
            raise UserError("distill.init='keep' keeps the network: leave distill.model empty")


@dataclasses.dataclass(frozen=True)
class QuantizeSpec:
    """`quantize`: how weights, and what layers are given, lose bits.

    Attributes:
      method: `kmeans`, `uniform`, `ternary`, `binary`.
      bits: of kernels, one network each; of `ternary` and `binary`, unused.
      layers: pattern (fnmatch) of kernels, as `conv*` → bits of theirs, in place of those.
      mixed: `bits` are the mean over all kept weights, and which layer gets how many is chosen
        from measured losses.
      init: of `kmeans`: `linear`, `density`, `random`.
      symmetric, range: of `uniform`.
      per_channel: of `uniform` and `binary`: a scale for each output.
      scales: of `ternary`.
      stochastic, scaled: of `binary`, see `compress.quantize.binary`.
      fine_tune: train what was quantised; without, it stays as it is.
      other_bits: of biases and BatchNorm's scales, after training; 0 = float32.
      activation_bits: of what layers are given; 0 = float32.
      activation_range: see `compress.quantize.calibrate`.
      gradient_bits: of gradients that come back to layers; 0 = as they are.
    """

    method: str
    bits: tuple[float, ...]
    layers: Mapping[str, int]
    mixed: bool
    init: str
    symmetric: bool
    per_channel: bool
    range: str
    scales: str
    stochastic: bool
    scaled: bool
    fine_tune: bool
    other_bits: int
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
        }
        for key, names in known.items():
            if getattr(self, key) not in names:
                raise unknown(f"quantize.{key}", getattr(self, key), names)
        if self.mixed and self.method not in LEAST_BITS:
            raise UserError("quantize.mixed chooses bits of kmeans or uniform alone")
        if self.method in LEAST_BITS:
            self._check_bits()
        for key, least in (("other_bits", 2), ("activation_bits", 2), ("gradient_bits", 1)):
            _check_width(f"quantize.{key}", getattr(self, key), least, none=True)

    def _check_bits(self) -> None:
        least = LEAST_BITS[self.method]
        listed = isinstance(self.bits, tuple | list) and self.bits
        if not listed or not all(type(bits) in (int, float) for bits in self.bits):
            raise UserError(f"quantize.bits={self.bits!r} must be numbers, as (4, 5)")
        if len({f"{bits:g}" for bits in self.bits}) < len(self.bits):
            raise UserError(f"quantize.bits={self.bits} must name each number once")
        for bits in self.bits:
            if self.mixed:
                if not least <= bits <= 8:
                    raise UserError(f"quantize.bits: a mean of {bits} is outside {least}…8")
            else:
                _check_width("quantize.bits", bits, least)
        if not isinstance(self.layers, Mapping):
            raise UserError(f"quantize.layers={self.layers!r} must say pattern: bits")
        for pattern, bits in self.layers.items():
            _check_width(f"quantize.layers of {pattern!r}", bits, least)

    @property
    def settings(self) -> tuple[float, ...]:
        """Bits; (0,) where the method has its own."""
        return tuple(self.bits) if self.method in LEAST_BITS else (0,)

    def matches(self, pattern: str, path: str) -> bool:
        """Does a pattern of `layers` name a kernel, by its path or its layer's?"""
        return any(fnmatchcase(name, pattern) for name in (path.rpartition("/")[0], path))

    def fixed(self, path: str) -> int | None:
        """The bits that `layers` gives a kernel, by the longest pattern that matches."""
        matching = [pattern for pattern in self.layers if self.matches(pattern, path)]
        return self.layers[max(matching, key=lambda p: (len(p), p))] if matching else None


def _check_width(name: str, bits: Any, least: int, none: bool = False) -> None:
    if none and type(bits) is int and bits == 0:
        return
    try:
        checks.bits(bits, least, MOST_BITS)
    except ValueError as error:
        raise UserError(f"{name}: {error}" + (" (0 = none)" if none else "")) from error
