"""The figures of a run: each function draws a PNG from results and returns its caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress import results
from compress.results import Network, Results
from groundwork.report import figures
from groundwork.runs.metrics import mean_and_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = {
    "weights": "#1f5fb4",
    "index": "#d1622b",
    "codebook": "#8a4fa3",
    "other": "#3a8f4d",
    "header": "#999999",
}
LINES = ("#1f5fb4", "#d1622b", "#3a8f4d", "#8a4fa3", "#5bb0d8", "#b5891b", "#c2418c", "#555555")
LEGEND: dict[str, Any] = {"fontsize": 8, "frameon": False, "markerscale": 0.7}
DASHES = ("-", "--", ":")
MOST_BARS = 12
FULL_HEIGHT = 32  # the most centroids whose lines cross the whole histogram
LEAST_SPAN = 4  # of an axis of sizes: the least ratio of its ends


def accuracy(run: Results, path: Path) -> tuple[Path, str]:
    """Draws test accuracy against bytes of all networks, and closer where little is lost."""
    (mean, _), near = mean_and_spread(run.original.test), run.near
    tests = [float(np.mean(network.test)) for network in run.networks]
    close = run.metric.higher_is_better and min(tests) < mean - near < max(tests)
    figure, axes = figures.subplots(1 + close, width=3.7 if close else 5.2, height=3.8)
    for ax in axes:
        ax.axhline(mean, color="black", lw=0.8, linestyle=":")
        drawn = lines(run)
        labels = figures.short(list(drawn))
        for place, (label, networks) in enumerate(zip(labels, drawn.values(), strict=True)):
            style = {"color": LINES[place % len(LINES)], "marker": "o", "ms": 3.5, "capsize": 2}
            style["linestyle"] = DASHES[place // len(LINES) % len(DASHES)]
            _errors(ax, networks, lw=1.2, label=label, **style)
        _errors(ax, [run.original], color="black", marker="D", ms=4, capsize=2, label="original")
        front = run.front()
        x, y = [n.mean_bytes for n in front], [np.mean(n.test) for n in front]
        ax.plot(x, y, color="black", lw=5, alpha=0.15, label="Pareto front", zorder=0)
        _mark(ax, run)
        _bytes_axis(ax)
    metric = run.metric.words
    axes[0].set_ylabel(f"test {metric}")
    if close:
        axes[1].set_ylim(mean - near, max(tests) + 0.25 * near)
        axes[1].set_title("near the original's", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", **LEGEND)
    caption = (
        f"Test {metric} against the file's bytes, means over replicates with one standard "
        "deviation of both. A line is one way to compress at several settings; dotted: the "
        f"original's {metric}; the wide grey line joins the networks that no other beats in both "
        f"means. Rings: the smallest networks, chosen by {metric} on {run.judged_by}."
    )
    return figures.save(figure, path), caption


def parts(run: Results, path: Path) -> tuple[Path, str]:
    """Draws bytes by kind, stacked: beside the original's float32 numbers, and by themselves."""
    shown = bars(run)
    figure, axes = figures.subplots(2, width=4.6, height=1.3 + 0.27 * (len(shown) + 1))
    places = np.arange(1, len(shown) + 1)
    left = np.zeros(len(shown))
    for kind, color in KINDS.items():
        width = np.array([_bytes_of(network, kind) for network in shown]) / 1e3
        for ax in axes:
            ax.barh(places, width, left=left, color=color, label=kind, height=0.7)
        left += width
    axes[0].barh(0, run.original.float_bytes / 1e3, color="#cccccc", height=0.7)
    names = figures.short([network.name for network in shown])
    axes[0].set_yticks([0, *places], ["original as float32", *names], fontsize=8)
    axes[1].set_yticks(places, [f"{network.times_smaller:.1f} ×" for network in shown], fontsize=8)
    for ax in axes:
        ax.set_ylim(len(shown) + 0.6, -0.6 if ax is axes[0] else 0.4)
        ax.set_xlabel("kilobytes (1000 bytes)")
        ax.grid(axis="y", visible=False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(KINDS), **LEGEND)
    caption = (
        "Where the bytes of the files go, means over replicates; at the right without the "
        "original, and how many times smaller than it each file is. “other”: numbers as they are, "
        "of all arrays that have no codebook."
    )
    if len(shown) < len(run.leaves):
        caption += (
            f" {len(shown)} networks: the chosen ones, and leaves that no other network beats in "
            f"both bytes and test {run.metric.words}, as far as they are near the original's."
        )
    return figures.save(figure, path), caption


