"""The figures of a run: each function draws a PNG from results, and returns its caption too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from groundwork.report import figures
from groundwork.runs.metrics import mean_and_spread
from msdnet import calibration
from msdnet.results import Network, Results, on_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES: dict[str, dict[str, Any]] = {
    "msdnet": {"color": "#1f5fb4", "label": "MSDNet"},
    "resnet_exits": {"color": "#d1622b", "label": "ResNet with classifiers"},
    "resnets": {"color": "#3a8f4d", "label": "ResNets in turn"},
    "slimmable": {"color": "#8a4fb0", "label": "slimmable network, widths in turn"},
    "separate": {"color": "#8c7a2b", "label": "separate widths in turn"},
    "heads": {"color": "#2a9d8f"},  # labelled by their models
    "heads_2": {"color": "#c2557a"},
}
ALONE: dict[str, dict[str, Any]] = {
    "resnets": {"color": "black", "label": "plain ResNets", "marker": "D"},
    "slimmable": {"color": "#8a4fb0", "label": "slimmable network, width chosen", "marker": "s"},
    "separate": {"color": "#8c7a2b", "label": "widths trained separately", "marker": "^"},
}
HEADS = ("heads", "heads_2")
SPREAD = "Lines are means over replicates, bands one standard deviation."
MILLION = 1e6
LEGEND_COLUMNS = 6


def label(run: Results, name: str) -> str:
    """Returns what a network is called in figures and tables."""
    if "label" in STYLES[name]:
        return str(STYLES[name]["label"])
    model = run.config[name]["model"]["name"]
    alike = [other for other in HEADS if run.config[other]["model"]["name"] == model]
    return f"{model} with {name if len(alike) > 1 else 'heads'}"


def style(run: Results, name: str) -> dict[str, Any]:
    """Returns how a network is drawn."""
    return {**STYLES[name], "label": label(run, name)}


def anytime(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the test accuracy of each exit against what a prediction there costs."""
    spent = {name: [m / MILLION for m in one.macs] for name, one in run.networks.items()}
    figure, (ax,) = figures.subplots()
    _exits(ax, run, spent, _macs_alone)
    _finish(ax, "multiply-adds of a prediction (millions)")
    caption = (
        "Anytime prediction: accuracy of each exit against the multiply-adds spent up to it, "
        f"earlier classifiers included. {_costs_itself(run)}{SPREAD}"
    )
    return figures.save(figure, path), caption


