"""python -m benchmarks.engines_table RUN…: what runs of deploy.main measured, as a Markdown table.

One row for each network, engine and kind: accuracy, milliseconds of one example on each number of
threads, how many times faster that is than JAX's floats of the run's original network on one thread
(of the run before, where a run has no original), the bytes of the files, and the peak memory of the
process on one thread.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from deploy import results
from deploy.results import Network, Time

MIB = 2**20


def rows(run: results.Results, threads: list[int], jax: float | None) -> Iterator[list[str]]:
    """Yields the cells of each network, engine and kind of a run."""
    for network in run.networks:
        names = dict.fromkeys((one.engine, one.kind) for one in network.times)
        for engine, kind in names:
            found = {
                one.threads: one
                for one in network.times
                if (one.engine, one.kind, one.batch) == (engine, kind, 1)
            }
            cells = [_milliseconds(found.get(count)) for count in threads]
            first = found.get(threads[0])
            median = first.measured.milliseconds[1:2] if first else []
            faster = f"{jax / median[0]:.2f}" if jax and median else ""
            yield [
                f"{run.name.removesuffix('-engines')}: {network.name.rpartition('/')[2]}",
                f"{engine} {kind}",
                _accuracy(network, engine, kind),
                *cells,
                faster,
                *_sizes(network, engine, kind, first),
            ]


def _milliseconds(one: Time | None) -> str:
    return f"{one.measured.milliseconds[1]:.3f}" if one and one.measured.milliseconds else "failed"


def _accuracy(network: Network, engine: str, kind: str) -> str:
    answer = network.answers.get((engine, kind))
    return f"{answer.values[-1]:.4f}" if answer and answer.values else ""


def _sizes(network: Network, engine: str, kind: str, one: Time | None) -> list[str]:
    file = network.file(engine, kind, 1)
    peak = one.measured.peak_bytes if one else None
    return [f"{file.bytes:,}" if file else "", f"{peak / MIB:.0f}" if peak else ""]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    runs = [results.read(folder) for folder in parser.parse_args().runs]
    threads = sorted({one.threads for run in runs for net in run.networks for one in net.times})
    counts = [f"ms, {count} thread{'s' if count > 1 else ''}" for count in threads]
    header = ["network", "engine", runs[0].metric.words, *counts, "×", "bytes", "peak MiB"]
    print("|", " | ".join(header), "|")
    print("|", " | ".join(["---"] * len(header)), "|")
    jax = None
    for run in runs:
        whole = [net for net in run.networks if net.name.endswith("original")]
        jax = whole[0].jax(threads[0], 1) if whole else jax or run.networks[0].jax(threads[0], 1)
        for cells in rows(run, threads, jax):
            print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
