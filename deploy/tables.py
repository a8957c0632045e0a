"""The tables of a run, and remarks about it: functions from results to texts."""

from collections import Counter
from collections.abc import Iterator

from deploy.answers import FAR
from deploy.results import Network, Results, Time
from groundwork.report.tables import Rows

KIB, MIB = 2**10, 2**20
FLOATS = ("float", "fp32", "f32", "fp16", "bf16")  # beginnings of precisions that are no integers
ROOM = 34  # characters of the operations that a row names: a table has 80


def times(run: Results, network: Network, batch: int) -> Rows:
    """Returns one row per engine, kind and threads, of calls of so many examples.

    ms is the median of a call, beside it are the quartiles; × is how many times faster than JAX's
    floats on as many threads it is.
    """
    header = ["engine", "threads", run.metric.words, "ms", "quartiles", "×", "KiB"]
    rows = []
    for one in _of(network, batch):
        made = network.file(one.engine, one.kind, batch)
        cells = ["failed", "", ""]
        if one.measured.milliseconds:
            low, median, high = one.measured.milliseconds
            jax = network.jax(one.threads, batch)
            faster = f"{jax / median:.2f}" if jax else ""
            cells = [f"{median:.3f}", f"{low:.3f}–{high:.3f}", faster]
        size = f"{made.bytes / KIB:,.1f}" if made else ""
        rows.append([one.name, str(one.threads), _value(network, one), *cells, size])
    return header, rows


def costs(network: Network, batch: int) -> Rows:
    """Returns one row per engine, kind and threads: agreement with JAX, memory, loading, sizes."""
    header = ["engine", "threads", "as JAX", "error", "load ms", "peak MiB", "gzip KiB"]
    rows = []
    for one in _of(network, batch):
        made, answer = (
            network.file(one.engine, one.kind, batch),
            network.answers.get((one.engine, one.kind)),
        )
        load, peak = one.measured.load_seconds, one.measured.peak_bytes
        agreement = answer.agreement if answer else None
        error = answer.error if answer else None
        rows.append(
            [
                one.name,
                str(one.threads),
                "" if agreement is None else f"{agreement:.4f}",
                "" if error is None else f"{error:.1e}",
                "" if load is None else f"{1e3 * load:.1f}",
                "" if peak is None else f"{peak / MIB:.1f}",
                f"{made.gzip_bytes / KIB:,.1f}" if made else "",
            ]
        )
    return header, rows


def integers(network: Network) -> Rows:
    """Returns one row per engine and kind: what of it runs as integers, where the engine tells."""
    rows = []
    for (engine, kind), answer in network.answers.items():
        if answer.operations is None:
            continue
        floats = Counter(
            operation
            for _, operation, precision in answer.operations
            if precision.lower().startswith(FLOATS)
        )
        whole = len(answer.operations) - floats.total()
        rows.append([f"{engine} {kind}", str(whole), str(floats.total()), _named(floats)])
    return ["engine", "in integers", "in floats", "which in floats"], rows


def remarks(network: Network) -> list[str]:
    """Returns what failed, what files do not hold, and what else must be known of a network."""
    lines = [f"{network.name}: {line}" for line in network.remarks]
    for file in network.files:
        if file.failure:
            lines.append(f"{file.name}, {examples(file.batch)}: not written: {file.failure}")
        lines += file.remarks
    for one in network.times:
        if one.measured.failure:
            lines.append(
                f"{one.name}, {threads(one.threads)}, {examples(one.batch)}: {one.measured.failure}"
            )
    for answer in network.answers.values():
        if answer.failure:
            lines.append(f"{answer.engine} {answer.kind}, answers: {answer.failure}")
        if answer.error is not None and not answer.error <= FAR[answer.kind]:  # NaN, too
            lines.append(
                f"{answer.engine} {answer.kind}: its outputs are far from JAX's (error "
                f"{answer.error:.1e}): do not use this file without knowing why"
            )
        if len(answer.values) > 1:
            values = ", ".join(f"{value:.4f}" for value in answer.values)
            lines.append(f"{answer.engine} {answer.kind}, exit by exit: {values}")
    return [*dict.fromkeys(lines), *_processors(network), *_load(network)]


def batches(network: Network) -> list[int]:
    """Returns the sizes of calls that were measured, the smallest first."""
    return sorted({one.batch for one in network.times})


def _of(network: Network, batch: int) -> Iterator[Time]:
    return (one for one in network.times if one.batch == batch)


def _value(network: Network, one: Time) -> str:
    if one.measured.failure:  # other outputs than those that were judged, or none
        return ""
    answer = network.answers.get((one.engine, one.kind))
    return f"{answer.values[-1]:.4f}" if answer and answer.values else ""


def _named(counts: Counter[str]) -> str:
    """Returns operations with their counts, the most frequent first, as far as there is room."""
    words = [f"{operation} {count}" for operation, count in counts.most_common()]
    for shown in range(len(words), 0, -1):
        rest = counts.total() - sum(count for _, count in counts.most_common(shown))
        text = ", ".join([*words[:shown], *([f"{rest} more"] if rest else [])])
        if len(text) <= ROOM or shown == 1:
            return text
    return ""


def _processors(network: Network) -> list[str]:
    few = {
        one.threads: one.measured.processors
        for one in network.times
        if one.measured.milliseconds and one.measured.processors < one.threads
    }
    return [
        f"{threads(wanted)} ran on {count} processors: there are no more"
        if count
        else "processes were not pinned to processors: this system does not allow it"
        for wanted, count in few.items()
    ]


def _load(network: Network) -> list[str]:
    seen = [value for values in network.load.values() for value in values]
    if not seen:
        return []
    return [f"load of the machine meanwhile (one minute): {min(seen):.1f} to {max(seen):.1f}"]


def threads(count: int) -> str:
    """Returns so many threads in words."""
    return "1 thread" if count == 1 else f"{count} threads"


def examples(count: int) -> str:
    """Returns so many examples in words."""
    return "1 example" if count == 1 else f"{count} examples"
