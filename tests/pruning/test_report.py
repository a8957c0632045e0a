"""Tables and figures, from results made up by hand, and the page of a run."""

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from groundwork.errors import UserError
from groundwork.report import figures, tables
from groundwork.report import page as page_lib
from pruning import plots, report, results
from pruning.results import Network, Pruned, Results
from tests import browser

TIMES = {"1": [0.5, 0.25], "128": [8.0, 2.0]}
ALONE = {"1": [0.5, 0.5], "128": [8.0, 8.0]}
ORIGINAL = Network([0.9, 0.9], [0.1, 0.1], 400, 2500, 4100, 12_000, ALONE)
SMALL = Network([0.8, 0.9], [0.5, 0.5], 200, 1500, 2050, 9_000, TIMES)
PRUNED = Pruned("0.5", 0.5, {"fc1": 20, "fc2": 10}, SMALL, {})
NAMES = ("scratch_e", "scratch_b", "random_units")


TABLES = (report._network_table, report._gone_table, report._branch_table, report._time_table)


def made(*pruned):
    tuned = dataclasses.replace(ORIGINAL, test=[0.95, 0.95])
    units = {"fc1": 40, "fc2": 20}
    prune = {"keep_accuracy": 0.0, "target": {"parameters": 0.0, "multiply_adds": 0.0}}
    config = {"replicates": 2, "prune": prune}
    return Results("run", Path("run"), config, {}, ORIGINAL, tuned, units, {}, list(pruned))


def test_networks_are_shown_before_and_after_with_their_spread():
    header, rows = report._network_table(made(PRUNED))
    assert header == ["ratio", "parameters", "MACs", "×", "before", "fine-tuned"]
    assert rows == [
        ["0", "2,500", "4,100", "1.00", "0.9000±0.0000", "0.9500±0.0000"],
        ["0.5", "1,500", "2,050", "0.50", "0.5000±0.0000", "0.8500±0.0707"],
    ]
    patterns = dataclasses.replace(PRUNED, label="patterns", ratio={"fc1": 0.5})
    assert report._network_table(made(patterns))[1][1][0] == "patterns"


def test_a_ratio_that_a_target_needs_is_told_from_one_that_was_asked_for():
    found = dataclasses.replace(PRUNED, label="target", ratio=0.2229)
    assert report._network_table(made(found))[1][1][0] == "target: 0.223"


def test_points_beyond_the_axis_are_named_under_the_figure(tmp_path):
    _, caption = plots.accuracy(made(PRUNED), tmp_path / "low.png")
    assert caption.endswith("Beyond the axis, see the table: before fine-tuning, 0.5.")
    near = dataclasses.replace(SMALL, before=[0.8, 0.8])
    _, caption = plots.accuracy(
        made(dataclasses.replace(PRUNED, network=near)), tmp_path / "near.png"
    )
    assert "Beyond" not in caption


def test_what_was_asked_for_stands_beside_what_is_gone():
    header, rows = report._gone_table(made(PRUNED))
    assert header == ["asked for", "units", "parameters", "MACs", "file", "bytes left"]
    assert rows == [
        ["the original", "", "", "", "", "12,000"],
        ["0.5 of the units", "0.500", "0.400", "0.500", "0.250", "9,000"],
    ]


@pytest.mark.parametrize(
    ("prune", "said"),
    [
        ({"target": {"multiply_adds": 0.5, "parameters": 0.0}}, "0.5 multiply-adds"),
        ({"target": {"multiply_adds": 0.0, "parameters": 90_000.0}}, "90,000 parameters"),
        ({"keep_accuracy": 0.01}, "0.01 of the accuracy"),
    ],
)
def test_a_target_is_named_as_the_config_has_it(prune, said):
    run = made(dataclasses.replace(PRUNED, label="target"))
    run.config["prune"].update(prune)
    assert report._asked(run, run.pruned[0]) == said


def test_controls_have_a_column_where_there_are_any():
    control = dataclasses.replace(SMALL, test=[0.7, 0.7])
    with_one = dataclasses.replace(PRUNED, branches={"scratch_b": control})
    header, rows = report._branch_table(made(PRUNED, with_one))
    assert header == ["ratio", "fine-tuned", "scratch-B"]
    assert [row[-1] for row in rows] == ["", "0.7000±0.0000"]


def test_times_are_the_originals_then_its_own():
    header, rows = report._time_table(made(PRUNED))
    assert header == ["ratio", "examples", "original, ms", "own, ms", "×"]
    assert rows == [
        ["0.5", "1", "0.500", "0.250", "0.50"],
        ["0.5", "128", "8.000", "2.000", "0.25"],
    ]


def test_every_table_is_whole_in_80_columns():
    costly = dataclasses.replace(
        SMALL, parameters=25_557_032, macs=4_089_184_256, bytes=102_440_328
    )
    original = dataclasses.replace(ORIGINAL, macs=2 * costly.macs)
    costly = dataclasses.replace(costly, milliseconds={"128": [12345.678, 2345.678]})
    one = dataclasses.replace(
        PRUNED, label="patterns", ratio={}, network=costly, branches=dict.fromkeys(NAMES, costly)
    )
    for table in TABLES:
        rows = table(dataclasses.replace(made(one), original=original))
        assert len(tables.blocks(rows, 80, 1)) == 1, table


def test_the_axes_are_what_their_labels_say():
    assert [cost(SMALL) for cost in plots.COSTS.values()] == [2050e-6, 1.5, 9.0, 2.0]
    assert 0.7 < plots._range(made(PRUNED))[0] < 0.8


def test_the_best_is_the_most_accurate_and_of_an_error_the_least():
    worse = dataclasses.replace(PRUNED, label="0.9", network=dataclasses.replace(SMALL, test=[3.0]))
    assert report._best(made(PRUNED, worse))[3] == "0.9"
    about = {"metric": {"name": "loss", "higher_is_better": False}}
    assert report._best(dataclasses.replace(made(PRUNED, worse), about=about))[3] == "0.5"
    assert report._best(made()) == ["2,500", "4,100", "0.900±0.000", "", "", ""]


@pytest.mark.slow
def test_the_page_has_each_table_under_its_heading(finished, chromium):
    folder, _ = finished
    run, page = results.read(folder), (folder / "report.html").read_text()
    for heading, rows in {
        "Networks": report._network_table(run),
        "Asked for, and the shares that are gone": report._gone_table(run),
        "Fine-tuned, and its controls": report._branch_table(run),
        "Measured times": report._time_table(run),
    }.items():
        assert f"<h2>{heading}</h2>{page_lib.table(*rows)}" in page
    assert "over 2 replicates" in page
    browser.check(chromium, folder / "report.html")


def test_a_foreign_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no readable run"):
        results.read(tmp_path)


def test_boxes_have_the_colours_of_the_groups_that_a_layer_takes_and_makes(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.extend(figure.axes))
    layers = {
        "fc1": {"makes": ["fc1"], "takes": []},
        "fc2": {"makes": ["fc2"], "takes": ["fc1"]},
        "output": {"makes": [], "takes": ["fc2"]},
    }
    plots.coupling(dataclasses.replace(made(PRUNED), coupling=layers), Path("nowhere"))
    colors = [box.get_facecolor() for box in drawn[0].patches]
    plt.close(drawn[0].figure)
    grey, first, same, second, again, end = colors
    assert (first, second, grey) == (same, again, end)
    assert len({first, second, grey}) == 3
    assert [text.get_text() for text in drawn[0].texts] == list(layers)
