"""The tables of a run, and remarks about its networks: functions from results to texts."""

# R replicates

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from compress.results import Network, Results, Stream
from groundwork.report import judged
from groundwork.report.tables import Rows, plus_minus, time_cells, time_header

SHARED = "numbers of several arrays"  # in a stream of no single array


def networks(run: Results) -> Rows:
    """Returns one row per network; × says how many times smaller than the original it is."""
    more = list(run.original.measures)
    header = ["network", *_COSTS, *(name.replace("_", " ") for name in more)]
    rows = [
        [n.name, *_cost(n), *(plus_minus(n.measures[name], 4) for name in more)]
        for n in run.networks
    ]
    return judged.beside((header, rows), [n.judged for n in run.networks])


def stages(run: Results, network: Network) -> Rows:
    """Returns one row per stage up to `network`, after one for the original's float32 numbers."""
    first = ["float32 numbers", "", "", f"{network.float_bytes:,}", "1.00", "", ""]
    chain = run.chain(network)
    rows = [first, *([n.step, *_cost(n)] for n in chain)]
    return judged.beside((["after", *_COSTS], rows), [{}, *(n.judged for n in chain)])


def layers(network: Network) -> Rows:
    """Returns one row per array, and for the rest of the file; bits are before → after coding.

    An array that replicates store in different ways has a row for each: the numbers that are
    averaged count the same things.
    """
    header = ["layer", "weights", "kept", "bits per weight", "bits per index", "bytes", "×"]
    arrays = {_leaf(stream.path) for stream in network.streams if stream.path}
    paths = [*network.sizes, *sorted(arrays - network.sizes.keys())]
    rows = [row for path in paths for row in _layer(network, path)]
    for name, kind in ((SHARED, "other"), ("header", "header")):
        streams = [s for s in network.streams if not s.path and s.kind == kind]
        if streams:
            rows.append([name, *[""] * 4, _bytes(streams), ""])
    total = [
        "total",
        f"{sum(network.sizes.values()):,}",
        _share(network.density()),
        *_coding(network.streams),
        f"{network.mean_bytes:,.0f}",
        f"{network.times_smaller:.2f}",
    ]
    if len({bool(gaps) for path in arrays for gaps, bits in _codings(network, path) if bits}) > 1:
        total[3] = ""  # bits of kept weights and bits of all weights have no mean
    return header, [*rows, total]


def times(measured: Sequence[Network]) -> Rows:
    """Returns one row per network: times to load its file and predict, and its multiply-adds."""
    batches = sorted({batch for network in measured for batch in network.milliseconds}, key=int)
    rows = [
        [
            network.name,
            f"{network.load_seconds:.3f}",
            *time_cells(network.milliseconds, batches),
            "" if network.multiply_adds is None else f"{network.multiply_adds:,}",
        ]
        for network in measured
    ]
    return ["network", "load, s", *time_header(batches), "multiply-adds"], rows


def remarks(run: Results) -> list[str]:
    """Returns the network to choose for each of `run.losses`; and a warning of a biased choice."""
    lines = []
    metric = run.metric
    for words, loss in run.losses.items():
        network = run.smallest(loss)
        if network is None:
            lines.append(
                f"smallest {words}: none of {len(run.networks) - 1} networks; the original has "
                f"{plus_minus(getattr(run.original, run.judged_by), 4)} on {run.judged_by}"
            )
            continue
        last = len(network.bytes) - 1
        files = run.folder / "files" / network.name / ("0.cna" + (f" … {last}.cna" if last else ""))
        lines.append(
            f"smallest {words}: {network.name}: {network.mean_bytes:,.0f} bytes, "
            f"{network.times_smaller:.1f} times smaller; test {metric.words} "
            f"{plus_minus(network.test, 4)}, the original's {plus_minus(run.original.test, 4)}; "
            f"files: {files}"
        )
    if run.judged_by == "test":
        lines.append(
            f"there is no validation split: these were chosen by the test {metric.plural} shown, "
            "which flatters them"
        )
    return lines


_COSTS = ["kept", "bits", "bytes", "×", "validation", "test"]


