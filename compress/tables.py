"""The tables of a run, and what is said of its networks: functions from results to texts."""

from collections.abc import Iterable, Sequence

import numpy as np

from compress.results import LOSSES, Network, Results, Stream
from groundwork.report.tables import Rows, plus_minus

SHARED = "numbers of several arrays"  # whose stream no single array has


def networks(run: Results) -> Rows:
    """A row a network; × is how many times smaller its file is than the original's float32."""
    return ["network", *_COSTS], [[n.name, *_cost(n)] for n in run.networks]


def stages(run: Results, network: Network) -> Rows:
    """What each stage left on the way to `network`, from the original's float32 numbers on."""
    first = ["float32 numbers", "", "", f"{network.float_bytes:,}", "1.00", "", ""]
    return ["after", *_COSTS], [first, *([n.step, *_cost(n)] for n in run.chain(network))]


def layers(network: Network) -> Rows:
    """A row a parameter and what else has bytes; bits before coding → after (entropy)."""
    header = ["layer", "weights", "kept", "bits a weight", "bits an index", "bytes", "×"]
    own = {_leaf(stream.path) for stream in network.streams if stream.path}
    paths = [*network.sizes, *sorted(own - network.sizes.keys())]
    rows = [_layer(network, path) for path in paths]
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
    return header, [*rows, total]


def times(measured: Sequence[Network]) -> Rows:
    """A row a network: seconds to load its file; milliseconds, the original's beside its own."""
    header = ["network", "load, s"]
    batches = sorted({batch for n in measured for batch in n.milliseconds}, key=int)
    for batch in batches:
        images = "1 image" if batch == "1" else f"{batch} images"
        header += [f"{images}: original, ms", "own, ms", "×"]
    rows = []
    for network in measured:
        row = [network.name, f"{network.load_seconds:.3f}"]
        for batch in batches:
            before, after = network.milliseconds.get(batch, [0.0, 0.0])
            row += (
                [f"{before:.3f}", f"{after:.3f}", f"{after / before:.2f}"] if before else [""] * 3
            )
        rows.append(row)
    return header, rows


def remarks(run: Results) -> list[str]:
    """Which network to take, for each of `LOSSES`; and whether the choice flatters it."""
    found = []
    for words, loss in LOSSES.items():
        network = run.smallest(loss)
        if network is None:
            found.append(
                f"smallest {words}: none of {len(run.networks) - 1} networks; the original has "
                f"{plus_minus(getattr(run.original, run.judged_by), 4)} on {run.judged_by}"
            )
            continue
        last = len(network.bytes) - 1
        files = run.folder / "files" / network.name / ("0.cna" + (f" … {last}.cna" if last else ""))
        found.append(
            f"smallest {words}: {network.name}: {network.mean_bytes:,.0f} bytes, "
            f"{network.times_smaller:.1f} times smaller; test accuracy "
            f"{plus_minus(network.test, 4)}, the original's {plus_minus(run.original.test, 4)}; "
            f"files: {files}"
        )
    if run.judged_by == "test":
        found.append(
            "there is no validation split: these were chosen by the test accuracies shown, which "
            "flatters them"
        )
    return found


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


def _layer(network: Network, path: str) -> list[str]:
    streams = [stream for stream in network.streams if stream.path and _leaf(stream.path) == path]
    size = network.sizes.get(path)
    whole = size and any(
        stream.kind == "weights" for stream in streams
    )  # else others lie in SHARED
    return [
        path,
        f"{size:,}" if size else "",
        _share(network.density(path)),
        *_coding(streams),
        _bytes(streams) if streams else "",
        f"{4 * size / _mean_bytes(streams):.2f}" if size and whole else "",
    ]


def _coding(streams: Sequence[Stream]) -> list[str]:
    """Bits of a weight and of an index: before coding → after (entropy)."""
    return [_bits([s for s in streams if s.kind == kind]) for kind in ("weights", "index")]


def _bits(streams: Sequence[Stream]) -> str:
    """Means over the symbols of all replicates; empty if there are none."""
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
    """A parameter's path as `sizes` has it; other arrays keep their collection's name."""
    return path.removeprefix("params/")


def _share(density: float | None) -> str:
    return "" if density is None else f"{density:.4f}"


def _range(bits: Iterable[int]) -> str:
    """Such as `4`, or `3–8` where layers differ."""
    found = sorted(set(bits))
    return "–".join(f"{b}" for b in (found if len(found) < 2 else (found[0], found[-1])))
