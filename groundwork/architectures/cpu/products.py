"""Products of matrices on the CPU: what `jax.lax.dot_general` becomes there.

XLA computes products of bfloat16 as float32 ones, after it has converted both operands. Where the
CPU multiplies bfloat16 itself (AVX-512 BF16, AMX), oneDNN computes them, accumulated in float32.
Everything else, float32 above all, stays XLA's: `python -m benchmarks.dense` compares them.

Traces, gradients and other platforms know nothing of it: only the CPU's lowering differs. So it
holds for the products of any network, batched ones (of `jax.vmap`) included, if batch dimensions
come first; others, as in Flax's attention, and what is exported, stay XLA's.
"""

# G pairs of matrices, M K N their sizes

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.interpreters import mlir

from groundwork.architectures.cpu import library

TARGET = "architectures_product"
LEAST = 1 << 20  # multiply-adds of a product for which it pays to wake oneDNN's threads
Numbers = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]


class Product(NamedTuple):
    """[G, M, K] × [G, K, N] → [G, M, N].

    Attributes:
      bits: of the operands, and of the result.
      pairs: G.
      sizes: M, K, N.
      turned: whether the left operand lies in memory as [G, K, M], and the right one as [G, N, K].
    """

    bits: tuple[int, int]
    pairs: int
    sizes: tuple[int, int, int]
    turned: tuple[bool, bool]

    def descriptor(self) -> np.ndarray:
        """Returns the fields as `product.h` reads them."""
        return np.array([*self.bits, self.pairs, *self.sizes, *self.turned], np.int64)


def product(left: Any, right: Any, result: Any, numbers: Numbers) -> Product | None:
    """Returns what a `dot_general` computes as a product of matrices.

    Args:
      left: its operands and its result, with shapes and types.
      right: see `left`.
      result: see `left`.
      numbers: its dimension numbers.

    Returns:
      None if dimensions have to be moved for that, or if a size is 0 or unknown.
    """
    contracting, batched = numbers
    first = [tuple(range(len(batch))) for batch in batched]
    if [tuple(batch) for batch in batched] != first:
        return None
    sides = [
        _split(side, len(first[0]), tuple(inner))
        for side, inner in zip((left, right), contracting, strict=True)
    ]
    if None in sides:
        return None
    (pairs, rows, inner, free_last), (_, columns, _, right_free_last) = sides  # type: ignore[misc]
    if not all(isinstance(size, int) and size for size in (pairs, rows, inner, columns)):
        return None
    bits = (left.dtype.itemsize * 8, result.dtype.itemsize * 8)
    return Product(bits, pairs, (rows, inner, columns), (free_last, not right_free_last))


def _split(side: Any, batched: int, inner: tuple[int, ...]) -> tuple[int, int, int, bool] | None:
    """Returns sizes of batch, free and contracted dimensions, and whether the free ones are last.

    It is None if the contracted dimensions do not lie together, in order, at one of both ends.
    """
    rest, count = tuple(range(batched, side.ndim)), len(inner)
    if inner not in (rest[:count], rest[len(rest) - count :]) or not all(
        isinstance(size, int) for size in side.shape
    ):
        return None
    free_last = inner == rest[:count]
    free = rest[count:] if free_last else rest[: len(rest) - count]
    sizes = [math.prod(side.shape[axis] for axis in axes) for axes in (range(batched), free, inner)]
    return (*sizes, free_last)


def is_onednns(one: Product) -> bool:
    """Does oneDNN compute this product, in this process?"""
    is_large = one.pairs * math.prod(one.sizes) >= LEAST
    return is_large and has_bfloat16() and library.product(tuple(one.descriptor().tolist()))


def has_bfloat16() -> bool:
    """Does oneDNN compute here, with instructions that multiply bfloat16?"""
    return library.load() is not None and library.multiplies_bfloat16()


def lowered_over(default: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a rule that lowers `dot_general` on the CPU.

    Args:
      default: JAX's own rule.
    """

    def rule(context: Any, left: Any, right: Any, **params: Any) -> Any:
        (first, second), (result,) = context.avals_in, context.avals_out
        one = None
        # what is exported runs on other machines, which know no call of ours
        exported = context.module_context.lowering_parameters.for_export
        if not exported and _is_bfloat16(first, second, result) and _is_whole(context):
            one = product(first, second, result, params["dimension_numbers"])
        if one is None or not is_onednns(one):
            return default(context, left, right, **params)
        call = jax.ffi.ffi_lowering(TARGET)
        return call(context, left, right, descriptor=one.descriptor())

    return rule


def _is_bfloat16(left: Any, right: Any, result: Any) -> bool:
    types = [str(aval.dtype) for aval in (left, right, result)]
    return types[:2] == ["bfloat16"] * 2 and types[2] in ("bfloat16", "float32")


def _is_whole(context: Any) -> bool:
    """Does each device compute all of it? XLA divides its own products, but no foreign calls."""
    around = context.module_context.axis_context
    explicit = itertools.chain(*(aval.sharding.spec for aval in context.avals_in))
    return getattr(around, "num_devices", 1) in (None, 1) and not set(explicit) - {None}


def register() -> None:
    """Tell JAX how to lower `dot_general` on the CPU; once is enough."""
    rules = getattr(mlir, "_platform_specific_lowerings", {}).get("cpu", {})
    entry = rules.get(lax.dot_general_p)
    if entry is None:
        print("products of bfloat16 on the CPU: by XLA, with this version of JAX", file=sys.stderr)
        return
    mlir.register_lowering(lax.dot_general_p, lowered_over(entry.rule), platform="cpu")
