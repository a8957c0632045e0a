"""`--dry-run`: what would be done, without a trace of it."""

import os

import pytest

from groundwork import config as config_lib
from groundwork.errors import UserError
from groundwork.runs import rehearsal
from lottery import main
from tests import in_process
from tests.lottery import small


def dry(folder, *more):
    return in_process.run(main.STUDY, [*small.ARGS, f"--workdir={folder}", "--dry-run", *more])


def test_a_new_run_is_told_of_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "SECONDS", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = dry(tmp_path / "run")
    assert os.listdir(tmp_path) == []
    assert "9 to do, 0 done: start, levels/00/ticket, levels/01/ticket and 6 more" in said
    # To step 20; then to 60 from there, six times, and from 0 three times.
    assert f"{20 + 5 * 40 + 3 * 60} in 9 units, 2 replicates at once" in said
    assert " ms in " in said
    assert "of training" in said
    assert "of checkpoints" in said
    assert max(map(len, said.splitlines()[1:])) < 110  # the first one has the folder


def test_what_is_done_is_not_to_be_done_again(finished, monkeypatch):
    folder = finished[0]
    before = sorted(folder.rglob("*"))
    assert "nothing is to be done: all units are done" in dry(folder)
    monkeypatch.setattr(rehearsal, "SECONDS", 0)
    said = dry(folder, "--config.levels=3")
    assert "3 to do, 9 done: levels/03/ticket, levels/03/random_mask" in said
    assert sorted(folder.rglob("*")) == before
    assert "levels/03/ticket (" in said  # the steps that are left are those that are timed


STEPS = {  # overrides → unit → steps, of 60 a level, from step 20 on
    "plain": ([], {"start": 20, "levels/00/ticket": 40, "levels/01/random_mask": 40}),
    "fresh": ([], {"levels/01/random_reinit": 60, "levels/02/small_dense": 60}),
    "scored": (
        ["--config.prune.score_step=50"],
        {"scored/01": 30, "levels/01/ticket": 10, "levels/01/random_mask": 40},
    ),
    "longer": (["--config.branches.scratch_b=(1,)"], {"levels/01/scratch_b": None}),
    "goes on": (["--config.branches.finetune=(1,)"], {"levels/01/finetune": 40}),
    "of another run": (
        ["--config.ticket.source=elsewhere", "--config.rewind.step=0"],
        {"start": 0, "levels/00/ticket": 60},
    ),
}


@pytest.mark.parametrize(("overrides", "expected"), STEPS.values(), ids=STEPS)
def test_steps_of_units_follow_from_the_config(overrides, expected):
    config, _ = config_lib.parse([*small.ARGS, *overrides], main.STUDY.usage)
    spec = main.STUDY.check(config_lib.resolve(config))
    assert set(expected) <= set(main.STUDY.units(spec))
    assert {unit: main.STUDY.steps(spec, unit) for unit in expected} == expected


def test_a_profile_is_refused_and_warnings_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "SECONDS", 0)
    with pytest.raises(UserError, match="leave out --profile"):
        dry(tmp_path / "run", "--profile=1:3")
    assert "warning: " in dry(tmp_path / "run", "--config.optimizer.drop_steps=(30,)")


def test_another_run_in_the_folder_is_refused(finished):
    with pytest.raises(UserError, match="seed"):
        dry(finished[0], "--config.seed=5")


def test_it_takes_no_value(tmp_path):
    with pytest.raises(UserError, match="--dry-run takes no value"):
        in_process.run(main.STUDY, [*small.ARGS, f"--workdir={tmp_path}", "--dry-run=3"])


def test_the_last_line_says_what_to_do_next(finished):
    folder, printed = finished
    last = printed.splitlines()[-1]
    assert last.startswith(f"next: lottery.load({str(folder)!r}, level=2) gives the ticket")
