"""Tables and figures, from results made up by hand."""

import dataclasses
from pathlib import Path

import numpy as np

from groundwork.report import tables
from lottery.early_bird import main, plots, report
from lottery.early_bird.results import Network, Results
from tests import browser, steps

DENSE = Network([0.9, 0.92], [0.9, 0.92], 10, 4_089_184_256, 10**18, 23456.7)
TICKET = Network([0.8912, 0.9034], [0.1, 0.3], 6, 1_500_000_000, 7 * 10**17, 12345.6)
LATE = dataclasses.replace(TICKET, epoch=10, training_macs=14 * 10**17, seconds=24691.2)


def made(**networks):
    apart = np.full((2, 10, 10), 0.05) * (1 - np.eye(10))
    how = {"ratio": 0.3, "threshold": 0.1, "bits": 8}
    config = {"replicates": 2, "early_bird": how}
    return Results(
        "run", Path("run"), config, {}, apart, [5, 6], 6, [0.0, 0.02], DENSE, networks, {}
    )  # fmt: skip


def test_a_row_has_the_cost_beside_the_dense_networks():
    header, rows = report.network_table(made(ticket=TICKET))
    assert header[-3:] == ["training MACs", "×", "seconds"]
    assert rows[1] == [
        "ticket", "6", "1.5G", "0.200±0.141", "0.897±0.009", "700P", "0.70", "12345.6"
    ]  # fmt: skip
    assert [report._short(n) for n in (0, 999, 999_600, 10**12)] == ["0", "999", "1M", "1T"]


def test_tables_are_whole_in_80_columns():
    run = made(ticket=TICKET, late=LATE)
    for table in (report.network_table(run), report.detector_table(run)):
        assert len(tables.blocks(table, 80, 1)) == 1


def test_what_the_ticket_saves_is_said_beside_the_dense_and_the_late_one():
    assert report._said(made(ticket=TICKET, late=LATE)) == [
        "the ticket is drawn after 6 epochs, 0.60 of the training",
        "beside dense: 0.30 of the multiply-adds of the training saved, in 0.53 of its seconds; "
        "accuracy -0.0127",
        "beside late: 0.50 of the multiply-adds of the training saved, in 0.50 of its seconds; "
        "accuracy +0.0000",
    ]
    dear = dataclasses.replace(TICKET, training_macs=2 * LATE.training_macs)
    said = report._said(made(ticket=dear, late=LATE))[2]
    assert said.startswith("beside late: 1.00 of the multiply-adds of the training on top")


def test_figures_are_drawn_with_and_without_a_ticket(tmp_path):
    _, caption = plots.distances(made(ticket=TICKET), tmp_path / "distances.png")
    assert "orange line" in caption
    without = dataclasses.replace(made(), epoch=None, fired=[5, None], absent={"ticket": "why"})
    _, caption = plots.distances(without, tmp_path / "without.png")
    assert "orange" not in caption
    plots.accuracy(made(ticket=TICKET), tmp_path / "accuracy.png")
    assert report._said(without) == ["ticket is not made: why"]
    assert report.detector_table(without)[1] == [
        ["0", "5", "never", "", ""], ["1", "never", "never", "", ""]
    ]  # fmt: skip


def test_the_page_is_whole_in_a_browser(finished, chromium):
    report.show([finished])
    browser.check(chromium, finished / "report.html")


def test_the_steps_that_were_said_beforehand_are_those_of_each_unit(finished):
    assert steps.agree(main.STUDY, finished) == set()
