"""A run's numbers, tables and figures, on answers that are made up: nothing is trained."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from groundwork.errors import UserError
from groundwork.report import comparison
from groundwork.report import page as page_lib
from msdnet import calibration, exits, plots, report, work
from msdnet.cost import Cost
from msdnet.exits import Outcome
from msdnet.results import Network, Results, on_grid

COSTS = [Cost(10, 100, 100), Cost(25, 190, 220), Cost(45, 300, 360)]
CLASSES = 4


def answers(seed, examples, replicates=2, exit_count=3):
    """The later the exit, the more of them are right; who is right is more confident."""
    rng = np.random.default_rng(seed)
    labels = np.arange(examples) % CLASSES
    shape = replicates, examples, exit_count
    correct = rng.random(shape) < np.linspace(0.4, 0.9, exit_count)
    predictions = np.where(correct, labels[None, :, None], (labels[None, :, None] + 1) % CLASSES)
    probabilities = np.where(correct, rng.uniform(0.5, 1, shape), rng.uniform(0.2, 0.7, shape))
    return {
        "confidences": probabilities**2,  # of another kind
        "probabilities": probabilities,
        "predictions": predictions,
        "labels": labels,
    }


def network(name="msdnet", costs=COSTS, **options):
    split = {
        "validation": answers(0, 120, exit_count=len(costs)),
        "test": answers(1, 80, exit_count=len(costs)),
    }
    milliseconds = [0.5 * (k + 1) for k in range(len(costs))]
    return Network(name, 99, list(costs), milliseconds, split, options.get("sheet", {}))


def results(tmp_path, *networks):
    named = {one.name: one for one in networks}
    return Results("made up", tmp_path, {"replicates": 2}, {"commit": "0"}, named)


def test_predictions_cost_all_classifiers_until_there():
    one = network()
    assert one.macs == [100, 220, 360]
    test = one.answers["test"]
    expected = [
        [np.mean(test["predictions"][r, :, k] == test["labels"]) for k in range(3)]
        for r in range(2)
    ]
    np.testing.assert_allclose(one.accuracy, expected)
    curves = one.anytime()
    assert [point.cost for point in curves[1]] == [100, 220, 360]
    np.testing.assert_allclose([point.accuracy for point in curves[1]], expected[1])


@pytest.mark.parametrize(("costs", "middle"), [(COSTS, 180), ([COSTS[0], Cost(9, 90, 150)], 100)])
def test_the_middle_is_half_of_all_but_what_the_first_exit_costs_at_least(costs, middle):
    assert network(costs=costs).middle == middle


def test_thresholds_come_from_validation_and_outcomes_from_test():
    one = network()
    assert len(one.at_budget(250)) == 2
    for replicate, (routed, outcome) in enumerate(one.at_budget(250)):
        own, test = (one.answers[s]["confidences"][replicate] for s in ("validation", "test"))
        limits = exits.thresholds(own, [100, 220, 360], 250)
        assert np.mean(np.array([100, 220, 360])[exits.route(own, limits)]) <= 250
        np.testing.assert_array_equal(routed, exits.route(test, limits))
        right = one.correct[replicate][np.arange(80), routed]
        assert outcome == Outcome(right.mean(), np.array([100, 220, 360])[routed].mean())
    for replicate, curve in enumerate(one.budgeted()):
        own, test = (one.answers[s]["confidences"][replicate] for s in ("validation", "test"))
        assert curve == exits.budgeted(own, test, one.correct[replicate], one.macs)


def test_calibration_errors_are_of_probabilities_a_replicate_each():
    one = network()
    test = one.answers["test"]
    expected = calibration.reliability(test["probabilities"][1, :, 2], one.correct[1, :, 2]).error
    assert one.calibration_errors.shape == (2, 3)
    assert one.calibration_errors[1, 2] == expected > 0


def test_curves_are_compared_at_costs_that_all_replicates_reach():
    first = [Outcome(0.6, 3.0), Outcome(0.2, 1.0), Outcome(0.8, 5.0)]  # in any order
    second = [Outcome(0.5, 2.0), Outcome(0.9, 6.0)]
    grid, accuracy = on_grid([first, second], points=4)
    np.testing.assert_allclose(grid, [2, 3, 4, 5])
    np.testing.assert_allclose(accuracy[:, 0], [0.4, 0.6, 0.7, 0.8])
    np.testing.assert_allclose(accuracy[:, 1], [0.5, 0.6, 0.7, 0.8])


def test_tables_have_the_costs_of_each_kind(tmp_path):
    one, other = network(), network("resnets", [Cost(5, 400, 400), Cost(6, 500, 900)])
    header, rows = report._exit_table(one)
    assert [len(row) for row in rows] == [len(header)] * 3
    assert [row[:5] for row in rows] == [
        ["1", "10", "100", "100", "0.500"],
        ["2", "25", "190", "220", "1.000"],
        ["3", "45", "300", "360", "1.500"],
    ]
    mean, spread = one.accuracy[:, 1].mean(), one.accuracy[:, 1].std(ddof=1)
    assert rows[1][5] == f"{mean:.4f}±{spread:.4f}"
    assert rows[1][6].startswith(f"{one.calibration_errors[:, 1].mean():.4f}±")
    header, rows = report._budget_table(results(tmp_path, one, other))
    assert [row[0] for row in rows] == [
        f"{budget} ({share}% of MSDNet)"
        for budget, share in ((90, 25), (180, 50), (270, 75), (360, 100))
    ]
    assert header[1:3] == ["MSDNet", "MSDNet: spent / budget"]
    assert rows[0][1:] == ["too dear", ""] * 2
    assert [row[3] for row in rows] == ["too dear"] * 4
    found = np.mean([outcome.accuracy for _, outcome in one.at_budget(180)])
    assert rows[1][1].startswith(f"{found:.4f}±")
    costs = np.array(one.macs)
    spent = [costs[routed].mean() / 180 for routed, _ in one.at_budget(180)]
    assert rows[1][2] == f"{np.mean(spent):.3f}±{np.std(spent, ddof=1):.3f}"
    assert rows[3][2] == "1.000±0.000"
    assert rows[3][1].startswith(f"{one.accuracy[:, -1].mean():.4f}±")
    exactly = network("resnets", [Cost(5, 90, 90), Cost(6, 91, 181)])
    _, rows = report._budget_table(results(tmp_path, one, exactly))
    assert rows[0][3] != "too dear"


def test_areas_are_of_each_curve(tmp_path):
    one = network()
    header, rows = report._area_table(results(tmp_path, one))
    assert header[1:] == ["anytime", "budgeted"]
    (row,) = rows
    for shown, curves in zip(row[1:], (one.anytime(), one.budgeted()), strict=True):
        assert shown.startswith(f"{np.mean([exits.area(curve) for curve in curves]):.4f}±")


class TestComparison:
    """Two runs beside each other, of which one has a control, too."""

    @pytest.fixture
    def compared(self, tmp_path, monkeypatch):
        two = network(), network("resnets", [Cost(5, 80, 80), Cost(6, 90, 170)])
        runs = {"one": results(tmp_path, network()), "two": results(tmp_path, *two)}
        monkeypatch.setattr(report.results, "read", lambda folder: runs[folder.name])
        drawn, drawing = {}, comparison.draw

        def draw(curves, cost, path):
            drawn.update({curve.label: curve for curve in curves})
            return drawing(curves, cost, path)

        monkeypatch.setattr(comparison, "draw", draw)
        compared = report.compare([tmp_path / name for name in runs])
        return SimpleNamespace(comparison=compared, curves=drawn, runs=runs)

    def test_there_is_a_row_for_each_run(self, compared):
        header, rows = compared.comparison.header, compared.comparison.rows
        assert header == ["network", "exits", "first exit", "last exit", "area, budgeted"]
        first, second = rows
        assert first == second
        one = network()
        assert first[:2] == ["MSDNet", "3"]
        for k, cell in ((0, first[2]), (-1, first[3])):
            assert cell.startswith(f"{one.accuracy[:, k].mean():.4f}±")
        areas = [exits.area(curve) for curve in one.budgeted()]
        assert first[4].startswith(f"{np.mean(areas):.4f}±")

    def test_there_is_a_record_for_each_exit(self, compared):
        records = compared.comparison.records
        assert [(r["run"], r["network"], r["exit"], r["macs"]) for r in records] == [
            *(("one", "msdnet", k, macs) for k, macs in ((1, 100), (2, 220), (3, 360))),
            *(("two", "msdnet", k, macs) for k, macs in ((1, 100), (2, 220), (3, 360))),
            *(("two", "resnets", k, macs) for k, macs in ((1, 80), (2, 170))),
        ]
        accuracy = network().accuracy[:, 1]
        assert records[1]["replicates"] == 2
        assert records[1]["accuracy_mean"] == pytest.approx(accuracy.mean())
        assert records[1]["accuracy_deviation"] == pytest.approx(accuracy.std(ddof=1))

    def test_the_page_lies_beside_the_first_run_and_shows_all(self, compared, tmp_path):
        assert compared.comparison.page == tmp_path / "comparison/report.html"
        page = compared.comparison.page.read_text()
        assert page.count("</figure>") == 1
        for name, run in compared.runs.items():
            assert f"<th scope='row'>{name}</th><td>MSDNet</td><td>3</td>" in page
            for one in run.networks.values():
                heading = f"{name}: {plots.STYLES[one.name]['label']}"
                table = page_lib.table(*report._exit_table(one))
                assert f"<h2>{heading}</h2>{table}" in page

    def test_the_figure_has_a_curve_for_each_network(self, compared):
        curves = compared.curves
        assert {label: curve.costs for label, curve in curves.items()} == {
            "one: MSDNet": [100, 220, 360],
            "two: MSDNet": [100, 220, 360],
            "two: ResNets in turn": [80, 170],
        }
        np.testing.assert_array_equal(curves["one: MSDNet"].accuracies, network().accuracy.T)


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the last figure, before it is closed."""
    kept = SimpleNamespace(axes=None, figure=None)

    def save(figure, path):
        figure.canvas.draw()
        kept.figure, kept.axes = figure, figure.axes[0]
        return path

    monkeypatch.setattr(plots.figures, "save", save)
    yield kept
    plt.close("all")


