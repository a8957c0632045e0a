"""python -m groundwork.architectures.cpu.build: compile `convolution.cc` (`make cpu`).

It needs g++ and oneDNN 3: `pip install onednn-cpu-gomp onednn-devel-cpu-gomp`.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax

from groundwork.architectures.cpu import library

# g++ 12 takes what its own header for AVX-512 leaves undefined on purpose for a mistake.
WARNINGS = ("-Wall", "-Wextra", "-Wno-uninitialized", "-Wno-maybe-uninitialized")
FLAGS = ("-O2", "-std=c++17", "-fPIC", "-shared", "-fopenmp", *WARNINGS)
LIBRARY = "libdnnl.so.3"
PACKAGES = ("onednn-cpu-gomp", "onednn-devel-cpu-gomp")


def onednn(roots: list[Path]) -> tuple[Path, Path]:
    """Returns the folders of oneDNN 3's headers and library, under the first root that has them.

    Raises:
      SystemExit: no root has them.
    """
    for root in (root.resolve() for root in roots):
        version = root / "include/oneapi/dnnl/dnnl_version.h"
        major = r"define DNNL_VERSION_MAJOR +3\b"
        if not (version.exists() and re.search(major, version.read_text())):
            continue
        for lib in (root / "lib", root / "lib64", root / "lib/x86_64-linux-gnu"):
            if (lib / LIBRARY).exists():
                return root / "include", lib
    where = ", ".join(map(str, roots))
    sys.exit(f"no oneDNN 3 under {where}: pip install {' '.join(PACKAGES)}, or give --onednn=DIR")


def build(roots: list[Path], compiler: str) -> Path:
    """Compiles the library, writes beside it what it was made of, and returns its path.

    Raises:
      SystemExit: oneDNN is not found, or the code's folder cannot be written to.
    """
    include, lib = onednn(roots)
    target = library.path()
    if not os.access(target.parents[1], os.W_OK):
        sys.exit(f"{target.parents[1]} cannot be written to: install into a venv of your own")
    target.parent.mkdir(exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}")
    headers = ["-isystem", str(include), "-isystem", jax.ffi.include_dir()]
    libraries = [f"-L{lib}", f"-l:{LIBRARY}", f"-Wl,-rpath,{lib}"]
    sources = [*headers, str(library.SOURCE), *libraries]
    command = [*shlex.split(compiler), *FLAGS, *sources, "-o", str(fresh)]
    subprocess.run(command, check=True)
    fresh.replace(target)
    needed = (lib / LIBRARY).resolve()
    record = {
        "source": library.source_digest(),
        "library": library.digest(target),
        "onednn": {"path": str(needed), "digest": library.digest(needed)},
    }
    fresh.write_text(json.dumps(record, indent=1))
    fresh.replace(target.with_suffix(".json"))
    return target


def main() -> None:
    """Build the library, load it, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--onednn", type=Path, help="folder with include/ and lib/ of oneDNN 3")
    parser.add_argument("--compiler", default=os.environ.get("CXX") or "g++")
    flags = parser.parse_args()
    roots = [flags.onednn] if flags.onednn else [Path(sys.prefix), Path("/usr/local"), Path("/usr")]
    try:
        built = build(roots, flags.compiler)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"not built: {error}")
    if library.load() is None:
        sys.exit(f"{built} was built, but cannot be used here")
    print(f"{built}: convolutions on the CPU run by oneDNN")


if __name__ == "__main__":
    main()