def _cost(network: Network) -> list[str]:
    return [
        _share(network.density()),
        _range(network.bits.values()),
        f"{network.mean_bytes:,.0f}",
        f"{network.times_smaller:.2f}",
        plus_minus(network.validation, 4) if network.validation else "",
        plus_minus(network.test, 4),
    ]


def _layer(network: Network, path: str) -> list[list[str]]:
    """Returns one row per coding of an array, which names its replicates if there are several."""
    codings = _codings(network, path)
    size = network.sizes.get(path)
    rows = []
    for places in codings.values():
        streams = [_at(stream, places) for stream in _streams(network, path)]
        whole = any(stream.kind == "weights" for stream in streams)  # otherwise some is in SHARED
        numbers = ", ".join(map(str, places))
        several = "replicates" if len(places) > 1 else "replicate"
        rows.append(
            [
                path if len(codings) == 1 else f"{path} ({several} {numbers})",
                f"{size:,}" if size else "",
                _share(_kept(network, path, places)),
                *_coding(streams),
                _bytes(streams) if streams else "",
                f"{4 * size / _mean_bytes(streams):.2f}" if size and whole else "",
            ]
        )
    return rows


def _streams(network: Network, path: str) -> list[Stream]:
    return [stream for stream in network.streams if stream.path and _leaf(stream.path) == path]


def _codings(network: Network, path: str) -> dict[tuple[float, float], list[int]]:
    """Returns coding → the replicates that store an array in it.

    A coding is the bits of a gap and of a weight at one width for all; 0 where there are none.
    """
    streams = _streams(network, path)
    codings: dict[tuple[float, float], list[int]] = {}
    for r in range(len(network.bytes)):
        gaps, bits = (
            sum(stream.bits[r] for stream in streams if stream.kind == kind)
            for kind in ("index", "weights")
        )
        codings.setdefault((gaps, bits), []).append(r)
    return codings


def _at(stream: Stream, places: Sequence[int]) -> Stream:
    """Returns the stream of some replicates."""
    numbers = ("bytes", "symbols", "bits", "coded_bits", "entropy_bits")
    changes: dict[str, Any] = {name: [getattr(stream, name)[r] for r in places] for name in numbers}
    return dataclasses.replace(stream, **changes)


def _kept(network: Network, path: str, places: Sequence[int]) -> float | None:
    """Returns the share of an array's entries that some replicates keep; None without a mask."""
    if path not in network.masked:
        return None
    return float(np.mean([network.kept[path][r] for r in places])) / network.sizes[path]


def _coding(streams: Sequence[Stream]) -> list[str]:
    """Returns bits of a weight and of an index: before coding → after (entropy)."""
    return [_bits([s for s in streams if s.kind == kind]) for kind in ("weights", "index")]


def _bits(streams: Sequence[Stream]) -> str:
    """Returns means over the symbols of all replicates; empty if there are none."""
    symbols = np.concatenate([[0.0], *(stream.symbols for stream in streams)])
    if not symbols.sum():
        return ""
    fields = ("bits", "coded_bits", "entropy_bits")
    values = (np.concatenate([[0.0], *(getattr(s, f) for s in streams)]) for f in fields)
    before, after, entropy = (symbols @ value / symbols.sum() for value in values)
    return f"{before:.2f} → {after:.2f} ({entropy:.2f})"


def _bytes(streams: Sequence[Stream]) -> str:
    return f"{_mean_bytes(streams):,.0f}"


def _mean_bytes(streams: Sequence[Stream]) -> float:
    return float(np.mean(np.sum([stream.bytes for stream in streams], axis=0)))


def _leaf(path: str) -> str:
    """Returns a path without `params/`; other arrays keep the name of their collection."""
    return path.removeprefix("params/")


def _share(density: float | None) -> str:
    return "" if density is None else f"{density:.4f}"


def _range(bits: Iterable[int]) -> str:
    """Returns `4`, for example, or `3–8` if layers differ."""
    values = sorted(set(bits))
    return "–".join(f"{b}" for b in (values if len(values) < 2 else (values[0], values[-1])))
