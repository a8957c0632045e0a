"""python -m benchmarks.files_peers RUN: whole files of networks beside what others make of them.

RUN is a finished run of `compress.main` with networks such as prune-16 and prune-16+quantize-3 on a
data set in memory. Each quantised network of replicate 0 gets a column: its file as it would be
written today; the file without the adaptive code; Zstandard, LZMA and zlib at their slowest levels
on all parameters as float32 (pruned), as 8-bit integers (each array on a grid of its own), and on
the symbols of the file, one byte each.

With `--nncodec=PYTHON`, the interpreter of an environment that has NNCodec (`python3 -m venv
nncodec; nncodec/bin/pip install nncodec`), NNCodec codes the pruned network before quantisation at
several QPs. Its rows are the smallest stream whose network is at least as accurate on the test
split as the quantised one, and the smallest within half a point of it.
"""

import argparse
import json
import lzma
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import compress
from benchmarks import setting
from compress import quantize, results
from compress.archive import codings
from groundwork import terminal, trees
from groundwork.data import dataset as data_lib
from groundwork.report import tables

QPS = tuple(range(-34, -9, 2))
BATCH = 1000  # images of a prediction


def packers() -> dict[str, Callable[[bytes], bytes]]:
    """Returns name → a function from bytes to bytes."""
    import zstandard

    return {
        "Zstandard 19": zstandard.ZstdCompressor(level=19).compress,
        "LZMA 9": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
        "zlib 9": lambda data: zlib.compress(data, 9),
    }


def forms(pruned: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Returns what is packed: of the pruned network as float32 and int8, and the file's symbols."""
    grids = {key: quantize.uniform(jnp.asarray(leaf), 8) for key, leaf in pruned.items()}
    integers = {key: np.asarray(grid.values) for key, grid in grids.items()}
    symbols = {k: np.unique(v, return_inverse=True)[1] for k, v in arrays.items()}
    return {
        "float32": b"".join(v.tobytes() for v in pruned.values()),
        "int8": b"".join(v.tobytes() for v in integers.values()),
        "our symbols": b"".join(v.astype(np.uint8).tobytes() for v in symbols.values()),
    }


def rewritten(apply: Any, variables: Any, folder: Path) -> int:
    """Returns the bytes of a file of these arrays, as it is written today.

    Biases that lie on a grid of 8 bits are stored by it, as the run's own file has them.
    """

    def stored(leaf: Any) -> Any:
        form = quantize.uniform(leaf, 8)
        exact = np.array_equal(np.asarray(quantize.dequantize(form)), np.asarray(leaf))
        return form if leaf.ndim == 1 and exact else leaf

    compress.save(folder / "again.cna", apply.__self__, jax.tree.map(stored, variables))
    return (folder / "again.cna").stat().st_size


def without_adaptive(apply: Any, variables: Any, folder: Path) -> int:
    """Returns the bytes of the same file without the adaptive code."""
    usual = codings.LEAST_ADAPTIVE
    codings.LEAST_ADAPTIVE = 1 << 62
    try:
        return rewritten(apply, variables, folder)
    finally:
        codings.LEAST_ADAPTIVE = usual


def accuracy(apply: Any, variables: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of the test split that a network classifies correctly."""
    run = jax.jit(lambda inputs: jnp.argmax(apply(variables, inputs), -1))
    right = [
        np.sum(np.asarray(run(images[at : at + BATCH])) == labels[at : at + BATCH])
        for at in range(0, len(labels), BATCH)
    ]
    return float(np.sum(right)) / len(labels)


def nncodec(python: str, arrays: dict[str, np.ndarray], folder: Path) -> dict[str, int]:
    """Returns "QP trellis" or "QP plain" → bytes; the decoded arrays are in the folder."""
    names = {name.replace("/", "."): array for name, array in arrays.items()}
    np.savez(folder / "arrays.npz", **names)
    peer = Path(__file__).with_name("nncodec_peer.py")
    command = [python, str(peer), str(folder / "arrays.npz"), str(folder), json.dumps(QPS)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if run.returncode:
        raise RuntimeError(f"NNCodec failed: {run.stderr[-2000:]}")
    return dict(json.loads(run.stdout.strip().splitlines()[-1]))


def smallest(sizes: dict[str, int], exact: dict[str, float], least: float) -> str:
    """Returns the smallest of NNCodec's streams that is accurate enough, in words."""
    enough = [name for name in sizes if exact[name] >= least]
    if not enough:
        return f"none (at best {max(exact.values()):.4f})"
    best = min(enough, key=sizes.__getitem__)
    return f"{sizes[best]:,} (QP {best}, {exact[best]:.4f})"


def row(path: Path, options: argparse.Namespace, split: tuple[Any, Any]) -> dict[str, str]:
    """Returns title → cell of one quantised network."""
    folder, name = path.parents[1], path.parent.name
    apply, variables = compress.load(path)
    _, before = compress.load(folder / name.partition("+quantize")[0] / path.name)
    arrays, pruned = (
        {key: np.asarray(leaf) for key, leaf in trees.flatten(tree["params"]).items()}
        for tree in (variables, before)
    )
    ours = accuracy(apply, variables, *split)
    with tempfile.TemporaryDirectory() as made:
        plain = without_adaptive(apply, variables, Path(made))
        cells = {
            "network": name,
            "accuracy": f"{ours:.4f} (pruned {accuracy(apply, before, *split):.4f})",
            "our file": f"{rewritten(apply, variables, Path(made)):,}",
            "without the adaptive code": f"{plain:,}",
        }
        for form, data in forms(pruned, arrays).items():
            for packer, pack in packers().items():
                cells[f"{packer}, {form}"] = f"{len(pack(data)):,}"
        if options.nncodec:
            sizes, exact = nncodec(options.nncodec, pruned, Path(made)), {}
            for stream in sizes:
                decoded = np.load(Path(made) / f"{stream}.npz")
                flat = {key: jnp.asarray(decoded[key.replace("/", ".")]) for key in pruned}
                params = trees.unflatten(flat, before["params"])
                exact[stream] = accuracy(apply, {**before, "params": params}, *split)
            cells["NNCodec, as accurate"] = smallest(sizes, exact, ours)
            cells["NNCodec, within half a point"] = smallest(sizes, exact, ours - 0.005)
    return cells


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="of compress.main, finished")
    parser.add_argument("--nncodec", default="", help="a Python interpreter that has NNCodec")
    parser.add_argument("--networks", nargs="+", default=[], help="their names; all by default")
    options = parser.parse_args()
    run = results.read(options.run)
    dataset = data_lib.load(run.config)
    if not isinstance(dataset, data_lib.Dataset):
        parser.error("the run's data must be in memory")
    images = data_lib.normalize(dataset, jnp.asarray(dataset.test.inputs))
    split = images, np.asarray(dataset.test.labels)
    paths = sorted(Path(options.run).glob("files/*+quantize-*/0.cna"))
    chosen = [p for p in paths if not options.networks or p.parent.name in options.networks]
    rows = [row(path, options, split) for path in chosen]
    titles = list(rows[0])
    tables.show(
        f"bytes of networks of {options.run}",
        (["", *(found["network"] for found in rows)], [[t, *(r[t] for r in rows)] for t in titles]),
    )
    terminal.say(f"machine: {setting.machine()}")


if __name__ == "__main__":
    main()