def centroids(run: Results, network: Network, path: Path) -> tuple[Path, str] | None:
    """Draws weights of replicate 0 before quantisation, by layer, and the values that they took.

    Returns None if there are none.
    """
    weights = _quantised(run, network)
    if not weights:
        return None
    figure, axes = figures.grid(
        len(weights), 3, width=3.6, height=2.4, labels=("weight", "weights")
    )
    names = figures.short(list(weights))
    for ax, name, (before, values) in zip(axes, names, weights.values(), strict=True):
        ax.stairs(*np.histogram(before, bins=100), fill=True, color="#9dbbe0")
        top = 1.0 if values.size <= FULL_HEIGHT else 0.06
        ax.vlines(values, 0, top, color="#d1622b", lw=0.8, transform=ax.get_xaxis_transform())
        ax.set_title(f"{name}\n{before.size:,} weights, {values.size} values", fontsize=8)
        ax.grid(visible=False)
    caption = (
        f"Weights of replicate 0 that were not pruned, before quantisation (blue), and the values "
        f"that {network.name} has in their place (orange)."
    )
    return figures.save(figure, path), caption


def lines(run: Results) -> dict[str, list[Network]]:
    """Returns networks that differ in one setting, the smallest first, by what they share.

    That setting is how much was pruned or, without pruning, that of the last stage.
    """
    by_words: dict[str, list[Network]] = {}
    for network in run.networks[1:]:
        chain = run.chain(network)[1:]
        pruned = [n.name for n in chain if n.stage == "prune"]
        swept = pruned[-1] if pruned else network.name
        words = [n.stage if n.name == swept else n.step for n in chain]
        by_words.setdefault(" + ".join(words), []).append(network)
    return {
        label: sorted(networks, key=lambda n: n.mean_bytes) for label, networks in by_words.items()
    }


def bars(run: Results) -> list[Network]:
    """Returns the leaves, or some of the Pareto front if they are many, and the chosen networks.

    The smallest one is last.
    """
    chosen = run.chosen()
    shown = run.leaves
    if len(shown) > MOST_BARS:
        sign = run.metric.sign
        enough = sign * np.mean(run.original.test) - run.near
        front = [n for n in run.front() if n.leaf and sign * np.mean(n.test) >= enough]
        front = [n for n in front if n not in chosen]
        room = min(len(front), MOST_BARS - len(chosen))
        shown = [front[i] for i in np.linspace(0, len(front) - 1, room).round().astype(int)]
    named = {network.name: network for network in [*shown, *chosen]}
    return sorted(named.values(), key=lambda n: -n.mean_bytes)


def _bytes_of(network: Network, kind: str) -> float:
    """Returns the bytes of all streams of a kind, the mean over replicates."""
    sizes = [stream.bytes for stream in network.streams if stream.kind == kind]
    return float(np.mean(np.sum(sizes, axis=0))) if sizes else 0.0


def _errors(ax: Axes, networks: Sequence[Network], **style: Any) -> None:
    x, x_spread = zip(*(mean_and_spread(n.bytes) for n in networks), strict=True)
    y, y_spread = zip(*(mean_and_spread(n.test) for n in networks), strict=True)
    ax.errorbar(x, y, y_spread, x_spread, elinewidth=0.8, **style)


def _mark(ax: Axes, run: Results) -> None:
    """Draws rings around the chosen networks."""
    for words, loss in run.losses.items():
        if network := run.smallest(loss):
            style: dict[str, Any] = {"marker": "o", "mfc": "none", "linestyle": "none", "mew": 1.6}
            size, color = (13, "#c00000") if loss == 0 else (9, "#e08000")
            label = f"smallest {words}"
            x, y = network.mean_bytes, float(np.mean(network.test))
            ax.plot(x, y, ms=size, mec=color, label=label, zorder=5, **style)


def _bytes_axis(ax: Axes) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.set_xlabel("size of the file")
    low, high = ax.get_xlim()
    if high < LEAST_SPAN * low:  # labels of almost equal sizes would overlap
        middle, half = (low * high) ** 0.5, LEAST_SPAN**0.5
        low, high = middle / half, middle * half
        ax.set_xlim(low, high)
    subs = (1, 2, 5) if high < 15 * low else (1, 3) if high < 500 * low else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter(EngFormatter(unit="B"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", labelsize=8)


def _quantised(run: Results, network: Network) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns path → kept weights before, distinct values after; of replicate 0, verified."""
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if not network.bits:
        return weights
    variables, mask = results.load_all(run.folder, network.name)
    loaded: dict[str, Any] = {}
    for path in network.bits:
        earlier = [n.name for n in run.chain(network) if path not in n.bits and path in n.sizes]
        if not earlier:
            continue
        name = earlier[-1]
        if name not in loaded:
            loaded[name] = results.load(run.folder, name)
        before = results.parameter(loaded[name], path)[0]
        after = results.parameter(variables, path)[0]
        kept = np.asarray(mask[path])[0] if path in mask else np.ones(after.shape, bool)
        weights[path] = before[kept], np.unique(after[kept])
    return weights
