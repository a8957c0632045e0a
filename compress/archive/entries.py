"""The description of one array in an archive's header, and its checks. Read `Entry` first."""

# N entries of the array

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float16", "bfloat16", "float32", "float64"),
)
FORMS = ("plain", "palette", "scaled")
LEVELS = 1 << 16  # all symbols are below it
ADAPTIVE = 0  # the group that stands for `compress.coding.adaptive`
_AXES = 32  # the most of an array


@dataclasses.dataclass(frozen=True)
class Entry:
    """How one array is stored. Fields that equal their default are left out of the header.

    Attributes:
      shape: of the array, in C order.
      dtype: one of `DTYPES`.
      form: `plain`: the numbers as they are; `palette`: symbol s means entry s of a codebook;
        `scaled`: symbol s means (s + lowest) × the scale of its channel.
      held: the dtype that the numbers (of the codebook, the scales) have in the file; `dtype` if it
        is empty.
      bits: 0 if every entry of the array is stored. Otherwise gaps of this many bits name the
        entries that are stored (`compress.coding.sparse`), and the others are zero. With group 0 it
        is 1 if an entry is zero, and 0 if none is.
      group: this many symbols are coded as one, the number with these digits in the base `levels`,
        the lowest digit first. The base of a palette is its size, with zero counted where the
        codebook leaves it out. 0: the symbols are coded by `compress.coding.adaptive`.
      lowest: of `scaled`, the integer that symbol 0 means.
      levels: of `scaled`, the number of integers.
      axis: of `scaled`, the axis whose indices each have a scale; −1 for one scale in all.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    form: str = "plain"
    held: str = ""
    bits: int = 0
    group: int = 1
    lowest: int = 0
    levels: int = 0
    axis: int = -1

    @property
    def size(self) -> int:
        """N."""
        return math.prod(self.shape)

    @property
    def stored(self) -> str:
        """The dtype of the numbers in the file."""
        return self.held or self.dtype

    @property
    def adaptive(self) -> bool:
        """Whether the symbols are coded by what is near them."""
        return self.group == ADAPTIVE

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the array's streams hold, in their order."""
        index = ("index",) if self.bits and not self.adaptive else ()
        return index if self.form == "plain" else ("codebook", *index, "weights")

    def to_json(self) -> dict[str, Any]:
        """Returns the header's object for the entry."""
        fields = dataclasses.asdict(self)
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
            if value != defaults[name]
        }


def from_json(given: Any) -> Entry:
    """Returns the entry of a header's object.

    Raises:
      ValueError: `to_json` cannot have given it.
    """
    kinds = {"shape": list, "dtype": str, "form": str, "held": str}
    known = {field.name for field in dataclasses.fields(Entry)}
    if not isinstance(given, dict) or "shape" not in given or not given.keys() <= known:
        raise ValueError("it is not an entry")
    for name, value in given.items():
        if type(value) is not kinds.get(name, int):
            raise ValueError(f"{name} is a {type(value).__name__}")
    if len(given["shape"]) > _AXES or not all(map(_is_length, given["shape"])):
        raise ValueError("its shape is invalid")
    entry = Entry(**{**given, "shape": tuple(given["shape"])})
    if entry.dtype not in DTYPES or entry.form not in FORMS:
        raise ValueError("its dtype or form is unknown")
    _check_numbers(entry)
    return entry


def is_float(dtype: str) -> bool:
    """Returns whether a dtype is one of floats, as bfloat16 is."""
    return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)


def _check_numbers(entry: Entry) -> None:
    if entry.held and not (
        entry.held in DTYPES
        and is_float(entry.held)
        and is_float(entry.dtype)
        and jnp.dtype(entry.held).itemsize < jnp.dtype(entry.dtype).itemsize
    ):
        raise ValueError(f"{entry.dtype} is not held as {entry.held[:20]!r}")
    scaled = entry.form == "scaled"
    if scaled and entry.dtype not in ("float32", "float64"):
        raise ValueError(f"{entry.dtype} is not scaled")
    within = {
        "bits": (0, 1 if entry.adaptive else 16),
        "group": (1, 1) if entry.form == "plain" else (ADAPTIVE, 16),
        "lowest": (-2 * LEVELS, 2 * LEVELS) if scaled else (0, 0),
        "levels": (1, LEVELS) if scaled else (0, 0),
        "axis": (-1, len(entry.shape) - 1 if scaled else -1),
    }
    for name, (least, most) in within.items():
        if not least <= getattr(entry, name) <= most:
            raise ValueError(f"{name} is not within {least}…{most}")
    if scaled and entry.bits and not 0 <= -entry.lowest < entry.levels:
        raise ValueError("zero is not among its integers")


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 40
