"""What pages show of matplotlib's figures: the numbers, the looks, the words."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from groundwork.report import figures
from groundwork.report.charts import looks, words
from groundwork.report.charts.panels import panels


def drawn(draw):
    figure, (ax,) = figures.subplots()
    draw(ax)
    figure.canvas.draw()
    found = panels(figure)
    plt.close(figure)
    return found


def rows(panel, mark):
    """The rows of all layers with a mark."""
    layers = [layer for layer in panel["layer"] if layer["mark"]["type"] == mark]
    return [row for layer in layers for row in layer["data"]["values"]]


def test_a_band_is_a_line_its_points_and_its_spread():
    def draw(ax):
        figures.band(
            ax, [1, 2, 4], [[0.1, 0.3], [0.4, 0.4], [0.8, 1.0]], label="ticket", color="C1"
        )
        ax.set_xscale("log")
        ax.set(xlabel="cost", ylabel="accuracy")

    (panel,) = drawn(draw)
    found = rows(panel, "point")
    np.testing.assert_allclose(
        [(row["x"], row["y"]) for row in found], [(1, 0.2), (2, 0.4), (4, 0.9)]
    )
    assert [row.get("spread") for row in found] == ["0.1414", None, "0.1414"]
    low = [row["low"] for row in rows(panel, "area")]
    np.testing.assert_allclose(low, [0.2 - 0.02**0.5, 0.9 - 0.02**0.5])
    assert {row["name"] for row in found} == {"ticket"}
    (series,) = panel["usermeta"]["series"]
    assert (series["label"], series["colour"]) == ("ticket", "#ff7f0e")
    assert words.said(panel) == (
        "accuracy against cost. ticket: 3 points from 0.2000 to 0.9000, highest at 4."
    )


def test_layers_share_the_looks_of_all_series():
    def draw(ax):
        figures.band(ax, [1, 2], [[1.0], [2.0]], label="a", color="black", linestyle="--")
        ax.errorbar(
            [1], [1.5], [0.5], label="b", color="#123456", marker="s", mfc="none", ls="none"
        )

    (panel,) = drawn(draw)
    scales = [
        encoded["scale"]
        for layer in panel["layer"]
        for name, encoded in layer["encoding"].items()
        if name in ("color", "stroke")
    ]
    assert len(scales) == 3
    for scale in scales:
        assert dict(zip(scale["domain"], scale["range"], strict=True)) == {
            "a": looks.INK,
            "b": "#123456",
        }
    by_channel = {}
    for layer in panel["layer"]:
        for name, encoded in layer["encoding"].items():
            if isinstance(encoded, dict) and "scale" in encoded:
                by_channel.setdefault(name, []).append(encoded["scale"])
    for name, found in by_channel.items():  # layers share a scale: the first one's would count
        assert all(scale == found[0] for scale in found), name
    of = {series["name"]: series for series in panel["usermeta"]["series"]}
    assert of["a"]["dash"] == [6, 3]
    assert (of["b"]["dash"], of["b"]["fill"], of["b"]["shape"]) == (None, looks.PAPER, "square")
    (point,) = [row for row in rows(panel, "point") if row["series"] == "b"]
    assert point["spread"] == "0.5000"
    (bar,) = rows(panel, "rule")
    assert (bar["y"], bar["y2"], bar["series"]) == (1.0, 2.0, "b")


def test_axes_are_those_of_the_figure():
    def draw(ax):
        ax.plot([0.1, 1.0], [1, 2])
        figures.density_axis(ax)
        ax.set_yticks([1, 2], ["one", "$2$"])

    (panel,) = drawn(draw)
    x, y = (panel["layer"][0]["encoding"][axis] for axis in "xy")
    assert x["scale"]["type"] == "log"
    assert x["scale"]["reverse"]
    assert x["axis"]["values"] == [1, 0.5, 0.2, 0.1]
    assert y["axis"]["labelExpr"] == '["one", "2"][indexof([1.0, 2.0], datum.value)]'


def test_bars_rules_words_and_cells():
    def draw(ax):
        ax.bar([0, 1], [2.0, 3.5], width=0.5, color="C0", label="bytes", yerr=[0.5, 0.25])
        ax.axhline(3, color="black", label="dense")
        ax.text(0.5, 1.0, "here")

    (panel,) = drawn(draw)
    assert [row["value"] for row in rows(panel, "rect")] == ["2", "3.5000"]
    assert [(row["x"], row["x2"]) for row in rows(panel, "rect")] == [(-0.25, 0.25), (0.75, 1.25)]
    errors = [row for row in rows(panel, "rule") if "y2" in row]
    assert [(row["y"], row["y2"]) for row in errors] == [(1.5, 2.5), (3.25, 3.75)]
    assert {row["name"] for row in rows(panel, "rule")} == {"bytes", "dense"}
    (text,) = rows(panel, "text")
    assert (text["text"], round(text["x"], 9), round(text["y"], 9)) == ("here", 0.5, 1.0)
    (cells,) = drawn(lambda ax: ax.imshow([[0.0, 1.0], [0.25, 0.5]], cmap="gray"))
    found = rows(cells, "rect")
    assert [row["value"] for row in found] == ["0", "1", "0.2500", "0.5000"]
    assert [row["colour"] for row in found][:2] == ["#000000", "#ffffff"]
    assert (found[0]["x"], found[0]["y"], found[-1]["y2"]) == (-0.5, -0.5, 1.5)


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: ax.imshow(np.zeros((300, 300))),
        lambda ax: ax.imshow(np.zeros((3, 3, 3))),
        lambda ax: ax.fill_between([0, 1], [0, 1]),
        lambda ax: ax.scatter([0, 1], [0, 1]),
        lambda ax: ax.add_patch(plt.Rectangle((0, 0), 1, 1)),
        lambda ax: ax.set_xscale("logit"),
        lambda ax: ax.twinx().plot([1, 2]),
    ],
)
def test_what_has_no_form_in_a_page_is_left_to_the_picture(draw):
    assert drawn(draw) is None


def test_what_a_logarithmic_axis_cannot_show_is_left_out():
    def draw(ax):
        figures.band(ax, [1, 2, 3], [[0.0, 0.0], [0.1, 0.9], [0.5, 0.5]])
        ax.set_yscale("log")

    (panel,) = drawn(draw)
    assert [row["x"] for row in rows(panel, "point")] == [2, 3]
    (area,) = rows(panel, "area")
    low, _ = panel["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert area["low"] == max(low, 0.5 - 0.32**0.5)


def test_files_of_a_figure(tmp_path):
    figure, (ax,) = figures.subplots()
    ax.plot([0, 1, 2, 3], [0.0, 0.5, 0.25, 1.0])
    figures.save(figure, tmp_path / "a.png")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.pdf", "a.json"}
    (panel,) = json.loads((tmp_path / "a.json").read_text())
    assert all(
        float(tick).is_integer() for tick in panel["layer"][0]["encoding"]["x"]["axis"]["values"]
    )
    figure, (ax,) = figures.subplots()
    ax.imshow(np.zeros((300, 300)))
    figures.save(figure, tmp_path / "a.png")  # drawn again as what a page cannot tell
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.pdf"}


def test_numbers_are_those_of_tables():
    texts = [looks.number(value) for value in (266610.0, 91610.3, 0.77625, 12.5, 1.25e-5, 0)]
    assert texts == ["266,610", "91,610", "0.7762", "12.5000", "1.25e-05", "0"]


# Colours that colour-blind readers tell apart: Machado, Oliveira and Fernandes 2009, severity 1.
BLIND = {
    "sight": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lightness_and_colour(rgb):
    """CIE L*a*b* of linear sRGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", BLIND)
def test_the_usual_branches_have_colours_that_everybody_tells_apart(sight):
    from matplotlib import colors

    from lottery import plots

    names = ("ticket", "random_reinit", "random_mask", "small_dense")
    seen = {"dense": np.zeros(3)}
    for name in names:
        rgb = np.array(colors.to_rgb(plots.COLOURS[name]))
        linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
        seen[name] = lightness_and_colour(np.array(BLIND[sight]) @ linear)
    pairs = [(a, b) for a in seen for b in seen if a < b]
    near = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in pairs}
    assert min(near.values()) > 15, near
