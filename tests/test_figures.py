"""Figures and pages whose layers and runs have long or odd names; warnings of layout are errors."""

import dataclasses

import matplotlib.image
import numpy as np
import pytest

from compress import plots as compress_plots
from groundwork.report import comparison, figures
from groundwork.report import page as page_lib
from lottery import plots as lottery_plots
from lottery.results import Point, Results
from lowrank import plots as lowrank_plots
from tests import screens
from tests.compress import test_report as compressed
from tests.lowrank import test_report as factorised

LAYERS = [
    f"params/encoder/block_{block}/attention/self_attention/{part}/kernel"
    for block in range(12)
    for part in ("query", "key", "value", "output")
]
ODD = ["$\\frac{$", "_hidden", "a$b$c", "x\udcff\n", "<b>[/y]"]


def test_names_are_cut_in_the_middle_and_stay_distinct():
    assert figures.short(["fc1", "encoder/block_3/attention/query"], 24) == [
        "fc1",
        "enc…/attention/query",
    ]
    shown = figures.short(LAYERS, 24)
    assert len(set(shown)) == len(LAYERS)
    assert max(map(len, shown)) < max(map(len, LAYERS))
    assert "par…/query/kernel" not in shown  # twelve have this end
    assert figures.short(["a" * 40, "a" * 40 + "b"], 8) == ["aaa…aaaa", "aaa…aaab"]
    sweep = [f"a/sweep/rate={n},and=more,and=even=more,and=more" for n in (0.25, 0.5)]
    assert figures.short(sweep, 30) == [
        "a/sweep/rate=0.25,…re,and=more",
        "a/sweep/rate=0.5,a…re,and=more",
    ]
    assert figures.short([]) == []


def test_odd_names_are_shown_as_they_are():
    shown = [r"\$\frac{\$", " _hidden", r"a\$b\$c", r"x\udcff\n", "<b>[/y]"]
    assert figures.short(ODD) == shown


@pytest.fixture
def path(tmp_path):
    """Where a figure goes; it must be a picture at the end."""
    path = tmp_path / "figure.png"
    yield path
    assert matplotlib.image.imread(path)[..., :3].std() > 0.02


def _lottery(name="run"):
    point = Point(
        branch="ticket", level=0, density=1.0, parameters=9, accuracy=[0.8, 0.9],
        stopped_accuracy=[], stopped_step=[], kept={layer: [9, 9] for layer in LAYERS},
        sizes=dict.fromkeys(LAYERS, 9), requested={},
    )  # fmt: skip
    half = dataclasses.replace(point, level=1, density=0.5, kept={k: [4, 5] for k in LAYERS})
    return Results(name, None, {}, {}, {("ticket", 0): point, ("ticket", 1): half}, {})


def test_layers_of_a_deep_network_have_a_legend(path):
    lottery_plots.layer_density(_lottery(), path)


def test_runs_have_a_legend(path):
    names = [*ODD, *(f"a/sweep/with/rate={n}" + ",and=more" * 9 for n in range(20))]
    lottery_plots.accuracy([_lottery(name) for name in names], path)


def test_curves_of_a_comparison_have_a_legend(path):
    names = [*ODD, *LAYERS]
    curves = [
        comparison.Curve(label=name, costs=[1.0, 9.0], accuracies=[[0.1 * i, 0.2], [0.3, 0.4]])
        for i, name in enumerate(names)
    ]
    comparison.draw(curves, "bytes", path)


def test_panels_of_a_comparison_share_one_legend(path):
    curves = [
        comparison.Curve(label=f"{name}{i}", costs=[1.0 + i], accuracies=[[0.1 * i, 0.2]])
        for i in range(3)
        for name in LAYERS[:6]
    ]
    comparison.draw_panels({"multiply-adds": curves, "parameters": curves}, path)


def test_spectra_have_titles(path, monkeypatch):
    rng = np.random.default_rng(0)
    kernels = {layer: rng.normal(size=(2, 8, 8)) for layer in LAYERS[:3] + ODD[:3]}
    monkeypatch.setattr(lowrank_plots.Results, "kernels", lambda run: kernels)
    lowrank_plots.spectra(factorised.made(factorised.POINT), path)


def test_weights_and_bytes_have_titles(path, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    weights = {name: (rng.normal(size=90), np.arange(4.0)) for name in LAYERS[:3] + ODD[:3]}
    monkeypatch.setattr(compress_plots, "_quantised", lambda run, network: weights)
    long = dataclasses.replace(compressed.QUANTISED, name="factorize-0.5+" * 5 + "quantize-2")
    run = compressed.made(compressed.PRUNED, long)
    compress_plots.parts(run, tmp_path / "bytes.png")
    compress_plots.accuracy(run, tmp_path / "accuracy.png")
    compress_plots.centroids(run, long, path)


def test_a_page_has_any_name(tmp_path):
    rows = ["layer"], [[LAYERS[0]], ["<b>\udcff"]]
    page = page_lib.write(tmp_path, "runs/\udcff <b>", [("h", page_lib.table(*rows))]).read_text()
    assert "<h1>runs/\\udcff &lt;b&gt;</h1>" in page
    assert "<th scope='row'>params/<wbr>encoder/<wbr>" in page
    assert screens.numbers(page.replace("<wbr>", ""))