def test_curves_are_drawn_against_what_a_prediction_costs(drawn, tmp_path):
    run = results(tmp_path, network(), network("resnets", [Cost(5, 80, 80), Cost(6, 90, 170)]))
    plots.anytime(run, Path("x.png"))
    lines = {line.get_label(): line for line in drawn.axes.get_lines()}
    assert lines["MSDNet"].get_xdata() == pytest.approx([1e-4, 2.2e-4, 3.6e-4])
    assert lines["ResNets in turn"].get_xdata() == pytest.approx([0.8e-4, 1.7e-4])
    (alone,) = drawn.axes.containers  # plain ResNets
    assert alone[0].get_xdata() == pytest.approx([0.8e-4, 0.9e-4])
    plots.budgeted(run, Path("x.png"))
    lines = {line.get_label(): line for line in drawn.axes.get_lines()}
    assert lines["MSDNet, anytime"].get_xdata() == pytest.approx([1e-4, 2.2e-4, 3.6e-4])
    grid, accuracy = on_grid(run.networks["msdnet"].budgeted())
    np.testing.assert_allclose(lines["MSDNet"].get_xdata(), grid / 1e6)
    np.testing.assert_allclose(lines["MSDNet"].get_ydata(), accuracy.mean(1))


def test_the_shares_of_a_class_add_up_to_one(drawn):
    one = network()
    plots.exits_by_class(one, Path("x.png"))
    heights = np.array([[bar.get_height() for bar in bars] for bars in drawn.axes.containers])
    np.testing.assert_allclose(heights.sum(0), np.ones(CLASSES))
    feet = np.array([[bar.get_y() for bar in bars] for bars in drawn.axes.containers])
    np.testing.assert_allclose(feet, np.cumsum(heights, 0) - heights, atol=1e-12)  # stacked
    labels = one.answers["test"]["labels"]
    routed = np.stack([routed for routed, _ in one.at_budget(one.middle)])
    assert heights[0, 2] == np.mean(routed[:, labels == 2] == 0) > 0


