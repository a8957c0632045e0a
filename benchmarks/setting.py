"""The data and the machine on which a benchmark runs, and distances in words."""

import contextlib
import importlib.metadata
import os
import platform
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "tensorly",
    "torch",
    "torch-pruning",
    "pillow",
    "zstandard",
)


@contextlib.contextmanager
def fashion_mnist(folder: str) -> Iterator[tuple[str, str]]:
    """Gives the folder of IDX files and a word on it; without one, a folder of random bytes."""
    if Path(folder).is_dir():
        yield folder, f"Fashion-MNIST from {folder}"
        return
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as made:
        for split, count in (("train", 60_000), ("t10k", 10_000)):
            for kind, shape, end in (("images", (28, 28), 256), ("labels", (), 10)):
                shape = (count, *shape)
                header = struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape)
                content = random.integers(0, end, shape, np.uint8).tobytes()
                path = Path(made) / f"{split}-{kind}-idx{len(shape)}-ubyte"
                path.write_bytes(header + content)
        yield made, f"SYNTHETIC data of Fashion-MNIST's size: there is no {folder}"


def load() -> str:
    """Returns how busy the machine was before: timings need an idle one."""
    return f"load average before the start: {os.getloadavg()[0]:.2f} (an idle machine has 0)"


def machine() -> str:
    """Returns the CPU, its cores and the versions of packages."""
    cpu = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    return f"{cpu}, {os.cpu_count()} cores and threads; {', '.join(versions)}"


def distance(outputs: np.ndarray, expected: np.ndarray) -> str:
    """Returns in words how far outputs are from those that are expected."""
    largest = np.abs(np.asarray(expected)).max()
    off = float(np.abs(np.asarray(outputs) - expected).max() / largest)
    return "exact" if off < 1e-5 else f"off by {off:.2g} of the largest"
