"""Who multiplies matrices in `benchmarks.dense`: XLA, oneDNN, numpy's BLAS and PyTorch."""

# M K N sizes of a product [M, K] × [K, N]

import functools
import itertools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

COPIES = 8  # of the left operand, so that no product can be left out
Once = Callable[[], None]  # computes `COPIES` products


class Sizes(NamedTuple):
    """Of a product; an operand that is turned lies in memory as [K, M], or [N, K]."""

    rows: int
    inner: int
    columns: int
    turned: tuple[bool, bool] = (False, False)

    @property
    def multiply_adds(self) -> int:
        return self.rows * self.inner * self.columns


def layers(batch: int, *widths: int) -> list[Sizes]:
    """Returns the products of a training step of dense layers: forward, weights' and inputs'."""
    made = []
    for place, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        made += [Sizes(batch, inputs, outputs), Sizes(inputs, batch, outputs, (True, False))]
        made += [Sizes(batch, outputs, inputs, (False, True))] if place else []
    return made


PRODUCTS = {
    "LeNet-300-100, batch 128": layers(128, 784, 300, 100, 10),
    "512³": [Sizes(512, 512, 512)],
}


def make(network: str, batch: int, by: str, dtype: str) -> tuple[Callable[[str, int], None], None]:
    """Returns (place of a product in `PRODUCTS[network]`, repeats) → None.

    Args:
      network: of `PRODUCTS`.
      batch: is not read.
      by: `xla`, `onednn`, `numpy` or `torch`.
      dtype: `float32` or `bfloat16`.
    """
    makers = {"numpy": _numpy, "torch": _torch}
    maker = makers.get(by) or functools.partial(_jax, by)
    calls = [maker(sizes, dtype) for sizes in PRODUCTS[network]]

    def run(what: str, repeats: int) -> None:
        for _ in range(repeats):
            calls[int(what)]()

    return run, None


def _operands(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Returns left operands [COPIES, …] and a right one, as they lie in memory."""
    random = np.random.default_rng(0)
    shapes = (sizes.rows, sizes.inner), (sizes.inner, sizes.columns)
    left, right = (
        shape[::-1] if turned else shape for shape, turned in zip(shapes, sizes.turned, strict=True)
    )
    return (
        random.normal(size=(COPIES, *left)).astype(np.float32),
        random.normal(size=right).astype(np.float32),
    )


def _numpy(sizes: Sizes, dtype: str) -> Once:
    assert dtype == "float32", "numpy has no bfloat16"
    lefts, right = _operands(sizes)
    right = right.T if sizes.turned[1] else right
    out = np.empty((sizes.rows, sizes.columns), np.float32)

    def once() -> None:
        for left in lefts:
            np.matmul(left.T if sizes.turned[0] else left, right, out=out)

    return once


def _torch(sizes: Sizes, dtype: str) -> Once:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    kind = getattr(torch, dtype)
    lefts, right = (torch.from_numpy(x).to(kind) for x in _operands(sizes))
    right = right.t() if sizes.turned[1] else right
    out = torch.empty((sizes.rows, sizes.columns), dtype=kind)

    def once() -> None:
        for left in lefts:
            torch.mm(left.t() if sizes.turned[0] else left, right, out=out)

    return once


def _jax(by: str, sizes: Sizes, dtype: str) -> Once:
    import jax
    import jax.numpy as jnp

    from groundwork.architectures.cpu import library, products

    assert library.load() is not None, "oneDNN is not built: make cpu"
    axes = (0 if sizes.turned[0] else 1,), (1 if sizes.turned[1] else 0,)
    shape = jax.ShapeDtypeStruct((sizes.rows, sizes.columns), dtype)
    bits = shape.dtype.itemsize * 8
    one = products.Product((bits, bits), 1, sizes[:3], sizes.turned)
    call = jax.ffi.ffi_call(products.TARGET, shape)

    def multiply(left: Any, right: Any) -> Any:
        if by == "onednn":
            return call(left, right, descriptor=one.descriptor())
        return jax.lax.dot_general(left, right, (axes, ((), ())))

    @jax.jit
    def all_of(lefts: Any, right: Any) -> Any:
        begun = jnp.zeros(shape.shape, dtype)
        return jax.lax.scan(lambda _, left: (multiply(left, right), None), begun, lefts)[0]

    products.LEAST = products.LEAST if by == "onednn" else 1 << 62  # XLA's own products
    lefts, right = (jnp.asarray(x, dtype) for x in _operands(sizes))
    return lambda: all_of(lefts, right).block_until_ready()
