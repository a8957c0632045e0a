"""Runs whose masks come from the training itself, or from before it; and what they refuse."""

import shutil

import numpy as np
import pytest

from groundwork import trees
from groundwork.errors import UserError
from groundwork.runs.run import result_of
from lottery import tickets
from tests.lottery import small

ARGS = ["--config.train.steps=20", "--config.rewind.step=0", "--config.prune.rate=0.5"]
ARGS += [f"--config.branches.{name}=()" for name in ("random_reinit", "random_mask", "small_dense")]
BEFORE = "--config.prune.before_training=True"


def _best(scores, among, count):
    """The mask of the highest scores of one replicate."""
    ranked = np.argsort(np.where(among, -scores, np.inf), axis=None, kind="stable")
    mask = np.zeros(scores.size, bool)
    mask[ranked[:count]] = True
    return mask.reshape(scores.shape)


def test_movement_is_read_from_the_state_that_is_scored_and_continues(tmp_path):
    folder, again = tmp_path / "run", tmp_path / "again"
    arguments = [*ARGS, "--config.levels=1", "--config.prune.criterion=movement"]
    small.train(folder, *arguments)
    state, _ = result_of(folder, "scored/00")
    sums = trees.flatten(state["opt_state"])
    dense, ticket = (tickets.load(folder, level) for level in (0, 1))
    for path, keep in ticket.mask.items():
        (score,) = [leaf for place, leaf in sums.items() if place.endswith(f"sums/{path}")]
        for r in range(2):
            expected = _best(score[r], dense.mask[path][r], keep[r].sum())
            np.testing.assert_array_equal(keep[r], expected)
    shutil.copytree(folder, again)
    for unit in ("levels/01/ticket", "scored/01"):
        shutil.rmtree(again / "checkpoints" / unit)
    small.train(again, *arguments)
    small.assert_same_tree(ticket, tickets.load(again, 1))


def test_tickets_before_training_are_chosen_by_the_weights_at_step_0(tmp_path):
    small.train(tmp_path / "run", *ARGS, "--config.levels=2", BEFORE)
    dense, *found = (tickets.load(tmp_path / "run", level) for level in range(3))
    for ticket in found:
        for path, keep in ticket.mask.items():
            start = np.abs(trees.flatten(dense.rewound["params"])[path])
            for r in range(2):
                expected = _best(start[r], dense.mask[path][r], keep[r].sum())
                np.testing.assert_array_equal(keep[r], expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([BEFORE, "--config.rewind.step=5"], "finds tickets at step 0: set rewind.step=0, not 5"),
        ([BEFORE, "--config.prune.criterion=movement"], "movement looks at a training, which"),
        (["--config.prune.examples=-1"], "prune.examples=-1 must be at least 0"),
        (
            ["--config.prune.criterion=obs", "--config.prune.prunable=('*kernel', '*bias')"],
            "prune.criterion: the inputs of 'fc1/bias' cannot be had",
        ),
    ],
)
def test_what_a_criterion_cannot_do_is_refused_before_the_run(arguments, said, tmp_path):
    with pytest.raises(UserError) as refusal:
        small.train(tmp_path / "run", *ARGS, *arguments)
    assert said in str(refusal.value)
    assert not (tmp_path / "run" / "config.json").exists()
