"""Tables and remarks, from results made up by hand."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from groundwork.report import comparison, figures
from groundwork.report import page as page_lib
from lowrank import plots, report, results
from lowrank.factorization.layers import STALLED
from lowrank.results import Factorised, Network, Results
from lowrank.spec import Point, point_of

ROW = {"method": "tucker", "rank": [2, 3], "parameters": [1000, 100], "macs": [4000, 2000]}
LAYERS = [
    {**ROW, "path": "conv", "shape": [3, 3, 8, 16], "milliseconds": [2.0, 0.5]},
    {
        "path": "fc",
        "shape": [10, 5],
        "method": "dense",
        "rank": 0,
        "parameters": [50, 50],
        "macs": [50, 50],
        "milliseconds": [0.1, 0.1],
    },
]
TIMES = {"1": [0.5, 0.25], "128": [8.0, 2.0]}
POINT = Factorised(
    test=[0.8, 0.9],
    parameters=1500,
    macs=2050,
    milliseconds=TIMES,
    point=Point("tucker", 0.5),
    plan={"conv": {"method": "tucker", "rank": [2, 3]}},
    before=[0.5, 0.5],
    errors={"conv": [0.25, 0.75]},
    stalled=[],
    layers=LAYERS,
    slow=[],
    needed=[],
    not_reached={},
    scratch=None,
)
ORIGINAL = Network([0.9, 0.9], 2500, 4100, {"1": [0.5, 0.5], "128": [8.0, 8.0]})


def made(*points):
    tuned = dataclasses.replace(ORIGINAL, test=[0.95, 0.95])
    return Results("run", Path("run"), {}, {}, ORIGINAL, tuned, list(points), {})


def test_networks_are_shown_before_and_after_with_their_spread():
    header, rows = report._network_table(made(POINT))
    assert header == ["network", "parameters", "MACs", "×", "before", "fine-tuned"]
    assert rows == [
        ["original", "2,500", "4,100", "1.00", "0.9000±0.0000", "0.9500±0.0000"],
        ["tucker-0.5", "1,500", "2,050", "0.50", "0.5000±0.0000", "0.8500±0.0707"],
    ]
    control = dataclasses.replace(POINT, scratch=dataclasses.replace(ORIGINAL, test=[0.7, 0.7]))
    header, rows = report._network_table(made(POINT, control))
    assert header[-1] == "scratch"
    assert [row[-1] for row in rows] == ["", "", "0.7000±0.0000"]


def test_times_are_the_originals_then_its_own():
    header, rows = report._time_table(made(POINT))
    assert header[1] == "1 example: original, ms"
    assert rows == [["tucker-0.5", "0.500", "0.250", "0.50", "8.000", "2.000", "0.25"]]


def test_a_layer_is_shown_before_and_after():
    _, rows = report._layer_table(POINT)
    arrows = ["1,000 → 100", "4,000 → 2,000", "2.000 → 0.500"]
    assert rows[0] == ["conv", "3×3×8×16", "tucker", "2, 3", "0.5000±0.3536", *arrows]
    assert rows[1] == ["fc", "10×5", "dense", "", "", "50", "50", "0.100"]


def test_what_was_left_slow_needed_stalled_or_not_reached_is_said():
    assert report._remarks(made(POINT)) == []
    assert report._remarks(made()) == []
    marked = dataclasses.replace(
        POINT, slow=["a", "b"], needed=["c"], stalled=["d"], not_reached={"e": "it has 8 groups"}
    )
    said = report._remarks(made(marked))
    assert said[0].startswith("tucker-0.5: a, b: factors of the chosen rank were not faster")
    assert said[1] == "tucker-0.5: c: factorised though not faster, as the budget needs it"
    assert said[2] == f"tucker-0.5: d: {STALLED}"
    assert said[3] == "e: it has 8 groups"
    assert report._remarks(made(POINT, marked)) == said[:3]


def test_every_run_that_is_named_gets_its_tables(monkeypatch, capsys):
    def read(folder):
        return dataclasses.replace(made(POINT), name=folder.name)

    monkeypatch.setattr(results, "read", read)
    monkeypatch.setattr(report, "_write_page", lambda run: run.folder)
    report.show([Path("one"), Path("two")])
    printed = capsys.readouterr().out
    for name in ("one", "two"):
        assert f"{name}: networks" in printed
        assert f"{name}: measured times" in printed


def test_points_of_a_method_lie_from_the_cheapest_on():
    dear = dataclasses.replace(POINT, macs=9000)
    other = dataclasses.replace(POINT, point=Point("cp", 0.5))
    found = made(dear, other, POINT).by_method()
    assert found == {"cp": [other], "tucker": [POINT, dear]}


def test_the_axes_are_what_their_labels_say():
    found = {label: cost(POINT) for label, cost in plots.COSTS.items()}
    assert found == {
        "multiply-adds of an example (millions)": 2050e-6,
        "parameters (thousands)": 1.5,
        "time for 128 examples / the original's": 0.25,
        "time for 1 example / the original's": 0.5,
    }
    assert 0.7 < plots._range(made(POINT))[0] < 0.8
    worse = dataclasses.replace(ORIGINAL, test=[0.6, 0.7])
    assert plots._range(dataclasses.replace(made(POINT), fine_tuned=worse))[0] < 0.6


@pytest.fixture
def drawn(monkeypatch):
    """The axes of figures, none of which is saved."""
    found = []

    def save(figure, path):
        found.extend(figure.axes)
        plt.close(figure)

    monkeypatch.setattr(figures, "save", save)
    return found


def test_curves_are_means_before_and_after_with_bands_over_replicates(drawn):
    control = dataclasses.replace(ORIGINAL, test=[0.5, 0.7])
    other = dataclasses.replace(
        POINT, macs=4000, parameters=1000, before=[0.4, 0.4], test=[0.6, 0.8], scratch=control
    )
    plots.accuracy(made(other, POINT), Path("nowhere"))
    by_macs, by_parameters, *_ = drawn
    for axes, costs in ((by_macs, (2050e-6, 4000e-6)), (by_parameters, (1.5, 1.0))):
        curves = {
            (line.get_linestyle(), line.get_marker()): dict(line.get_xydata().tolist())
            for line in axes.lines
        }
        assert curves["--", "o"] == pytest.approx(dict(zip(costs, (0.5, 0.4), strict=True)))
        assert curves["-", "o"] == pytest.approx(dict(zip(costs, (0.85, 0.7), strict=True)))
        assert list(curves["-", "o"]) == sorted(costs)
        assert curves["None", "x"] == pytest.approx({costs[1]: 0.6})
        ends = [own.get_paths()[0].get_extents().intervaly for own in axes.collections]
        spread = 0.02**0.5  # of 0.6 and 0.8
        assert any(low == pytest.approx(0.7 - spread) for low, _ in ends)
        original, tuned = (own.lines[0].get_xydata().tolist() for own in axes.containers)
        (cost, before), (same, after) = *original, *tuned
        assert (same, before, after) == (cost, 0.9, 0.95)


def test_spectra_are_means_over_replicates_with_the_ranks_that_svd_was_given(drawn, monkeypatch):
    kernels = {"fc": np.stack([np.diag([2.0, 1.0]), np.diag([1.0, 4.0])])}
    monkeypatch.setattr(Results, "kernels", lambda run: kernels)
    other = dataclasses.replace(
        POINT, point=Point("svd", 0.5), plan={"fc": {"method": "svd", "rank": 1}}
    )
    plots.spectra(made(other, POINT), Path("nowhere"))
    curve, *ranks = drawn[0].lines
    assert curve.get_xydata().tolist() == [[1, 1], [2, 0.375]]
    assert [line.get_xdata() for line in ranks] == [[1, 1]]


@pytest.mark.parametrize("joined", [True, False])
def test_points_that_no_line_joins_have_bars(joined):
    figure, (ax,) = figures.subplots()
    plots._points(ax, [2.0, 1.0], [[0.8, 0.9], [0.7, 0.7]], joined, color="red", marker="o")
    drawn = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in drawn] == ([2] if joined else [])
    assert len(ax.collections) == 1
    if not joined:
        (low, high) = ax.collections[0].get_segments()[0][:, 1]
        np.testing.assert_allclose([low, high], [0.85 - 0.0707, 0.85 + 0.0707], atol=1e-4)
    plots._points(ax, [3.0], [[0.5, 0.6]], False, bars=False)
    assert len(ax.collections) == 1
    plt.close(figure)


def test_a_method_with_one_point_shows_its_spread(monkeypatch, tmp_path):
    joined = []
    monkeypatch.setattr(plots, "_points", lambda ax, x, values, own, **_: joined.append(own))
    plots.accuracy(made(POINT), tmp_path / "one.png")
    assert joined == [False] * 8
    plots.accuracy(made(POINT, dataclasses.replace(POINT, macs=9)), tmp_path / "two.png")
    assert joined[8:] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("share", [0.5, 1e-5, 0.123456, 1.0])
def test_a_point_is_read_from_the_names_of_its_units(share):
    for method in ("svd", "svd_outputs"):
        point = Point(method, share)
        assert point_of(f"sweep/{point.name}") == point_of(f"plans/{point.name}") == point
    assert point_of("sweep/svd_outputs-vbmf") == Point("svd_outputs", 0.0)


class TestComparison:
    """Two runs beside each other; the second has no factorised network yet."""

    @pytest.fixture
    def compared(self, tmp_path, monkeypatch):
        dear = dataclasses.replace(POINT, macs=4000, test=[0.7, 0.7], point=Point("svd", 0.9))
        runs = {"one": made(POINT, dear), "two": made()}
        monkeypatch.setattr(results, "read", lambda folder: runs[folder.name])
        drawn, drawing = {}, comparison.draw

        def draw(curves, cost, path, metric):
            drawn.update({curve.label: curve for curve in curves})
            return drawing(curves, cost, path, metric)

        monkeypatch.setattr(comparison, "draw", draw)
        compared = report.compare([tmp_path / name for name in runs])
        return SimpleNamespace(comparison=compared, curves=drawn, runs=runs)

    def test_there_is_a_row_for_each_run(self, compared):
        assert compared.comparison.header == ["original", "best", "MACs", "×", "fine-tuned"]
        assert compared.comparison.rows == [
            ["0.900±0.000", "tucker-0.5", "2,050", "0.50", "0.850±0.071"],
            ["0.900±0.000", "none yet", "", "", ""],
        ]

    def test_there_is_a_record_for_each_network(self, compared):
        records = compared.comparison.records
        first, _, dear, _ = records
        assert [(r["run"], r["network"], r["macs"]) for r in records] == [
            ("one", "original", 4100),
            ("one", "tucker-0.5", 2050),
            ("one", "svd-0.9", 4000),
            ("two", "original", 4100),
        ]
        assert (first["replicates"], first["parameters"]) == (2, 2500)
        assert (dear["accuracy_mean"], dear["accuracy_deviation"]) == (pytest.approx(0.7), 0)
        assert records[1]["accuracy_deviation"] == pytest.approx(0.1 / 2**0.5)

    def test_the_page_lies_beside_the_first_run_and_shows_all(self, compared, tmp_path):
        assert compared.comparison.page == tmp_path / "comparison/report.html"
        page = compared.comparison.page.read_text()
        assert page.count("</figure>") == 1
        assert "<th scope='row'>two</th><td>0.900±0.000</td><td>none yet</td>" in page
        for name, run in compared.runs.items():
            assert f"<h2>{name}</h2>{page_lib.table(*report._network_table(run))}" in page

    def test_the_figure_has_a_curve_for_each_method(self, compared):
        curves = compared.curves
        assert {label: curve.costs for label, curve in curves.items()} == {
            "one: svd": [4100, 4000],  # the original first
            "one: tucker": [4100, 2050],
        }
        assert curves["one: tucker"].accuracies[1:] == [[0.8, 0.9]]


def test_of_an_error_less_is_better_and_its_name_is_shown(tmp_path):
    about = {"metric": {"name": "loss", "higher_is_better": False}}
    worse = dataclasses.replace(POINT, test=[3.0, 3.0], point=Point("svd", 0.9))
    run = dataclasses.replace(made(POINT, worse), about=about)
    assert report._best(run)[1] == "tucker-0.5"
    assert report._best(made(POINT, worse))[1] == "svd-0.9"
    low, high = plots._range(run)
    assert low is None
    assert 3.0 < high < 4.0
    _, caption = plots.accuracy(run, tmp_path / "loss.png")
    assert caption.startswith("Test loss after decomposing")
    assert caption.endswith("Values of the loss far above are cut off.")
