"""The figures of a run: each function draws a PNG from results and returns its caption."""

from pathlib import Path
from typing import Any

import numpy as np

from groundwork.report import figures
from groundwork.runs.metrics import mean_and_spread
from lottery.early_bird.results import Network, Results

STYLES: dict[str, dict[str, Any]] = {
    "dense": {"color": "black", "marker": "D"},
    "ticket": {"color": "#1f5fb4", "marker": "o"},
    "late": {"color": "#d1622b", "marker": "^"},
    "reinit": {"color": "#3a8f4d", "marker": "x"},
    "random": {"color": "#888888", "marker": "s"},
}


def distances(run: Results, path: Path) -> tuple[Path, str]:
    """Draws the matrix of distances between masks, and the distances that the detector sees."""
    mean = run.distances.mean(0)
    count = len(mean)
    figure, (left, right) = figures.subplots(2, width=4.2, height=3.4)
    ends = (0.5, count + 0.5)
    image = left.imshow(mean, cmap="viridis", origin="lower", extent=(*ends, *ends), vmin=0)
    figure.colorbar(image, ax=left, label="share of entries that differ")
    left.grid(False)
    left.set_xlabel("epoch")
    left.set_ylabel("epoch")
    steps = np.diagonal(run.distances, 1, axis1=1, axis2=2).T  # [E − 1, R]
    figures.band(right, range(2, count + 1), steps.tolist(), color="#1f5fb4", marker="o", ms=3)
    how = run.config["early_bird"]
    right.axhline(how["threshold"], color="black", lw=0.8, ls="--", label="threshold")
    chance = 2 * how["ratio"] * (1 - how["ratio"])
    right.axhline(chance, color="#888888", lw=0.8, ls=":", label="of random masks")
    if run.epoch is not None:
        for ax in (left, right):
            label = "the ticket is drawn" if ax is right else None
            ax.axvline(run.epoch, color="#d1622b", lw=1.2, label=label)
    left.locator_params(integer=True)
    right.locator_params("x", integer=True)
    right.set_ylim(bottom=0)
    right.set_xlabel("epoch")
    right.set_ylabel("distance from the epoch before")
    right.legend(fontsize=7)
    caption = (
        "Distances between the masks of all epochs, as the share of entries that differ (left), "
        "and of each from the one before, which the detector sees (right). Means over replicates; "
        "the band is one standard deviation."
    )
    if run.epoch is not None:
        caption += " The orange line is where the ticket was drawn."
    return figures.save(figure, path), caption


def accuracy(run: Results, path: Path) -> tuple[Path, str]:
    """Draws test accuracy against the multiply-adds of all training that led to a network."""
    figure, (ax,) = figures.subplots()
    networks: dict[str, Network] = {"dense": run.dense, **run.networks}
    for name, network in networks.items():
        mean, spread = mean_and_spread(network.test)
        style = {**STYLES[name], "label": name, "ms": 5, "linestyle": "none", "capsize": 2}
        ax.errorbar(network.training_macs, mean, spread, **style)
    ax.set_xlim(left=0)
    ax.set_xlabel("multiply-adds of the training, of one replicate")
    ax.set_ylabel(f"test {run.metric.words}")
    figure.legend(loc="outside upper center", ncols=3)
    caption = (
        f"Test {run.metric.words} against the multiply-adds of all training that led to a network. "
        "Means over replicates; bars are one standard deviation."
    )
    return figures.save(figure, path), caption
