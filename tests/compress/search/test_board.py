"""Runs that share their units: who does what, what is taken over, what is refused."""

import fcntl
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from compress.search import board, results
from groundwork.devices.interruption import Interrupted
from groundwork.errors import UserError
from groundwork.runs.run import Run
from tests import shared_runs
from tests.compress.search import small
from tests.conftest import ROOT
from tests.lottery.small import assert_same_tree

CONFIG = {"seed": 0, "evaluations": 4, "search": {"board": "b", "member": 0, "seconds": 0.0}}


class Stopping:
    """An interruption; asked to stop or not."""

    def __init__(self, asked=False):
        self.asked = asked

    def reached(self):
        return self.asked

    def stop(self, where):
        return Interrupted(where, 75)


def context(folder, config=CONFIG, *, asked=False, data="d"):
    """What the board asks of a context: a run, what is said, and whether to stop."""
    folder.mkdir(exist_ok=True)
    about = {"command": "compress.search", "id": folder.name, "config": config, "data": data}
    (folder / "config.json").write_text(json.dumps(about))
    said = []
    return SimpleNamespace(
        run=Run(folder, id=folder.name),
        reporter=SimpleNamespace(say=said.append, begin=lambda *_: None, end=said.append),
        interruption=Stopping(asked),
        said=said,
    )


def maker(which, name, made, value=1):
    """What makes a unit with a file; `made` hears of it."""

    def make():
        made.append(name)
        files = which.run.folder / "files" / name
        files.mkdir(parents=True)
        (files / "0.cna").write_bytes(b"file")
        which.run.unit(name).finish({"x": np.full(3, value)}, {"seconds": float(value)})

    return make


def test_a_unit_that_another_run_has_done_is_taken_over(tmp_path):
    one, other, made = context(tmp_path / "one"), context(tmp_path / "other"), []
    for which in (one, other):
        shared = board.opened(str(tmp_path / "board"), which)
        board.do(shared, {"candidates/0000": maker(which, "candidates/0000", made)})
    assert made == ["candidates/0000"]
    tree, metadata = other.run.unit("candidates/0000").result()
    assert_same_tree(tree, {"x": np.ones(3, int)})
    assert metadata == {"seconds": 1.0}
    assert (tmp_path / "other/files/candidates/0000/0.cna").read_bytes() == b"file"
    assert other.said == ["taken over from another run"]


def test_what_another_run_is_at_is_left_to_it_and_then_taken_over(tmp_path):
    one, other, made = context(tmp_path / "one"), context(tmp_path / "other"), []
    first, second = (board.opened(str(tmp_path / "board"), which) for which in (one, other))
    place = tmp_path / "board/candidates/0000"
    place.mkdir(parents=True)
    held = (place / "lock").open("a")
    fcntl.flock(held, fcntl.LOCK_EX)  # the first run is at it

    def make_second():
        maker(other, "candidates/0001", made)()
        held.close()
        board.do(first, {"candidates/0000": maker(one, "candidates/0000", [], 7)})

    makes = {"candidates/0000": maker(other, "candidates/0000", made)}
    board.do(second, {**makes, "candidates/0001": make_second})
    assert made == ["candidates/0001"]
    assert other.run.unit("candidates/0000").result()[0]["x"].tolist() == [7, 7, 7]


def test_the_lock_of_a_run_that_has_died_does_not_count(tmp_path):
    one, made = context(tmp_path / "one"), []
    (tmp_path / "board/a").mkdir(parents=True)
    (tmp_path / "board/a/lock").touch()
    (tmp_path / "board/a/final.part").mkdir()  # it died while it copied
    board.do(board.opened(str(tmp_path / "board"), one), {"a": maker(one, "a", made)})
    assert made == ["a"]
    assert (tmp_path / "board/a/final/manifest.json").exists()


def test_a_run_that_waits_can_be_stopped(tmp_path):
    one = context(tmp_path / "one", asked=True)
    shared = board.opened(str(tmp_path / "board"), one)
    (tmp_path / "board/a").mkdir()
    with (tmp_path / "board/a/lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Interrupted, match="the unit before a"):
            board.do(shared, {"a": maker(one, "a", [])})
    assert one.said == ["waiting for other runs to finish a"]


def test_a_unit_that_was_done_apart_is_refused(tmp_path):
    one, other = context(tmp_path / "one"), context(tmp_path / "other")
    maker(other, "a", [], 2)()
    for which in (one, other):
        shared = board.opened(str(tmp_path / "board"), which)
        if which is one:
            board.do(shared, {"a": maker(which, "a", [])})
    with pytest.raises(UserError, match=r"its a is not that of .*/other, which was done apart"):
        board.do(shared, {"a": maker(other, "a", [])})


@pytest.mark.parametrize(
    ("config", "data", "said"),
    [
        ({**CONFIG, "seed": 1}, "d", "seed is 0 there, 1 here"),
        (CONFIG, "e", "data is d there, e here"),
    ],
)
def test_the_board_of_another_search_is_refused(tmp_path, config, data, said):
    board.opened(str(tmp_path / "board"), context(tmp_path / "one"))
    with pytest.raises(UserError, match=f"has another search: {said}"):
        board.opened(str(tmp_path / "board"), context(tmp_path / "other", config, data=data))


def test_more_evaluations_and_another_member_share_a_board(tmp_path):
    board.opened(str(tmp_path / "board"), context(tmp_path / "one"))
    longer = {**CONFIG, "evaluations": 9, "search": {"board": "x", "member": 1, "seconds": 5.0}}
    board.opened(str(tmp_path / "board"), context(tmp_path / "other", longer))


def test_a_damaged_board_is_refused(tmp_path):
    (tmp_path / "board").mkdir()
    (tmp_path / "board/config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config.json is damaged"):
        board.opened(str(tmp_path / "board"), context(tmp_path / "one"))


def test_a_board_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "board").touch()
    with pytest.raises(UserError, match=r"search\.board: "):
        board.opened(str(tmp_path / "board"), context(tmp_path / "one"))


@pytest.mark.slow
def test_runs_that_share_come_to_what_one_comes_to_alone(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder, _ = shared_runs.finished(tmp_path_factory, "search", small.run)
    first, second, shared = tmp_path / "first", tmp_path / "second", tmp_path / "board"
    shutil.copytree(folder, first)
    shutil.rmtree(first / "checkpoints/chosen")
    small.train(first, f"--config.search.board={shared}")
    for unit in ("candidates/0005", "chosen"):  # which the first one has not come to
        shutil.rmtree(shared / unit)
    small.train(second, f"--config.search.board={shared}", "--config.search.member=1")
    alone, both = results.read(folder), results.read(second)
    assert [one.choice for one in both.candidates] == [one.choice for one in alone.candidates]
    assert both.chosen.bytes == alone.chosen.bytes
    for name in Run(folder).units():
        assert_same_tree(*(Run(one).unit(name).result()[0] for one in (folder, second)))
    said = (second / "run.log").read_text()
    assert said.count("taken over") == 7  # all but the last candidate and the chosen network