def test_a_class_that_the_test_split_lacks_has_no_bar(drawn):
    one = network()
    test = one.answers["test"]
    test["labels"] = np.where(test["labels"] == 1, 0, test["labels"])
    plots.exits_by_class(one, Path("x.png"))
    heights = np.array([[bar.get_height() for bar in bars] for bars in drawn.axes.containers])
    np.testing.assert_allclose(heights.sum(0), [1, 0, 1, 1])


def test_the_legend_of_many_exits_stays_inside_the_figure(drawn):
    many = [Cost(10 * k, 100 * k, 120 * k) for k in range(1, 12)]
    plots.exits_by_class(network(costs=many), Path("x.png"))
    (legend,) = drawn.figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= drawn.figure.bbox.width


def test_easy_ones_leave_at_once_and_are_right_hard_ones_reach_the_end():
    """Thresholds are chosen on validation at half of the last exit's cost, replicate 0."""
    validation, test = (
        {
            **answers(seed, examples),
            "confidences": np.random.default_rng(seed + 10).random((2, examples, 3)),
        }
        for seed, examples in ((2, 60), (3, 50))
    )
    images = np.arange(50)
    dataset = SimpleNamespace(test=SimpleNamespace(inputs=images))
    given = {"validation": validation, "test": test}
    found = work.easy_and_hard(dataset, given, [100, 220, 360])
    limits = exits.thresholds(validation["confidences"][0], [100, 220, 360], 180)
    routed = exits.route(test["confidences"][0], limits)
    right = test["predictions"][0, :, 0] == test["labels"]
    assert found["easy"].tolist() == images[(routed == 0) & right][: work.SHOWN].tolist()
    assert found["hard"].tolist() == images[routed == 2][: work.SHOWN].tolist()
    assert len(found["easy"]) > 3
    assert len(found["hard"]) > 2
    assert set(work.easy_and_hard(dataset, given, [100, 110, 120])) == {"easy"}  # all leave


def test_a_split_must_have_ten_examples_an_exit():
    spec = SimpleNamespace(exits=SimpleNamespace(weights=(1.0, 2.0)))
    work._check_exits(spec, "msdnet", 2, 20)
    work._check_exits(spec, "resnets", 1, 10)  # weights are of MSDNet's exits
    with pytest.raises(UserError, match="too small"):
        work._check_exits(spec, "msdnet", 2, 19)
    with pytest.raises(UserError, match="2 entries, the network has 3 exits"):
        work._check_exits(spec, "msdnet", 3, 100)
