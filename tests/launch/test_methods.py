"""The table of methods: which networks count for a density, and what led to them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from groundwork.errors import UserError
from groundwork.metric import ACCURACY
from groundwork.runs.operations import Spent
from launch import methods, methods_runs
from launch.methods_runs import Method, Sparse


def sparse(density, accuracy, steps=10):
    return Sparse(density, [accuracy, accuracy + 0.02], Spent(steps, 1.4))


TICKET = Method("ticket", [sparse(0.51, 0.9), sparse(0.1995, 0.89, 20), sparse(0.0211, 0.8, 30)])
PRUNE = {
    "method": "rigl",
    "density": [0.2, 0.02],
    "pattern": "none",
    "keep_accuracy": 0.0,
    "least_accuracy": 0.0,
}
DENSE = Method("dense", [sparse(1.0, 0.95)])


def test_a_network_counts_for_the_density_that_it_nearly_has():
    header, rows = methods.table([TICKET, DENSE], [1.0, 0.5, 0.2, 0.02])
    assert header == ["method", "1", "0.5", "0.2", "0.02", "steps", "seconds"]
    # 0.0211 is 5 % away from 0.02, and the steps are those of the last one that counts
    assert rows[0] == ["ticket", "", "0.910±0.014", "0.900±0.014", "", "20", "1"]
    assert rows[1] == ["dense", "0.960±0.014", "", "", "", "10", "1"]


def test_a_method_without_a_network_near_any_density_has_no_row():
    assert methods.table([TICKET], [0.3])[1] == []


@pytest.mark.parametrize(
    ("branch", "units"),
    [
        ("ticket", ["start", "levels/00/ticket", "levels/01/ticket", "levels/02/ticket"]),
        (
            "random_reinit",
            ["start", "levels/00/ticket", "levels/01/ticket", "levels/02/random_reinit"],
        ),
        ("finetune", ["start", "levels/00/ticket", "levels/01/finetune", "levels/02/finetune"]),
        ("random_mask", ["start", "levels/02/random_mask"]),
        ("small_dense", ["levels/02/small_dense"]),
    ],
)  # fmt: skip
def test_the_trainings_that_led_to_a_branch(branch, units):
    assert methods_runs._trainings(branch, 2) == units


SCORED = ["start", "scored/00", "scored/01"]


@pytest.mark.parametrize(
    ("branch", "how", "units"),
    [
        ("ticket", {"at_step_0": True}, ["start", "levels/02/ticket"]),
        ("random_reinit", {"at_step_0": True}, ["start", "levels/02/random_reinit"]),
        ("ticket", {"scored": True}, [*SCORED, "scored/02", "levels/02/ticket"]),
        ("shuffled_mask", {"scored": True}, [*SCORED, "levels/02/shuffled_mask"]),
        (
            "finetune",
            {"scored": True},
            [*SCORED[:2], "levels/00/ticket", "levels/01/finetune", "levels/02/finetune"],
        ),
    ],
)
def test_the_trainings_where_masks_are_chosen_before_or_at_another_step(branch, how, units):
    assert methods_runs._trainings(branch, 2, **how) == units


def of(method, name="a"):
    config = {"prune": PRUNE}
    run = SimpleNamespace(metric=ACCURACY, config=config, about={}, name=name)
    return run, [method, DENSE]


def test_the_command_prints_a_table_and_writes_a_page(monkeypatch, tmp_path, capsys):
    found = {"a": of(TICKET), "b": of(TICKET._replace(name="rigl"), "b")}
    found["c"] = of(Method("static", [sparse(0.4, 0.9)]), "c")
    found["c"][0].about["data"] = "other"
    monkeypatch.setattr(methods_runs, "methods_of", lambda folder: found[Path(folder).name])
    methods.main([f"--to={tmp_path / 'made'}", "a", "b", "c"])
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if "±" in line] == [
        "dense", "ticket", "rigl",
    ]  # fmt: skip
    assert "static has no row: its densities are 0.4" in printed
    assert "warning: c and a differ in their data" in printed
    assert (tmp_path / "made" / "methods.png").exists()
    assert "rigl" in (tmp_path / "made" / "report.html").read_text()


@pytest.mark.parametrize(
    ("prune", "asked"),
    [
        ({}, [0.2, 0.02]),
        ({"density": 0.1}, [0.1]),
        ({"method": "proximal_l1"}, []),
        ({"method": "one_shot", "pattern": "2:4"}, []),
        ({"method": "one_shot", "keep_accuracy": 0.01}, []),
    ],
)
def test_columns_are_densities_that_were_asked_for(prune, asked):
    assert methods._asked(SimpleNamespace(config={"prune": PRUNE | prune})) == asked


def test_the_same_method_twice_is_refused(monkeypatch):
    monkeypatch.setattr(methods_runs, "methods_of", lambda folder: of(TICKET))
    with pytest.raises(UserError, match="b: another run has the method 'ticket', too"):
        methods_runs.gather([Path("a"), Path("b")])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--form=x", "a"], "unknown flag --form=x"),
        (["--to=x"], "no run: give the folders of runs"),
        (["nowhere"], "nowhere holds no readable run"),
    ],
)
def test_wrong_arguments_are_one_line(argv, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        methods.main(argv)


def test_help_is_the_docstring(capsys):
    methods.main(["--help"])
    assert "a row per\nmethod" in capsys.readouterr().out
