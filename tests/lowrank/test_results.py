"""What is read back of a run, and its page."""

import dataclasses
import shutil

import numpy as np
import pytest

from groundwork.errors import UserError
from groundwork.report import page as page_lib
from groundwork.runs.run import Run
from lowrank import report, results
from tests import browser

pytestmark = pytest.mark.slow


def test_the_page_has_each_table_under_its_heading(finished, chromium):
    folder, _ = finished
    run, page = results.read(folder), (folder / "report.html").read_text()
    tables = {f"Layers of {own.point.name}": report._layer_table(own) for own in run.points}
    tables |= {"Networks": report._network_table(run), "Measured times": report._time_table(run)}
    for heading, rows in tables.items():
        assert f"<h2>{heading}</h2>{page_lib.table(*rows)}" in page
    assert "over 2 replicates" in page
    browser.check(chromium, folder / "report.html")


def test_the_kernels_of_a_run_are_the_originals(finished):
    params = results.load(finished[0], "original")["params"]
    for path, kernels in results.read(finished[0]).kernels().items():
        np.testing.assert_array_equal(kernels, params[path]["kernel"])


def test_the_original_and_its_fine_tuned_form_are_read_apart(finished):
    run = results.read(finished[0])
    assert run.fine_tuned is not None
    for unit, network in (("original", run.original), ("fine_tuned", run.fine_tuned)):
        _, saved = Run(finished[0]).unit(unit).result()
        assert dataclasses.asdict(network).items() <= saved.items()


def test_a_network_whose_plan_is_lost_is_not_shown(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    plan = folder / "checkpoints/plans/svd-0.5/final"
    plan.rename(plan.with_name("final.damaged-1"))
    assert [point.point.name for point in results.read(folder).points] == ["svd_outputs-0.5"]


def test_what_has_stalled_is_read_back_where_a_run_says_so(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    unit = Run(folder).unit("sweep/svd-0.5")
    tree, saved = unit.result()
    del saved["stalled"]
    for said, expected in (({"stalled": ["fc1"]}, ["fc1"]), ({}, [])):
        shutil.rmtree(unit.folder)
        unit.finish(tree, {**saved, **said})
        assert results.read(folder).points[0].stalled == expected


def test_an_unfinished_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished original"):
        results.load(tmp_path, "original")
    with pytest.raises(UserError, match="holds no readable run"):
        results.read(tmp_path)
