"""Tables, figures and pages say what the rows say."""

import dataclasses
import json
import re
import shutil

import matplotlib.image
import numpy as np
import pytest

from compress import results as compress_results
from groundwork.errors import UserError
from lottery import plots, report, results, tickets
from lottery.overlap import __main__ as overlap
from lottery.overlap import measured
from lowrank import results as lowrank_results
from msdnet import results as msdnet_results
from tests import browser, read_only
from tests.lottery import small
from tests.lottery.refusals import contents


@pytest.fixture
def folder(finished):
    return finished[0]


def _mean(folder, unit, replicates=2):
    ends = [r["accuracy"] for r in small.rows(folder) if r["unit"] == unit and r.get("at") == "end"]
    assert len(ends) == replicates
    return f"{np.mean(ends):.3f}±{np.std(ends, ddof=1):.3f}"


def test_the_table_has_every_branch_with_its_mean_and_spread(folder, capsys):
    report.show([folder])
    printed = capsys.readouterr().out
    for level, branch in small.UNITS:
        assert _mean(folder, f"levels/{level:02d}/{branch}") in printed
    assert "report.html" in printed


def test_the_page_holds_the_numbers_and_its_figures_inside_it(folder, chromium):
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert _mean(folder, "levels/02/ticket") in page
    assert "prune.scope = layerwise" in page
    assert "commit" in page
    browser.check(chromium, folder / "report.html")


def test_every_figure_is_a_picture_with_something_on_it(folder):
    names = {p.name for p in (folder / "figures").glob("*.png")}
    assert names == {
        "accuracy.png", "early_stopping.png", "first_layer_mask.png", "layer_density.png",
        "learning_curves.png",
    }  # fmt: skip
    for name in names:
        image = matplotlib.image.imread(folder / "figures" / name)
        assert min(image.shape[:2]) > 300
        assert image[..., :3].std() > 0.02


def test_bands_are_one_sample_deviation_around_the_mean(folder):
    run = results.read(folder)
    _, (axes,) = plots.figures.subplots()
    plots._accuracy_lines(axes, run, None, early=False)
    points = run.of("ticket")
    line = next(line for line in axes.lines if line.get_label() == "ticket")
    np.testing.assert_allclose(line.get_ydata(), [np.mean(p.accuracy) for p in points])
    np.testing.assert_allclose(line.get_xdata(), [p.density for p in points])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    deviations = np.array([np.std(p.accuracy, ddof=1) for p in points])
    means = np.array([np.mean(p.accuracy) for p in points])
    assert band.max() == pytest.approx((means + deviations).max())
    assert band.min() == pytest.approx((means - deviations).min())


