"""The figures of a search: each function draws a PNG from results and returns its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress import results as networks
from compress.search import history
from compress.search.history import Candidate
from compress.search.results import Results, settings_of
from compress.search.tables import UNITS, kept_of
from groundwork.report import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "analytic": "#1f5fb4",
    "uniform": "#d1622b",
    "local": "#5bb0d8",
    "nsga2": "#3a8f4d",
    "tpe": "#8a4fa3",
    "random": "#999999",
    "given": "#1f5fb4",
}
LEGEND: dict[str, Any] = {"fontsize": 8, "frameon": False}
LINES = ("#1f5fb4", "#d1622b", "#3a8f4d", "#8a4fa3", "#5bb0d8", "#b5891b", "#c2418c", "#555555")
ABOVE = 0.25  # of the span below the original that is shown above it


def fronts(run: Results, path: Path) -> tuple[Path, str]:
    """Draws validation accuracy against each cost: candidates, the front, and what lies beside."""
    names = [*run.objectives, *(name for name in run.measured if name not in run.objectives)]
    names = [name for name in names if _spread(run, name)] or run.objectives[:1]
    figure, axes = figures.grid(
        len(names), 2, width=4.4, height=3.6, labels=("", f"validation {run.metric.words}")
    )
    for ax, name in zip(axes, names, strict=True):
        _candidates(ax, run, name)
        front = history.front(run.candidates, [name], run.metric.sign)
        ax.step(
            [one.cost(name) for one in front],
            [one.accuracy for one in front],
            where="post", color="black", lw=5, alpha=0.15, label="Pareto front", zorder=0,
        )  # fmt: skip
        ax.axhline(float(np.mean(run.original.validation)), color="black", lw=0.8, linestyle=":")
        if name in run.asked:
            ax.axvline(run.asked[name], color="#c00000", lw=0.8, linestyle="--", label="budget")
        if name == "bytes":
            _baselines(ax, run)
        figures.cost_axis(ax)
        ax.set_xlabel(UNITS[name])
        _near(ax, run)
    handles: dict[str, Any] = {}
    for ax in axes:
        handles = {**dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True)), **handles}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, **LEGEND)
    caption = (
        f"Validation {run.metric.words} against costs, means over replicates. Each point is a "
        "candidate after its last round, and the ring is the chosen one in the end; the grey line "
        "joins those that no other beats in the two; "
        f"dotted: the original's {run.metric.words}."
    )
    return figures.save(figure, path), caption


def layers(run: Results, path: Path) -> tuple[Path, str] | None:
    """Draws what the chosen network does to each layer, as bars; None if nothing is chosen."""
    chosen, settings = run.chosen, settings_of(run)
    if chosen is None or not settings:
        return None
    names = list(settings)
    kept = [kept_of(chosen, name) for name in names]
    panels: dict[str, list[float]] = {
        "weights kept, of those left": [k / n if n else 1.0 for k, n in kept],
        "bits of a weight": [float(settings[name].bits or 32) for name in names],
    }
    if any(one.units < 1 for one in settings.values()):
        panels["units kept"] = [settings[name].units for name in names]
    if any(one.method for one in settings.values()):
        panels["rank (0: whole)"] = [float(np.max(settings[name].rank)) for name in names]
    if any(one.activation_bits for one in settings.values()):
        panels["bits of inputs"] = [float(one.activation_bits or 32) for one in settings.values()]
    figure, axes = figures.subplots(len(panels), width=3.2, height=1.2 + 0.3 * len(names))
    places = np.arange(len(names))
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        bars = ax.barh(places, values, color="#1f5fb4", height=0.7)
        ax.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=8, padding=2)
        ax.set_yticks(places, figures.short(names) if ax is axes[0] else [], fontsize=8)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, 1.2 * max(values))
        ax.set_xlabel(title)
        ax.grid(axis="y", visible=False)
    caption = (
        "What the chosen network does to each layer. Weights are those of kernels (and factors) "
        "that its units and ranks leave; 32 bits are those of float32."
    )
    return figures.save(figure, path), caption


def progress(runs: Mapping[str, Results], path: Path) -> tuple[Path, str]:
    """Draws the hypervolume in the first objective against evaluations, one line per search."""
    figure, axes = figures.subplots(1, width=5.6, height=3.6)
    first = next(iter(runs.values()))
    name = first.objectives[0]
    labels = figures.short(list(runs))
    for number, (label, run) in enumerate(zip(labels, runs.values(), strict=True)):
        counts = range(1, len(run.candidates) + 1)
        volumes = [run.volume(name, count) for count in counts]
        colour = LINES[number % len(LINES)]
        axes[0].step(counts, volumes, where="post", color=colour, label=label)
        if len(runs) == 1:
            _origins(axes[0], run, volumes)
    axes[0].set_xlabel("evaluations")
    axes[0].set_ylabel(f"hypervolume in {UNITS[name]}")
    axes[0].set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=3, **LEGEND)
    caption = (
        "How the search went: the area below the front, of (accuracy above the original's − "
        f"{networks.NEAR:g}) × log₁₀ of how many times less the {UNITS[name]} are than the "
        "original's. More is better."
    )
    return figures.save(figure, path), caption


def _candidates(ax: Axes, run: Results, name: str) -> None:
    by_origin: dict[str, list[Candidate]] = {}
    for one in history.evaluated(run.candidates):
        by_origin.setdefault(one.origin, []).append(one)
    for origin, some in by_origin.items():
        style: dict[str, Any] = {"marker": "s" if origin == "uniform" else "o", "ms": 4.5}
        x, y = [one.cost(name) for one in some], [one.accuracy for one in some]
        ax.plot(x, y, linestyle="none", color=COLOURS[origin], label=origin, **style)
    if run.chosen is not None:
        known = {
            "bytes": run.chosen.mean_bytes,
            "parameters": float(np.mean(run.chosen.parameters)),
        }
        cost = known.get(name, run.candidates[run.candidate].cost(name))
        style = {"ms": 12, "mfc": "none", "mec": "#c00000", "mew": 1.6, "linestyle": "none"}
        ax.plot(cost, float(np.mean(run.chosen.validation)), marker="o", label="chosen", **style)


def _baselines(ax: Axes, run: Results) -> None:
    """Draws the fronts of finished runs of `compress`."""
    for folder in run.config["search"]["baselines"]:
        other = networks.read(folder)
        points = [(n.mean_bytes, float(np.mean(n.validation))) for n in other.networks[1:]]
        values = [run.metric.sign * value for _, value in points]
        best = networks.pareto([cost for cost, _ in points], values)
        x, y = zip(*(points[place] for place in best), strict=True)
        label = figures.short([other.name])[0]
        ax.plot(x, y, marker="^", ms=4, lw=0.8, color="#b5891b", label=label)


def _near(ax: Axes, run: Results) -> None:
    """Shows what is near the original, if anything is, and leaves out what has failed."""
    if not run.metric.higher_is_better or not run.metric.is_share:
        return
    top = float(np.mean(run.original.validation))
    values = [one.accuracy for one in history.evaluated(run.candidates)]
    low = max(min(values), top - 3 * networks.NEAR) if max(values) > top - networks.NEAR else None
    if low is not None:
        span = max(top - low, 0.01)
        ax.set_ylim(low - 0.1 * span, min(max(top, *values) + ABOVE * span, 1.005))


def _origins(ax: Axes, run: Results, volumes: Sequence[float]) -> None:
    for origin in dict.fromkeys(one.origin for one in run.candidates if one.judged):
        places = [i for i, one in enumerate(run.candidates) if one.origin == origin and one.judged]
        x, y = [place + 1 for place in places], [volumes[place] for place in places]
        ax.plot(x, y, "o", ms=4, color=COLOURS[origin], label=origin)


def _spread(run: Results, name: str) -> bool:
    """Returns whether candidates differ in a cost."""
    values = {one.cost(name) for one in history.evaluated(run.candidates)}
    return len(values) > 1
