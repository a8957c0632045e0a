"""The house as a picture: floors, and which imports which, drawn from the import graph itself."""

import html
import math
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent.parent
Edges = dict[tuple[str, str], int]  # (importer, imported) → modules that import, times

ROW, BOX, HEIGHT, ARC = 46, 250, 32, 20  # pixels: a row, a box, and how far arcs go for each floor


def floors(root: Path = ROOT) -> tuple[list[str], list[str]]:
    """Returns the packages and the rooms of groundwork, from the top, as the contracts say."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    layers = [c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    split = [[name.strip() for layer in c["layers"] for name in layer.split("|")] for c in layers]
    rooms = [name.strip() for row in split[1][:-1] for name in row.split(":")]
    return split[0], [f"groundwork.{name}" for name in rooms]


def imports(names: list[str]) -> tuple[Edges, dict[str, int]]:
    """Returns how many imports of modules go from one to another, and the modules of each."""
    packages = sorted({name.split(".")[0] for name in names})
    graph = grimp.build_graph(*packages, cache_dir=None)
    sizes = {name: 1 + len(graph.find_descendants(name)) for name in names}
    edges: Edges = {}
    for upper in names:
        for lower in names:
            inside = {lower} | graph.find_descendants(lower)
            found = sum(
                len(graph.find_modules_directly_imported_by(module) & inside)
                for module in {upper} | graph.find_descendants(upper)
            )
            if upper != lower and found:
                edges[upper, lower] = found
    return edges, sizes


def drawn(names: list[str], edges: Edges, sizes: dict[str, int], title: str) -> str:
    """Returns an SVG: one row for each name, and an arc from each importer to what it imports."""
    row = {name: index for index, name in enumerate(names)}
    widest = max(abs(row[upper] - row[lower]) for upper, lower in edges)
    width, height = BOX + 30 + ARC * widest, ROW * len(names)
    parts = [
        f'<svg class="house" role="img" viewBox="0 0 {width} {height}" width="{width}"'
        f' xmlns="http://www.w3.org/2000/svg"><title>{html.escape(title)}</title>',
        '<defs><marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6"'
        ' markerHeight="6" orient="auto" markerUnits="userSpaceOnUse">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for (upper, lower), count in sorted(edges.items()):
        parts.append(_arc(row, upper, lower, count, edges))
    for name in names:
        top = ROW * row[name] + (ROW - HEIGHT) // 2
        many = "module" if sizes[name] == 1 else "modules"
        parts.append(
            f'<rect x="1" y="{top}" width="{BOX - 2}" height="{HEIGHT}" rx="5"/>'
            f'<text x="12" y="{top + 21}">{name.split(".")[-1]}</text>'
            f'<text class="size" x="{BOX - 12}" y="{top + 21}">{sizes[name]} {many}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _arc(row: dict[str, int], upper: str, lower: str, count: int, edges: Edges) -> str:
    """Leaves the importer's box in the lower half, and enters the other in the upper half."""
    below = sorted(row[name] for importer, name in edges if importer == upper)
    above = sorted((row[name] for name, imported in edges if imported == lower), reverse=True)
    leaves = ROW * row[upper] + ROW / 2 + 12 - 10 * (below.index(row[lower]) + 1) / len(below)
    enters = ROW * row[lower] + ROW / 2 - 12 + 10 * (above.index(row[upper]) + 1) / len(above)
    far = BOX + 14 + ARC * abs(row[upper] - row[lower])
    said = f"{upper} imports {lower}: {count} {'import' if count == 1 else 'imports'}"
    thick = 0.8 + 0.5 * math.log2(count)
    return (
        f'<path class="arc" style="stroke-width:{thick:.1f}" marker-end="url(#to)"'
        f' d="M{BOX} {leaves:.1f}C{far} {leaves:.1f} {far} {enters:.1f} {BOX + 2} {enters:.1f}">'
        f"<title>{html.escape(said)}</title></path>"
    )


def pictures(root: Path = ROOT) -> dict[str, str]:
    """Returns what stands for each mark of the page. Raises ValueError where imports run upward."""
    packages, rooms = floors(root)
    marks = {}
    for mark, names, title in (
        ("<!-- packages -->", packages, "Packages, from the top, and which imports which"),
        ("<!-- rooms -->", rooms, "Rooms of groundwork, from the top, and which imports which"),
    ):
        edges, sizes = imports(names)
        upward = [edge for edge in edges if names.index(edge[0]) > names.index(edge[1])]
        if upward:
            raise ValueError(f"imports run upward: {upward}")
        marks[mark] = f"```{{raw}} html\n{drawn(names, edges, sizes, title)}\n```\n"
    return marks