def test_masks_are_compared_in_a_page_of_their_own(folder, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    before = (other / "report.html").read_bytes()
    overlap.main([str(other)])
    printed = capsys.readouterr().out
    assert f"report: {other}/overlap/report.html" in printed
    masks = tickets.load(folder, 2).mask
    first, second = (
        np.concatenate([leaf[replicate].ravel() for leaf in masks.values()]) for replicate in (0, 1)
    )
    found = np.sum(first & second) / np.sum(first | second)
    assert f"{found:.3f}" in printed.partition("layers of")[0]
    assert "random_mask" in printed.partition("with the ticket at level 2")[2]
    assert "random_reinit" not in printed  # it has the ticket's masks
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert (other / "report.html").read_bytes() == before
    page = (other / "overlap/report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    pair = [measured.read(path) for path in (other, folder)]
    _, rows = overlap._between_runs(pair)["between runs"]
    assert [row[:2] + row[3:4] for row in rows] == [
        ["1", "1.000", "0.000"],
        ["2", "1.000", "0.000"],
    ]


def test_several_runs_are_laid_over_one_another(folder, capsys):
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    report.show([folder, other])
    path = folder.parent / "comparison" / "report.html"
    assert f"report: {path}" in capsys.readouterr().out
    page = path.read_text()
    assert "small" in page
    assert "other" in page


def test_runs_of_one_name_are_told_apart_by_their_folders(folder, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(folder, tmp_path / place / "digits")
    runs = report._read([tmp_path / "a/digits", tmp_path / "b/digits"])
    assert [run.name for run in runs] == ["a/digits", "b/digits"]
    assert [run.name for run in report._read([tmp_path / "a/digits", folder])] == [
        "digits",
        "run",
    ]
    with pytest.raises(UserError, match="the same run is given twice"):
        report._read([folder, folder.parent / "." / folder.name])


def test_the_legend_of_one_run_has_its_branches_alone(folder, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots.figures, "save", lambda figure, path: drawn.append(figure) or path)
    plots.accuracy([results.read(folder)], tmp_path / "accuracy.png")
    (legend,) = drawn[0].legends
    branches = {"ticket", "random_reinit", "random_mask", "small_dense", "dense"}
    assert {text.get_text() for text in legend.get_texts()} == branches
    assert len(legend.get_texts()) == len(branches)


def test_the_legend_of_several_runs_has_every_run_and_every_branch(folder):
    run = results.read(folder)
    runs = [dataclasses.replace(run, name=f"run-{number}") for number in range(12)]
    colours = plots._run_colours(len(runs))
    assert len({tuple(colour) for colour in colours}) == 12
    labels = [line.get_label() for line in plots._legend_of_runs(runs, colours)]
    names = [f"run-{number}" for number in range(12)]
    branches = ["ticket", "random_reinit", "random_mask", "small_dense"]
    assert labels == [*names, *branches, "dense"]
    looks = {(style["linestyle"], style["marker"]) for style in plots.STYLES.values()}
    assert len(looks) == len(plots.STYLES)
    assert plots.STYLES.keys() == plots.COLOURS.keys()


def test_a_comparison_has_a_row_a_run_and_a_record_a_branch_and_level(folder):
    compared = report.compare([folder])
    assert compared.header[:3] == ["level", "density", "ticket"]
    assert compared.header[-1] == "dense"
    (row,) = compared.rows
    assert row[0] == "2"
    assert row[2] == _mean(folder, "levels/02/ticket")
    assert row[-1] == _mean(folder, "levels/00/ticket")
    assert {(r["level"], r["branch"]) for r in compared.records} == set(small.UNITS)
    assert compared.page.is_file()


def test_another_command_refuses_the_run_by_the_command_that_it_records(folder):
    said = rf"{folder} holds a run of another command, lottery\.main: give it to lottery\.report$"
    for reader in (msdnet_results, lowrank_results, compress_results):
        with pytest.raises(UserError, match=said):
            reader.read(folder)


def test_published_figures_stand_beside_ours(folder):
    copy = folder.with_name("published")
    shutil.copytree(folder, copy)
    config = (copy / "config.json").read_text()
    published = {
        "source": "a paper",
        "level": 2,
        "ticket": [0.75, 0.7],
        "random_mask": [0.5],
        "dense": [0.6],
    }
    began = json.loads(config)
    began["config"]["published"] = published
    (copy / "config.json").write_text(json.dumps(began))
    _, rows = report._published(results.read(copy))
    assert rows[0][0] == "ticket"
    assert rows[0][3] == _mean(folder, "levels/02/ticket")
    assert rows[0][4] == "0.700 to 0.750"
    assert rows[2][3] == _mean(folder, "levels/00/ticket")
    report.show([copy])
    assert "a paper" in (copy / "report.html").read_text()


class TestReadOnly:
    """Nothing needs to be written to show a finished run."""

    def test_the_same_command_and_the_report_show_the_result(self, folder, monkeypatch):
        before = contents(folder)
        with monkeypatch.context() as patch:
            read_only.make(patch, folder)
            printed = small.run(folder)
        assert _mean(folder, "levels/02/ticket") in printed
        assert re.search(r"^no report.html: .* cannot be written \(Read-only file", printed, re.M)
        assert contents(folder) == before

    def test_an_unfinished_run_says_so(self, folder, tmp_path, monkeypatch):
        copy = tmp_path / "small"
        shutil.copytree(folder, copy)
        (copy / "checkpoints/levels/02/ticket/final/manifest.json").unlink()
        read_only.make(monkeypatch, copy)
        with pytest.raises(OSError, match=r"Read-only file system: .*run\.log"):
            small.run(copy)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no readable run"):
        report.show([tmp_path])
    with pytest.raises(UserError, match="unknown flag --out"):
        report.main(["--out=x"])
