"""A graph as a picture: a box for each operation, from top to bottom. Read `picture`."""

from pathlib import Path
from typing import Any

from deploy.graphs.graph import FREE, Graph, Node
from groundwork.report import figures

ROW, COLUMN = 0.52, 3.0  # inches
BOX = (2.7, 0.36)
TALLEST = 300.0  # inches, of which matplotlib draws an image of 48,000 pixels
COLOURS = {"conv": "#cfe2f3", "dense": "#cfe2f3", "matmul": "#cfe2f3", "add": "#fce5cd"}
COLOURS |= {"concat": "#fce5cd", "max_pool": "#d9ead3", "average_pool": "#d9ead3"}
COLOURS |= {"mean": "#d9ead3"}
NAMED = {(0.0, float("inf")): "ReLU", (0.0, 6.0): "ReLU6"}


def picture(graph: Graph, path: str | Path) -> Path:
    """Draws a graph and returns the file.

    An operation stands below all that it reads; one that reads something further above than the
    line before it has a curve beside the column. Constants are not drawn.

    Args:
      graph: what is drawn.
      path: of a PNG or an SVG file.

    Raises:
      ValueError: the graph is too deep for a picture: `table` shows it.
      OSError: the file cannot be written.
    """
    places = _places(graph)
    depth = max(row for row, _ in places.values()) + 1
    wide = max(column for _, column in places.values()) + 1
    if depth * ROW > TALLEST:
        raise ValueError(f"the graph has {depth} operations in a row, too many for a picture")
    plt = figures.pyplot()
    with plt.rc_context({**figures.STYLE, "savefig.dpi": 100, "axes.grid": False}):
        figure, ax = plt.subplots(figsize=(COLUMN * wide + 1, ROW * depth + 0.4))
        ax.set_axis_off()
        ax.set_xlim(-COLUMN / 2, COLUMN * (wide - 0.5) + 1)
        ax.set_ylim(-ROW * depth, ROW * 0.7)
        for name in graph.inputs:
            _box(ax, places[name], name, _size(graph, name), "#eeeeee")
        for node in graph.nodes:
            said = f"{_said(graph, node)} → {_size(graph, node.output)}"
            colour = COLOURS.get(node.operation, "#ffffff")
            _box(ax, places[node.output], node.output, said, colour)
            for name in dict.fromkeys(node.inputs):
                if name in places:
                    _edge(ax, places[name], places[node.output])
    return figures.save(figure, Path(path))


def _places(graph: Graph) -> dict[str, tuple[int, int]]:
    """Returns of each value its row, below all that it is computed from, and its column."""
    rows = dict.fromkeys(graph.inputs, 0)
    for node in graph.nodes:
        above = [rows[name] for name in node.inputs if name in rows]
        rows[node.output] = 1 + max(above, default=0)
    taken: dict[int, int] = {}
    places = {}
    for name, row in rows.items():
        places[name] = row, taken.get(row, 0)
        taken[row] = taken.get(row, 0) + 1
    return places


def _said(graph: Graph, node: Node) -> str:
    """Returns what an operation does, in a few words."""
    options, said = node.attributes, node.operation
    if node.operation == "conv":
        window = graph.values[node.inputs[1]].shape[:2]
        said += f" {window[0]}×{window[1]}"
        said += f" groups {options['groups']}" if options["groups"] > 1 else ""
    elif "window" in options:
        said += " {}×{}".format(*options["window"])
    if max(strides := options.get("strides", (1,))) > 1:
        said += f" /{max(strides)}"
    bounds = options.get("bounds", FREE)
    return said if bounds == FREE else f"{said} {NAMED.get(bounds, bounds)}"


def _size(graph: Graph, name: str) -> str:
    return "×".join(map(str, graph.values[name].shape))


def _box(ax: Any, place: tuple[int, int], name: str, said: str, colour: str) -> None:
    x, y = place[1] * COLUMN, -place[0] * ROW
    low = (x - BOX[0] / 2, y - BOX[1] / 2)
    ax.add_patch(figures.pyplot().Rectangle(low, *BOX, facecolor=colour, edgecolor="#666666"))
    ax.text(x, y + 0.08, figures.short([name])[0], ha="center", va="center", fontsize=7)
    ax.text(x, y - 0.09, figures.plain(said), ha="center", va="center", fontsize=6)


def _edge(ax: Any, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Draws an arrow; one that passes other rows goes beside them."""
    passes = end[0] - start[0] > 1 and start[1] == end[1]
    beside = BOX[0] / 2 if passes else 0
    first = (start[1] * COLUMN + beside, -start[0] * ROW - (0 if passes else BOX[1] / 2))
    last = (end[1] * COLUMN + beside, -end[0] * ROW + (0 if passes else BOX[1] / 2))
    curve = f"arc3,rad={-min(0.5, 0.6 / (end[0] - start[0]))}" if passes else "arc3"
    style = {"arrowstyle": "->", "color": "#666666", "connectionstyle": curve, "lw": 0.8}
    ax.annotate("", last, first, arrowprops=style)
