"""ncnn's files as functions of numpy arrays. It needs numpy and ncnn alone."""

# B batch, H W image, C channels

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ncnn
import numpy as np

from deploy.runtimes import batches

SEAL = "sha256:"
PRODUCTS = ("Convolution", "ConvolutionDepthWise", "InnerProduct")  # setting 8: integers


class Blobs(NamedTuple):
    """What a file takes and gives: names, and of inputs the shape [1, …] and dtype."""

    inputs: dict[str, tuple[tuple[int, ...], str]]
    outputs: tuple[str, ...]


def load(path: Path, threads: int) -> Callable[..., Any]:
    """Returns a function of arrays [N, …], one example after the other; see `engines.load`.

    Raises:
      ValueError: the file or that of its numbers is not as it was written, or ncnn cannot read it.
    """
    lines = _lines(path)
    blobs, net = _blobs(lines), ncnn.Net()
    _set(net.opt, threads, any(kind == "int8" for *_, kind in _operations(lines)))
    binary = path.with_suffix(".bin")
    if net.load_param(str(path)) or net.load_model(str(binary)):
        raise ValueError(f"{path}: ncnn {ncnn.__version__} cannot read it")
    shapes = [shape for shape, _ in blobs.inputs.values()]
    dtypes = [dtype for _, dtype in blobs.inputs.values()]

    def call(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        extractor = net.create_extractor()
        for name, array in zip(blobs.inputs, batches.typed(arrays, dtypes), strict=True):
            example = _example(array)
            # A Mat of an array is its memory, which need not be aligned and goes when the array
            # does; layers write into it, too.
            extractor.input(name, ncnn.Mat(example).clone())
        return [_result(extractor, name) for name in blobs.outputs]

    return batches.over(call, shapes, blobs.outputs == ("logits",))


def operations(path: str | Path) -> list[tuple[str, str, str]]:
    """Returns what ncnn runs for a file: names, kinds of layers, `int8` or `float32`.

    Raises:
      ValueError: see `load`.
    """
    return _operations(_lines(Path(path)))


def _operations(lines: list[str]) -> list[tuple[str, str, str]]:
    found = []
    for line in lines:
        kind, name, _, _, *rest = line.split(" ")
        is_integral = any(word[:2] == "8=" and word != "8=0" for word in rest)
        integers = is_integral and kind in PRODUCTS
        found.append((name, kind, "int8" if integers else "float32"))
    return found


def _lines(path: Path) -> list[str]:
    """Returns the lines of layers, if both files are as they were written.

    ncnn itself reads changed numbers without a word, and crashes on changed layers.
    """
    binary = path.with_suffix(".bin")
    if not binary.exists():
        raise ValueError(f"{path}: {binary.name}, the file of its numbers, is not beside it")
    *head, last = path.read_bytes().decode(errors="replace").strip("\n").split("\n")
    if not last.startswith(f"Noop {SEAL}"):
        raise ValueError(f"{path}: it is incomplete, or no file that `deploy.export` wrote")
    digest = hashlib.sha256("\n".join([*head, ""]).encode())
    with open(binary, "rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    if last != f"Noop {SEAL}{digest.hexdigest()} 0 0":
        raise ValueError(f"{path}: it or {binary.name} has changed since it was written")
    return head[2:]


def _blobs(lines: list[str]) -> Blobs:
    inputs, given, taken = {}, [], set()
    for line in lines:
        kind, label, read, made, *rest = line.split(" ")
        names, settings = rest[: int(read) + int(made)], rest[int(read) + int(made) :]
        taken.update(names[: int(read)])
        if kind == "Input":
            sizes = {int(key): int(size) for key, size in (one.split("=") for one in settings)}
            inputs[names[0]] = (_shape(sizes), label.rpartition(":")[2])
        else:
            given += names[int(read) :]
    outputs = (name for name in given if name not in taken)
    return Blobs(inputs, tuple(sorted(outputs, key=lambda name: int(name[7:] or 0))))


def _shape(sizes: dict[int, int]) -> tuple[int, ...]:
    """Returns an example's shape [1, …] from the numbers of its width, height, channels, depth."""
    width, height, channels, depth = (sizes.get(key) for key in (0, 1, 2, 11))
    order = (height, width, channels) if depth is None else (channels, depth, height, width)
    return (1, *(size for size in order if size is not None))


def _example(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[0].transpose(2, 0, 1) if array.ndim == 4 else array[0])


def _result(extractor: Any, name: str) -> np.ndarray:
    code, blob = extractor.extract(name)
    if code:
        raise ValueError(f"ncnn could not compute {name} (code {code})")
    array = np.array(blob)
    return (array.transpose(1, 2, 0) if array.ndim == 3 else array)[None]


def _set(options: Any, threads: int, is_integral: bool) -> None:
    options.num_threads = threads
    options.use_vulkan_compute = False
    # Winograd's convolutions of integers took 1.6 times as long as the plain ones in ResNet-20 on
    # x86 with AVX-512; those of floats are faster in wide networks.
    options.use_winograd_convolution = not is_integral
    # Floats stay of 32 bits.
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    options.use_bf16_storage = options.use_bf16_packed = False
