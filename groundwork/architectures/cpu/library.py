"""The compiled `convolution.cc`: where it lies, whether it may be loaded, what it can do.

oneDNN is used if all of the following hold; otherwise XLA computes convolutions, and one line on
stderr says why:

* `make cpu` (where the code is installed, `python -m groundwork.architectures.cpu.build`) has built
  the library, from this source and for this jaxlib's foreign function interface;
* its file and oneDNN's are unchanged since then;
* the CPU is an x86-64 with AVX2;
* the environment does not say `ARCHITECTURES_CPU_CONVOLUTION=xla`.

`OMP_NUM_THREADS` sets the number of threads. The default, and the most, is the number of CPUs that
the process may use.
"""

import ctypes
import functools
import hashlib
import json
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from groundwork.errors import unknown

SOURCE = Path(__file__).with_name("convolution.cc")
SOURCES = (SOURCE, *sorted(SOURCE.parent.glob("*.h")))
TARGET = "architectures_convolution"
TARGETS = (
    *(TARGET, "architectures_product", "architectures_pack", "architectures_chain"),
    "architectures_integers",
)
SWITCH = "ARCHITECTURES_CPU_CONVOLUTION"
CPUINFO = Path("/proc/cpuinfo")
# How often OpenMP's threads look for work before they sleep: about 0.2 ms. A chain of layers gives
# them work all the time, and to wake a thread takes longer than a small layer. If they looked for
# ever, they would hold their cores while XLA's threads work between convolutions.
WAITING = {"GOMP_SPINCOUNT": "10000"}


def path() -> Path:
    """Returns where the library is built; its name has the version of jaxlib's interface."""
    header = Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
    version = re.findall(r"define XLA_FFI_API_(?:MAJOR|MINOR) (\d+)", header.read_text())
    return SOURCE.parent / "build" / f"convolution-ffi-{'.'.join(version)}.so"


def remedy() -> str:
    """Returns the command that builds the library, in a clone or where the code is installed."""
    in_clone = (SOURCE.parents[3] / "Makefile").exists()
    return "make cpu" if in_clone else "python -m groundwork.architectures.cpu.build"


def digest(file: Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def source_digest() -> str:
    """Returns the SHA-256 of the whole source, hexadecimal."""
    return hashlib.sha256("".join(map(digest, SOURCES)).encode()).hexdigest()


@functools.cache
def load() -> ctypes.CDLL | None:
    """Returns the library, loaded and registered with XLA, or None if it cannot be used.

    That is decided once per process.

    Raises:
      UserError: the switch is neither `xla` nor `onednn`.
    """
    switch = os.environ.get(SWITCH) or "onednn"
    if switch not in ("onednn", "xla"):
        raise unknown(SWITCH, switch, ("onednn", "xla"))
    if switch == "xla" or not _is_x86_linux():
        return None
    file = path()
    if not file.with_suffix(".json").exists():
        others = set(file.parent.glob("convolution-ffi-*.so")) - {file}
        built = "built for another jaxlib" if others else "not built"
        _say(f"convolutions on the CPU: by XLA, which is slow; oneDNN is {built}: {remedy()}")
        return None
    reason = _unusable(file)
    if reason is None:
        try:
            return _loaded(file)
        except (OSError, AttributeError) as error:
            reason = str(error)
    warnings.warn(f"convolutions on the CPU: by XLA, which is slow: {reason}", stacklevel=2)
    return None


def about() -> str:
    """Returns what computes convolutions on the CPU; bits depend on all that it names.

    It is `XLA`, or for example `oneDNN 3.2.0 (avx512_core_amx) on 2 threads`.
    """
    return "XLA" if load() is None else _ask("architectures_about")[1]


@functools.cache
def multiplies_bfloat16() -> bool:
    """Does oneDNN, which must be in use here, have instructions that multiply bfloat16?"""
    return _ask("architectures_multiply_bfloat16")[0] == 1


@functools.cache
def implementation(fields: tuple[int, ...]) -> tuple[bool, str]:
    """Returns whether oneDNN has fast code for a descriptor, and the code's name or the refusal."""
    array = (ctypes.c_int64 * len(fields))(*fields)
    fast, name = _ask("architectures_implementation", array, ctypes.c_int64(len(fields)))
    return fast == 1, name


@functools.cache
def product(fields: tuple[int, ...]) -> bool:
    """Returns whether oneDNN has fast code for a product of matrices; see `products.Product`."""
    array = (ctypes.c_int64 * len(fields))(*fields)
    return _ask("architectures_product_by", array, ctypes.c_int64(len(fields)))[0] == 1


def stored(fields: np.ndarray, kernel: np.ndarray) -> int:
    """Returns how much is stored of a kernel [KH, KW, C / groups, O] float32, see `sparse.Form`."""
    numbers = kernel.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    given = fields.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))
    return _ask("architectures_stored", given, ctypes.c_int64(fields.size), numbers)[0]


def computes(descriptors: Iterable[np.ndarray]) -> bool:
    """Is oneDNN used here, and does it have fast code for all of these descriptors?"""
    if load() is None:
        return False
    return all(implementation(tuple(fields.tolist()))[0] for fields in descriptors)


@functools.cache
def _loaded(file: Path) -> ctypes.CDLL:
    # OpenMP's library reads the environment once, when it is loaded.
    changes = {} if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys() else WAITING
    os.environ.update(changes)
    try:
        library = ctypes.CDLL(str(file))
    finally:
        for name in changes:
            del os.environ[name]
    for target in TARGETS:
        handler = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, handler, platform="cpu")
    return library


def _ask(function: str, *arguments: Any) -> tuple[int, str]:
    """Calls a function of the library and returns its code and its answer.

    Raises:
      RuntimeError: the code is negative.
    """
    answer = ctypes.create_string_buffer(256)
    code = getattr(load(), function)(answer, ctypes.c_int64(len(answer)), *arguments)
    if code < 0:
        raise RuntimeError(f"convolutions by oneDNN: {answer.value.decode()}")
    return code, answer.value.decode()


def _unusable(file: Path) -> str | None:
    """Returns why the library must not be loaded, None if it may be.

    To load a damaged library can end the process.
    """
    again = f"build it again: {remedy()}"
    if "avx2" not in CPUINFO.read_text(errors="replace").split():
        return "oneDNN is built, but this CPU has no AVX2"
    try:
        record = json.loads(file.with_suffix(".json").read_text())
        expected = {file: record["library"]}
        expected[Path(record["onednn"]["path"])] = record["onednn"]["digest"]
        stale = record["source"] != source_digest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{file.with_suffix('.json')} is damaged ({error}); {again}"
    if stale:
        return f"{SOURCE.name} or what it includes has changed since oneDNN was built; {again}"
    for needed, wanted in expected.items():
        try:
            if digest(needed) != wanted:
                return f"{needed} has changed since oneDNN was built; {again}"
        except OSError as error:
            return f"{error}; {again}"
    return None


def _is_x86_linux() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
