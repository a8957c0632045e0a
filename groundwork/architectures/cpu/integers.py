"""Networks of 8-bit integers, computed by one call: see `integers.h`. Read `Network`, then `run`.

Values are codes: (code − zero) × scale is the number. Those of 8 bits are uint8, wide ones int32.
All of it is integer arithmetic: products are added in 32 bits, and a fixed-point factor, rounded
once and exactly, brings a sum to its range. So results have the same bits on any number of threads,
by each kind of instructions, and by `jax.lax`. oneDNN's own kernels of integers scale their sums as
floats, which rounds otherwise, so the products here are ours.

The CPU needs AVX-512BW; with VNNI, products are those of bytes. Elsewhere (with AVX2 alone, where
products of bytes by vpmaddubsw saturate, on GPU and TPU, and where nothing is compiled) `jax.lax`
computes the same integers, slowly.
"""

# N batch, H W image, C O channels in and out

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.architectures.cpu import integers_lax, integers_packed, library
from groundwork.architectures.cpu.integers_nodes import BITS, FLOAT, Network, Weights

PACKED = "packed"
WITHOUT_VNNI = (1, 3)  # forms for every CPU with AVX-512BW


class Prepared(NamedTuple):
    """A network, and how its weights lie in the arrays that `run` takes."""

    network: Network
    form: int  # of the products, see integers_kernels.h; 0 is `jax.lax`
    program: np.ndarray  # [fields] int64


def prepared(
    network: Network, weights: Sequence[Weights], form: int | None = None
) -> tuple[Prepared, dict[str, Any]]:
    """Returns a network that `run` takes, and its arrays.

    Args:
      network: what is computed.
      weights: of each node its arrays; see `integers_nodes`.
      form: of the products; by default the fastest one that this machine has.

    Raises:
      ValueError: the machine has no such form.
    """
    form = fastest() if form is None else form
    best = fastest()
    if form not in (0, best, *(WITHOUT_VNNI if best else ())):
        raise ValueError(
            f"products of form {form}: they are not compiled here, or the CPU lacks instructions"
        )
    if not form:
        arrays = {
            f"{place}/{name}": jnp.asarray(array)
            for place, own in enumerate(weights)
            for name, array in own.items()
        }
        return Prepared(network, 0, np.zeros(0, np.int64)), arrays
    program, packed = integers_packed.packed(network, weights, form)
    return Prepared(network, form, program), {PACKED: jnp.asarray(packed)}


def run(
    prepared: Prepared, arrays: Mapping[str, jax.Array], given: Sequence[jax.Array]
) -> list[jax.Array]:
    """Returns the results of a network, [N, H, W, C] uint8 or int32.

    Args:
      prepared: the network.
      arrays: that belong to it.
      given: the first values, [N, …] float32 or uint8.

    Raises:
      ValueError: arrays are those of another machine.
    """
    network = prepared.network
    if (PACKED in arrays) != bool(prepared.form):
        raise ValueError("these arrays were packed for another machine: load the file here")
    images = [
        array.reshape(len(array), *network.values[place][:3]) for place, array in enumerate(given)
    ]
    if not prepared.form:
        own: list[dict[str, jax.Array]] = [{} for _ in network.nodes]
        for path, array in arrays.items():
            place, _, name = path.partition("/")
            own[int(place)][name] = array
        return integers_lax.run(network, own, images)
    count = len(images[0])
    shapes = [
        jax.ShapeDtypeStruct((count, *network.values[v][:3]), BITS[network.values[v][3]])
        for v in network.results
    ]
    dtypes = [BITS[network.values[place][3]] for place in range(network.given)]
    floats = [array.astype(dtype) for array, dtype in zip(images, dtypes, strict=True)]
    call = jax.ffi.ffi_call("architectures_integers", shapes, vmap_method="sequential")
    program = prepared.program
    return list(call(arrays[PACKED], *floats, program=program, batch=np.int64(count)))


def fastest() -> int:
    """Returns the form in which this machine multiplies integers fastest; 0 is by `jax.lax`."""
    if jax.default_backend() != "cpu":
        return 0
    loaded = library.load()
    return 0 if loaded is None else int(loaded.architectures_integer_form())


__all__ = ["FLOAT", "Network", "Prepared", "fastest", "prepared", "run"]
