"""python -m benchmarks.codec: our Huffman coding beside zlib and Zstandard, on one core.

There are three streams of symbols, one byte each: 4-bit codebook indices whose frequencies fall
geometrically, 5-bit relative indices of a random mask of density 0.1, and 8-bit indices of normally
distributed weights. All contestants take turns in one process on the same bytes: each encodes, then
decodes what it has written, and the result is compared with the input.
"""

import argparse
import contextlib
import functools
import os
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/codec.py`

from benchmarks import setting
from compress.coding import huffman, sparse
from groundwork import terminal
from groundwork.report import tables

COLUMNS = ("encode", "CPU", "× zlib 6", "decode", "CPU", "× zlib 6", "bytes", "bits/symbol")


class Contestant(NamedTuple):
    """A pair of functions that take and return bytes-like objects."""

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, int], Any]  # data, number of symbols


def contestants() -> dict[str, Contestant]:
    """Returns ours, zlib and Zstandard, the last two at several levels."""
    import zstandard

    def zlib_decode(data: bytes, size: int) -> bytes:
        return zlib.decompress(data, bufsize=size)

    def zstandard_decode(data: bytes, size: int) -> bytes:
        return zstandard.ZstdDecompressor().decompress(data)

    entrants = {"ours": Contestant(huffman.encode, huffman.decode)}
    for level in (1, 6, 9):
        encode = functools.partial(zlib.compress, level=level)
        entrants[f"zlib {level}"] = Contestant(encode, zlib_decode)
    for level in (1, 3, 19):
        packer = zstandard.ZstdCompressor(level=level)
        entrants[f"Zstandard {level}"] = Contestant(packer.compress, zstandard_decode)
    return entrants


def streams(count: int) -> dict[str, np.ndarray]:
    """Returns the three streams, [count] uint8 each."""
    rng = np.random.default_rng(0)
    indices = np.minimum(rng.geometric(0.4, count) - 1, 15)
    gaps = sparse.gaps(rng.random(count * 11) < 0.1, sparse.DENSE_BITS).gaps[:count]
    weights = np.clip(np.rint(128 + 32 * rng.standard_normal(count)), 0, 255)
    return {
        "16 values, geometric": indices.astype(np.uint8),
        "32 values, gaps at density 0.1": gaps,
        "256 values, normal": weights.astype(np.uint8),
    }


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Returns seconds, CPU seconds, and the result of a call."""
    busy, begun = time.process_time(), time.perf_counter()
    result = call()
    return time.perf_counter() - begun, time.process_time() - busy, result


def measure(symbols: np.ndarray, repeats: int, skip: set[str]) -> dict[str, list[float]]:
    """Returns medians of turns: seconds to encode, of its CPU, to decode, of its CPU; bytes."""
    entrants = {name: c for name, c in contestants().items() if name not in skip}
    turns: dict[str, list[tuple[float, ...]]] = {name: [] for name in entrants}
    for _ in range(repeats):
        for name, contestant in entrants.items():
            *encode, data = timed(functools.partial(contestant.encode, symbols))
            *decode, decoded = timed(functools.partial(contestant.decode, data, symbols.size))
            if not np.array_equal(np.frombuffer(decoded, np.uint8), symbols):
                raise RuntimeError(f"{name} did not return what it was given")
            turns[name].append((*encode, *decode, len(data)))
    return {
        name: [statistics.median(values) for values in zip(*turn, strict=True)]
        for name, turn in turns.items()
    }


def table(title: str, symbols: np.ndarray, medians: dict[str, list[float]]) -> None:
    """Shows one row per contestant, from what `measure` returns."""
    entropy = huffman.entropy(symbols)
    rows = []
    for name, (encode, encode_cpu, decode, decode_cpu, size) in medians.items():
        rates = [f"{symbols.size / s / 1e6:.1f}" for s in (encode, encode_cpu, decode, decode_cpu)]
        ratios = [f"{medians['zlib 6'][i] / s:.2f}" for i, s in ((0, encode), (2, decode))]
        cells = [*rates[:2], ratios[0], *rates[2:], ratios[1], f"{size:,.0f}"]
        rows.append([name, *cells, f"{8 * size / symbols.size:.4f}"])
    title = f"{title}; entropy {entropy:.4f} bits/symbol; million symbols/s"
    tables.show(title, (["", *COLUMNS], rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--symbols", nargs="+", type=int, default=[10_000_000, 1_000])
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--core", type=int, default=0, help="the one to run on (Linux)")
    parser.add_argument("--skip", nargs="+", default=[], help="contestants, such as 'Zstandard 19'")
    flags = parser.parse_args()
    load = setting.load()
    print(load, file=sys.stderr)
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {flags.core})
    for count in flags.symbols:
        for title, symbols in streams(count).items():
            medians = measure(symbols, flags.repeats, set(flags.skip) - {"ours", "zlib 6"})
            table(f"{count:,} symbols, {title}", symbols, medians)
    for line in (
        f"machine: {setting.machine()}; {load}",
        f"one core; medians of {flags.repeats} interleaved turns, wall and CPU time; bytes of the "
        "whole, headers included",
    ):
        terminal.say(line)


if __name__ == "__main__":
    main()
