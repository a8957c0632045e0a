"""Convolutions whose scratch memory stays within a budget: which form each one takes.

Scratch is what a layer needs while it computes, beside weights, inputs and outputs. The first form
that fits is taken, in the order of speed that `benchmarks/convolution_memory.py` measures.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax

from groundwork.architectures import unfolded
from groundwork.architectures.cpu import chain as chain_lib
from groundwork.architectures.cpu import lowering
from groundwork.architectures.cpu.chain import FORMS, Chain
from groundwork.architectures.cpu.geometry import Geometry
from groundwork.traced import network
from groundwork.traced.predictions.flat import Constant, Flat, Name

BY_ONEDNN = ("direct", "mec", "im2col")  # the fastest one first
BY_XLA = ("direct", "im2col", "mec")


def names(flat: Flat, paths: Sequence[str]) -> dict[Name, str]:
    """Returns for each value that is made of parameters the layer that has the first of them.

    Args:
      flat: what a network computes.
      paths: of the parameters, which are its first arguments.
    """
    found = {
        name: network.layer_path(path.removeprefix("params/"))
        for name, path in zip(flat.inputs, paths, strict=False)
    }
    for _, inputs, outputs in flat.equations:
        own = [found[n] for n in inputs if not isinstance(n, Constant) and n in found]
        found |= dict.fromkeys(outputs, own[0]) if own else {}
    return found


def layer_of(layers: Mapping[Name, str], kernel: Name | Constant) -> str:
    """Returns the layer of a kernel, for errors: see `names`."""
    return "of a constant" if isinstance(kernel, Constant) else layers.get(kernel, "of two inputs")


def form(chain: Chain, most: int, layer: str) -> int:
    """Returns the place in `FORMS` of what oneDNN computes a convolution by.

    Args:
      chain: of the convolution alone, without a form.
      most: bytes of scratch memory.
      layer: its path, for errors.

    Raises:
      ValueError: no form fits.
    """
    (node,), needed = chain.nodes, dict[str, int]()
    for name in BY_ONEDNN:
        place = FORMS.index(name)
        one = chain._replace(nodes=(node._replace(fields=(*node.fields, place)),))
        if chain_lib.implementations(one)[0].startswith("ref"):
            continue
        needed[name] = chain_lib.scratch_bytes(one)[0]
        if needed[name] <= most:
            return place
    raise refusal(layer, most, needed)


def by_xla(geometry: Geometry, dtype: str) -> Mapping[str, int]:
    """Returns the bytes of scratch memory of each form, as XLA computes it on the CPU.

    Of im2col and MEC they are those of XLA's program: their matrices, and copies that it makes. Of
    its own convolution XLA does not say them; they count as a matrix of all windows of all images,
    and a copy of the kernel, which it stays below (measured, see docs/speed.md), and what
    conversions of narrower numbers take.
    """
    return _by_xla(geometry, dtype)


@functools.lru_cache(maxsize=1024)
def _by_xla(geometry: Geometry, dtype: str) -> dict[str, int]:
    shapes = [jax.ShapeDtypeStruct(geometry.shape(role), dtype) for role in ("input", "kernel")]
    every = geometry.input[0] * geometry.groups * geometry.kernel[2] * geometry.output[1]
    windows = every * geometry.output[2] * geometry.kernel[0] * geometry.kernel[1]
    width = shapes[0].dtype.itemsize
    width = max(width, 4)  # narrower numbers are computed in float32
    needed = {"direct": (windows + shapes[1].size) * width}
    for name in BY_XLA:
        compiled = jax.jit(compute(name, geometry)).lower(*shapes).compile()
        memory = compiled.memory_analysis()
        assert memory is not None
        needed[name] = needed.get(name, 0) + memory.temp_size_in_bytes
    return needed


def compute(form: str, geometry: Geometry) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns (images, kernel) → outputs, by a form of `BY_XLA`."""
    if form == "direct":
        return functools.partial(lowering.by_lax, role="output", geometry=geometry)
    by = {"im2col": unfolded.by_im2col, "mec": unfolded.by_mec}[form]
    return functools.partial(by, geometry)


def refusal(layer: str, most: int, needed: Mapping[str, int]) -> ValueError:
    """Returns the error about a layer whose forms need so many bytes each."""
    least = min(needed, key=lambda name: needed[name])
    return ValueError(
        f"compute_memory={most} is too little: the convolution {layer!r} needs at least "
        f"{needed[least]} bytes of scratch memory ({least})"
    )
