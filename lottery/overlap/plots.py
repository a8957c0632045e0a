"""The figures of masks compared: each function draws a PNG and returns its caption."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from groundwork.report import figures
from lottery.analysis import Compared
from lottery.overlap.measured import Masks
from pruning.masks import Mask

LETTERS = 8  # rows of a heat map, up to which its cells have numbers
PIXELS = 6  # levels whose inputs are drawn


def heat(overlap: Compared, names: Sequence[str], what: str, path: Path) -> tuple[Path, str]:
    """Draws the Jaccard index of each two masks, beside that of random masks.

    Args:
      overlap: fields [n, n].
      names: of the masks.
      what: what they are, such as "levels".
      path: of the file.
    """
    figure, axes = figures.subplots(2, width=4.4, height=3.8)
    labels = figures.short(names, 16)
    for ax, title, values in zip(
        axes, ("found", "by chance"), (overlap.jaccard, overlap.chance), strict=True
    ):
        image = ax.imshow(values, vmin=0, vmax=1, cmap="viridis")
        ax.set_title(title)
        ax.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
        ax.set_yticks(range(len(labels)), labels, fontsize=7)
        ax.grid(False)
        if len(labels) <= LETTERS:
            for (row, column), value in np.ndenumerate(values):
                colour = "black" if value > 0.6 else "white"
                ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes, label="Jaccard index")
    caption = (
        f"The Jaccard index of the masks of each two {what} (weights that both keep / weights that "
        "one of them keeps), and that of random masks that keep as many weights of each layer."
    )
    return figures.save(figure, path), caption


def pixels(masks: Masks, path: Path) -> tuple[Path, str] | None:
    """Draws how many weights each input pixel keeps, at some levels; None if inputs are no image.

    The first layer is a matrix whose rows are pixels: a square of them, of 1 or 3 channels.
    """
    mask = masks.levels[masks.last][0]
    first = _first(mask)
    shape = _image(mask[first].shape[0]) if first else None
    if not first or not shape:
        return None
    levels = list(masks.levels)
    chosen = np.unique(np.linspace(0, len(levels) - 1, PIXELS).round().astype(int))
    labels = ("", "")
    figure, axes = figures.grid(len(chosen), 3, width=2.6, height=2.5, labels=labels)
    for ax, place in zip(axes, chosen, strict=True):
        kept = [np.asarray(one[first]).sum(1) for one in masks.levels[levels[place]]]
        image = ax.imshow(np.mean(kept, axis=0).reshape(shape).sum(-1), cmap="viridis")
        figure.colorbar(image, ax=ax, shrink=0.8)
        ax.set_title(f"level {levels[place]}", fontsize=8)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(False)
    caption = (
        f"How many weights of {first} each input pixel keeps: means over replicates, summed "
        "over channels."
    )
    return figures.save(figure, path), caption


def _first(mask: Mask) -> str | None:
    """Returns the path of the first layer of a network of matrices, if their shapes tell it.

    It alone takes as many inputs as no layer gives.
    """
    matrices = {path: leaf.shape for path, leaf in mask.items() if leaf.ndim == 2}
    given = {outputs for _, outputs in matrices.values()}
    first = [path for path, (inputs, _) in matrices.items() if inputs not in given]
    if len(first) != 1 or any(leaf.ndim > 2 for leaf in mask.values()):
        return None
    return first[0]


def _image(inputs: int) -> tuple[int, int, int] | None:
    """Returns height, width and channels of a square image of so many inputs."""
    for channels in (1, 3):
        side = round((inputs / channels) ** 0.5)
        if side > 3 and side * side * channels == inputs:
            return side, side, channels
    return None
