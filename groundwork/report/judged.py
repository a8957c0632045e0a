"""What a loss's judge says of networks, in tables; and what they answer, in pictures.

Read `beside` and `pictures` first.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.report import figures
from groundwork.report.tables import Rows, plus_minus
from groundwork.runs.results import RunResults

Judged = Mapping[str, Mapping[str, Sequence[float]]]  # name → split → [R] numbers

CLEAR = 0.3  # the least score of a detection that is drawn
STYLES = {"truth": ("#35c759", "--"), "found": ("#ff5a4d", "-")}


def beside(rows: Rows, judged: Sequence[Judged]) -> Rows:
    """Returns a table with a column for the test values of each name, if there are any.

    Args:
      rows: a header, and one row for each of `judged`.
      judged: what is known of each row; may be empty.
    """
    header, lines = rows
    names = list(dict.fromkeys(name for one in judged for name in one))
    more = [
        [
            plus_minus(list(one[name]["test"]), 4) if "test" in one.get(name, {}) else ""
            for name in names
        ]
        for one in judged
    ]
    words = [name.replace("_", " ") for name in names]
    return [*header, *words], [[*a, *b] for a, b in zip(lines, more, strict=True)]


def pictures(
    run: RunResults, networks: Mapping[str, Mapping[str, Any]], path: Path
) -> tuple[Path, str] | None:
    """Draws what networks answer to a few test examples; returns the file and its caption.

    None if the run's loss has no picture, or nothing was kept.

    Args:
      run: whose config names the loss.
      networks: name → `inputs`, `targets` and `answers` that the unit has kept.
      path: of the PNG.
    """
    draw = PICTURES.get(run.config.get("loss", ""))
    kept = {name: shown for name, shown in networks.items() if shown}
    return draw(kept, path) if draw and kept else None


def detections(networks: Mapping[str, Mapping[str, Any]], path: Path) -> tuple[Path, str]:
    """Draws boxes on images, a row for each network; see `pictures` and `groundwork.detection`."""
    first = next(iter(networks.values()))
    columns = len(first["inputs"])
    figure, axes = figures.grid(
        columns * len(networks), columns, width=2.1, height=2.3, labels=("", "")
    )
    names = figures.short(list(networks))
    for row, (name, shown) in enumerate(zip(names, networks.values(), strict=True)):
        for column, ax in enumerate(axes[row * columns : (row + 1) * columns]):
            _draw(ax, shown, column)
            if not column:
                ax.set_ylabel(name, fontsize=8)
    caption = (
        "The first test images: objects (green, dashed; their class at the lower edge) and what "
        f"replicate 0 detects with a score of {CLEAR} at least (red; class and score at the upper)."
    )
    return figures.save(figure, path), caption


def _draw(ax: Any, shown: Mapping[str, Any], place: int) -> None:
    image = np.asarray(shown["inputs"][place])
    grey = image.shape[-1] == 1
    ax.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for *box, label in np.asarray(shown["targets"][place]):
        if label >= 0:
            _box(ax, box, f"{label:.0f}", "truth")
    found = {key: np.asarray(leaf[place]) for key, leaf in shown["answers"].items()}
    for box, score, label in zip(found["boxes"], found["scores"], found["classes"], strict=True):
        if score >= CLEAR:
            _box(ax, box, f"{label} {score:.2f}", "found")


def _box(ax: Any, box: Sequence[float], text: str, kind: str) -> None:
    """Draws a box (centre x, centre y, width, height) in pixels; pixel 0 is centred at 0."""
    from matplotlib.patches import Rectangle

    colour, line = STYLES[kind]
    x, y, width, height = box
    corner = (x - width / 2 - 0.5, y - height / 2 - 0.5)
    ax.add_patch(
        Rectangle(corner, width, height, fill=False, edgecolor=colour, linestyle=line, lw=1.1)
    )
    edge, align = (corner[1], "top") if kind == "found" else (corner[1] + height, "bottom")
    back = {"facecolor": "black", "alpha": 0.6, "pad": 0.5, "linewidth": 0}
    ax.text(corner[0], edge, text, color=colour, fontsize=6.5, va=align, clip_on=True, bbox=back)


PICTURES = {"squeezedet": detections}  # the name of a loss → what draws its answers
