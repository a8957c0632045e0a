"""`prune.score_step`: a mask is chosen by weights from before the end of training."""

import shutil

import numpy as np
import pytest

from groundwork.errors import UserError
from groundwork.runs.run import Run, result_of
from lottery import results, tickets
from tests.lottery import small

SCORE_STEP = 15
ARGS = ["--config.train.steps=30", "--config.rewind.step=5", "--config.prune.rate=0.5"]
ARGS += [f"--config.branches.{name}=()" for name in ("random_reinit", "random_mask", "small_dense")]
EARLY = [*ARGS, "--config.levels=2", f"--config.prune.score_step={SCORE_STEP}"]


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score_step") / "early"
    small.train(folder, *EARLY)
    return folder


def test_training_itself_is_as_without_it(early, tmp_path):
    small.train(tmp_path / "run", *ARGS, "--config.levels=0")
    small.assert_same_tree(tickets.load(early, 0), tickets.load(tmp_path / "run", 0))


@pytest.mark.parametrize("level", [0, 1])
def test_the_weights_of_that_step_choose_the_next_mask(early, level):
    state, _ = result_of(early, f"scored/{level:02d}")
    assert state["step"].tolist() == [SCORE_STEP] * 2
    before, after = (tickets.load(early, number) for number in (level, level + 1))
    chosen_by_the_last = []
    for path, held in before.mask.items():
        layer = path.split("/")[0]
        for replicate in range(2):
            kept = after.mask[path][replicate]
            scored = np.abs(state["variables"]["params"][layer]["kernel"][replicate])
            last = np.abs(before.trained["params"][layer]["kernel"][replicate])
            for scores in (scored, last):
                ranked = np.sort(scores[held[replicate]])[::-1]
                same = (scores >= ranked[kept.sum() - 1]) & held[replicate]
                if scores is scored:
                    np.testing.assert_array_equal(kept, same)
                else:
                    chosen_by_the_last.append((kept == same).all())
    assert not all(chosen_by_the_last)


def test_learning_curves_begin_at_the_first_evaluation(early):
    curves = results.read(early).curves
    for level, first in ((0, 5), (1, 10), (2, 10)):  # level 0 has the rewind step, too
        steps = list(curves["ticket", level, "train", "loss"])
        assert (steps[0], steps[-1]) == (first, 30)
        assert SCORE_STEP in steps


def test_lost_rows_of_the_beginning_are_noticed(early, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(early, folder)
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(r for r in rows if '"scored/01"' not in r))
    assert list(results.lost(Run(folder))) == ["scored/01"]
    with pytest.raises(UserError, match="scored/01"):
        results.read(folder)


def test_what_is_lost_is_done_again_bit_for_bit(early, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(early, folder)
    for unit in ("scored/00", "levels/01/ticket", "scored/02"):
        shutil.rmtree(folder / "checkpoints" / unit)
    small.train(folder, *EARLY)
    for level in range(3):
        small.assert_same_tree(tickets.load(early, level), tickets.load(folder, level))
        scored = [result_of(run, f"scored/{level:02d}")[0] for run in (early, folder)]
        np.testing.assert_array_equal(scored[0]["step"], scored[1]["step"])
        small.assert_same_tree(*(state["variables"] for state in scored))