def measured(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the test accuracy of each exit against the milliseconds that were measured."""
    spent = {name: one.milliseconds for name, one in run.networks.items()}
    figure, (ax,) = figures.subplots()
    _exits(ax, run, spent, lambda network: network.milliseconds_alone)
    _finish(ax, "milliseconds per image")
    caption = (
        "Accuracy of each exit against the time up to it, as it was measured on this run's "
        f"machine. {_costs_itself(run)}{SPREAD}"
    )
    return figures.save(figure, path), caption


def budgeted(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the test accuracy against mean multiply-adds, over a sweep of budgets."""
    figure, (ax,) = figures.subplots()
    for name, network in run.networks.items():
        grid, accuracy = on_grid(network.budgeted())
        figures.band(ax, (grid / MILLION).tolist(), list(accuracy), **style(run, name))
    if "msdnet" in run.networks:
        network = run.networks["msdnet"]
        x = [macs / MILLION for macs in network.macs]
        dotted = {**STYLES["msdnet"], "label": "MSDNet, anytime", "linestyle": ":"}
        ax.plot(x, network.accuracy.mean(0), marker="o", ms=3, lw=1, **dotted)
    _alone(ax, run, _macs_alone)
    _finish(ax, "mean multiply-adds per image (millions)")
    caption = (
        "Budgeted batch: each image leaves at the first exit that is confident enough; thresholds "
        f"from the validation split. {_costs_itself(run)}{SPREAD}"
    )
    return figures.save(figure, path), caption


def exits_by_class(network: Network, path: Path) -> tuple[Path, str]:
    """Draws the share of each class that leaves at each exit, at `network.middle` multiply-adds."""
    labels = network.answers["test"]["labels"]
    routed = np.stack([exits_of for exits_of, _ in network.at_budget(network.middle)])
    classes, last = int(labels.max()) + 1, len(network.macs)
    counts = np.array(
        [[np.sum(routed[:, labels == c] == k) for k in range(last)] for c in range(classes)]
    )
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # a class may have no example
    figure, (ax,) = figures.subplots(width=5.6)
    bottom = np.zeros(classes)
    for k in range(last):
        colour = figures.colours("viridis")(k / max(last - 1, 1))
        ax.bar(np.arange(classes), shares[:, k], bottom=bottom, color=colour, label=f"exit {k + 1}")
        bottom += shares[:, k]
    if classes <= 20:
        ax.set_xticks(range(classes))
    ax.set_xlabel("class")
    ax.set_ylabel("share of test images")
    ax.grid(False)
    figure.legend(loc="outside upper center", ncols=min(last, LEGEND_COLUMNS), fontsize=8)
    caption = (
        "Where the test images of each class leave, all replicates together, at a mean budget of "
        f"{network.middle:,.0f} multiply-adds."
    )
    return figures.save(figure, path), caption


def easy_and_hard(network: Network, path: Path) -> tuple[Path, str] | None:
    """Draws images that leave first and are right, and images that reach the last exit.

    Returns None where there are no images.
    """
    if not network.sheet:
        return None
    kinds = [(kind, network.sheet[kind]) for kind in ("easy", "hard") if kind in network.sheet]
    rows, columns = len(kinds), max(len(images) for _, images in kinds)
    plt = figures.pyplot()
    with plt.rc_context(figures.STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(0.75 * columns, rows), squeeze=False)
    for row, (kind, images) in zip(axes, kinds, strict=True):
        for ax in row:
            ax.axis("off")
        for ax, image in zip(row, images, strict=False):
            ax.imshow(image.squeeze(), cmap="gray")
        row[0].set_title(kind, loc="left")
    caption = (
        "Easy: test images that leave at the first exit and are right there. Hard: images that "
        "reach the last exit. Replicate 0, at a mean budget of "
        f"{network.middle:,.0f} multiply-adds."
    )
    return figures.save(figure, path), caption


def reliability(network: Network, path: Path) -> tuple[Path, str]:
    """Draws accuracy against the predicted class's probability, one line per exit."""
    figure, (ax,) = figures.subplots()
    probabilities = network.answers["test"]["probabilities"]
    last, errors = probabilities.shape[-1], network.calibration_errors.mean(0)
    for k in range(last):
        bins = calibration.reliability(
            probabilities[..., k].ravel(), network.correct[..., k].ravel()
        )
        seen = bins.examples >= 20
        x, y = bins.confidence[seen], bins.accuracy[seen]
        label = f"exit {k + 1}: off by {errors[k]:.3f}"
        colour = figures.colours("viridis")(k / max(last - 1, 1))
        ax.plot(x, y, marker="o", ms=3, color=colour, label=label)
    ax.plot([0, 1], [0, 1], color="black", lw=0.8, linestyle="--")
    ax.set_xlabel("probability of the predicted class")
    ax.set_ylabel("test accuracy")
    ax.legend(fontsize=7)
    caption = (
        "Is an exit right as often as it says? On the dashed line, it is; the legend has the "
        "expected calibration error, its mean over replicates. Lines join bins of 20 and more "
        "predictions of all replicates."
    )
    return figures.save(figure, path), caption


def _exits(
    ax: Axes,
    run: Results,
    spent: Mapping[str, Sequence[float]],
    alone: Callable[[Network], Sequence[float]],
) -> None:
    """Draws a line for each network over what its exits have `spent`, and those that are alone."""
    for name, network in run.networks.items():
        accuracies = list(network.accuracy.T)
        figures.band(ax, spent[name], accuracies, marker="o", ms=3.5, **style(run, name))
    _alone(ax, run, alone)


def _alone(ax: Axes, run: Results, alone: Callable[[Network], Sequence[float]]) -> None:
    """Draws each exit that is a network of its own, at its own cost."""
    for network in run.networks.values():
        if not network.alone:
            continue
        accuracies = network.accuracy.T  # [K, R]
        mean, spread = zip(*(mean_and_spread(accuracy) for accuracy in accuracies), strict=True)
        style = {"linestyle": "none", "capsize": 2, "ms": 3.5, **ALONE[network.name]}
        ax.errorbar(alone(network), mean, spread, **style)


def _macs_alone(network: Network) -> list[float]:
    return [cost.macs / MILLION for cost in network.costs]


def _costs_itself(run: Results) -> str:
    """Returns which points of the figure cost nothing but themselves."""
    labels = [ALONE[name]["label"] for name, network in run.networks.items() if network.alone]
    if not labels:
        return ""
    return f"Single points ({', '.join(labels)}) are called alone and cost only themselves. "


def _finish(ax: Axes, label: str) -> None:
    ax.set_xlabel(label)
    ax.set_ylabel("test accuracy")
    ax.set_xlim(left=0)
    ax.legend(fontsize=8)
