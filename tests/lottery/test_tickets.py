"""The experiment, whole, on a small network: what is rewound, pruned, trained and written down."""

import collections
import logging
import re

import jax
import numpy as np
import pytest

import lottery
from groundwork import architectures, keys, trees
from groundwork.devices import mesh
from groundwork.errors import UserError
from groundwork.runs import checkpoint
from lottery import main, results, tickets
from lottery.branches import random_mask
from pruning import masks
from tests import steps
from tests.lottery import small

pytestmark = pytest.mark.slow

ALONE = ("--config.branches.random_mask=()", "--config.branches.random_reinit=()")
LAYERS = {"fc1": 64 * 30, "fc2": 30 * 10, "output": 10 * 10}


def _kernels(variables):
    return {path: np.asarray(leaf) for path, leaf in masks.flatten(variables["params"]).items()}


def test_counts_follow_the_rates_to_the_integer(finished):
    for level in (0, 1, 2):
        mask = tickets.load(finished[0], level).mask
        expected = dict(LAYERS)
        for _ in range(level):
            expected = {
                k: n - round((0.25 if k == "output" else 0.5) * n) for k, n in expected.items()
            }
        for layer, count in expected.items():
            assert mask[f"{layer}/kernel"].sum((1, 2)).tolist() == [count, count]


def test_masks_are_nested_and_differ_between_replicates(finished):
    one, two = (tickets.load(finished[0], level).mask for level in (1, 2))
    assert not any((two[path] & ~one[path]).any() for path in one)
    assert not np.array_equal(one["fc1/kernel"][0], one["fc1/kernel"][1])


@pytest.mark.parametrize("replicate", [0, 1])
def test_a_loop_of_ones_own_finds_the_same_tickets(finished, replicate):
    """The training of `iterate` gives back what the command has trained."""
    recorded = [trees.replicate(tickets.load(finished[0], level), replicate) for level in (0, 1, 2)]

    def fit(ticket, mask):
        rewound, trained = recorded[len(done)][1:]
        small.assert_same_tree(jax.tree.map(np.asarray, ticket), rewound["params"])
        done.append(1)
        return trained["params"]

    done: list[int] = []
    start = recorded[0].rewound["params"]
    rate = {"*": 0.5, "output": 0.25}
    for level in lottery.iterate(start, fit, levels=2, rate=rate):
        mask = {path: np.asarray(keep) for path, keep in level.mask.items()}
        small.assert_same_tree(mask, recorded[level.number].mask)
    assert len(done) == 3


@pytest.mark.parametrize(("level", "branch"), small.UNITS)
def test_pruned_weights_are_exactly_zero_at_both_ends_and_kept_ones_are_trained(
    finished, level, branch
):
    mask, rewound, trained = tickets.load(finished[0], level, branch)
    for path, keep in mask.items():
        for variables in (rewound, trained):
            assert not _kernels(variables)[path][~keep].any()
    assert (_kernels(trained)["fc1/kernel"] != _kernels(rewound)["fc1/kernel"]).any()


def test_the_lowest_magnitudes_of_the_level_before_are_what_goes(finished):
    before, after = (tickets.load(finished[0], level) for level in (1, 2))
    for path in before.mask:
        for replicate in range(2):
            held, kept = before.mask[path][replicate], after.mask[path][replicate]
            size = np.abs(_kernels(before.trained)[path][replicate])
            assert size[held & ~kept].max() <= size[kept].min()


def test_tickets_rewind_to_the_dense_weights_of_the_rewind_step(finished):
    dense = tickets.load(finished[0], 0)
    for level in (1, 2):
        ticket = tickets.load(finished[0], level)
        for path, keep in ticket.mask.items():
            expected = np.where(keep, _kernels(dense.rewound)[path], 0)
            np.testing.assert_array_equal(_kernels(ticket.rewound)[path], expected)
        for layer in LAYERS:  # biases come back too
            a, b = (t.rewound["params"][layer]["bias"] for t in (dense, ticket))
            np.testing.assert_array_equal(a, b)
    first = {row["step"] for row in small.rows(finished[0]) if row["unit"] == "levels/01/ticket"}
    assert min(first) == 30  # the first evaluation after step 20


def test_the_rewind_point_is_not_the_initialisation_here_and_is_with_step_0(finished, tmp_path):
    model = architectures.build({"name": "lenet_300_100", "width": 0.1}, 10)
    root = keys.roots(0, 2)[1]
    init = model.init(keys.stream(root, "init"), np.zeros((1, 8, 8, 1), np.float32))
    at_20 = tickets.load(finished[0], 0).rewound["params"]["fc1"]["kernel"][1]
    assert not np.allclose(at_20, init["params"]["fc1"]["kernel"])
    small.train(tmp_path / "zero", "--config.rewind.step=0", "--config.levels=0")
    at_0 = tickets.load(tmp_path / "zero", 0).rewound["params"]["fc1"]["kernel"][1]
    np.testing.assert_allclose(at_0, init["params"]["fc1"]["kernel"], rtol=1e-6)


def test_random_masks_keep_as_many_of_each_layer_and_the_same_weights(finished):
    ticket, control = (tickets.load(finished[0], 2, b) for b in ("ticket", "random_mask"))
    dense = _kernels(tickets.load(finished[0], 0).rewound)
    for path, keep in control.mask.items():
        assert keep.sum((1, 2)).tolist() == ticket.mask[path].sum((1, 2)).tolist()
        assert not np.array_equal(keep, ticket.mask[path])
        np.testing.assert_array_equal(
            _kernels(control.rewound)[path], np.where(keep, dense[path], 0)
        )
    assert not np.array_equal(*control.mask["fc1/kernel"])


def test_reinitialised_tickets_keep_the_mask_and_draw_other_weights(finished):
    ticket, control = (tickets.load(finished[0], 2, b) for b in ("ticket", "random_reinit"))
    small.assert_same_tree(ticket.mask, control.mask)
    kept = ticket.mask["fc1/kernel"]
    a, b = (_kernels(t.rewound)["fc1/kernel"][kept] for t in (ticket, control))
    assert (a != b).all()
    steps = {r["step"] for r in small.rows(finished[0]) if r["unit"] == "levels/02/random_reinit"}
    assert min(steps) == 10  # it begins at step 0


def test_the_small_dense_network_has_no_more_parameters_than_the_ticket_keeps(finished):
    ticket, control = (tickets.load(finished[0], 2, b) for b in ("ticket", "small_dense"))
    kept = sum(int(keep[0].sum()) for keep in ticket.mask.values()) + 30 + 10 + 10
    parameters = sum(leaf[0].size for leaf in jax.tree.leaves(control.trained["params"]))
    assert parameters <= kept
    assert parameters > 0.8 * kept
    assert all(keep.all() for keep in control.mask.values())


def test_rows_say_what_the_masks_say(finished):
    found = small.rows(finished[0])
    total = sum(LAYERS.values())
    kept = {
        (level, branch): sum(
            tickets.load(finished[0], level, branch).mask[f"{layer}/kernel"].sum((1, 2))
            for layer in LAYERS
        )
        for level, branch in small.UNITS
        if branch != "small_dense"
    }
    for row in found:
        if row["unit"].startswith("levels/") and row["branch"] != "small_dense":
            left = int(kept[row["level"], row["branch"]][row["replicate"]])
            assert row["density"] == left / total
            assert row["parameters"] == left + 50
    named = {"level", "branch", "replicate", "step", "split", "loss", "accuracy", "density"}
    assert all(named <= row.keys() for row in found)
    assert all(0 <= row["accuracy"] <= 1 for row in found)
    assert [
        r["step"] for r in found if r["unit"] == "levels/00/ticket" and r["split"] == "train"
    ] == [step for step in (30, 40, 50, 60) for _ in range(2)]


def _early_stops(folder, level, branch, replicate):
    """Validation losses by step, and the step that the test row names."""
    units = [tickets.unit_name(level, branch), *(["start"] if level == 0 else [])]
    rows = [r for r in small.rows(folder) if r["unit"] in units and r["replicate"] == replicate]
    losses = {r["step"]: r["loss"] for r in rows if r["split"] == "validation"}
    stops = [r["step"] for r in rows if r.get("at") == "early_stop"]
    assert [r["step"] for r in rows if r.get("at") == "end"] == [60]
    return losses, stops


def test_the_early_stopping_step_is_that_of_the_least_validation_loss(finished):
    for level, branch in small.UNITS:
        for replicate in range(2):
            losses, stops = _early_stops(finished[0], level, branch, replicate)
            assert stops == [min(losses, key=lambda step: (losses[step], step))]


def test_the_dense_networks_early_stopping_step_may_lie_before_the_rewind_step(tmp_path):
    small.train(
        tmp_path / "run", "--config.optimizer.learning_rate=0.05", "--config.levels=0",
        "--config.rewind.step=50", "--config.data.validation_examples=200",
    )  # fmt: skip
    found = [_early_stops(tmp_path / "run", 0, "ticket", replicate) for replicate in range(2)]
    assert any(stops[0] <= 50 for _, stops in found)
    assert all(stops == [min(losses, key=losses.get)] for losses, stops in found)


def test_a_network_with_prunable_biases_alone_has_no_mask_picture_and_all_else(tmp_path):
    small.run(
        tmp_path / "run", "--config.prune.prunable=('*bias',)", "--config.prune.rate=0.2",
        "--config.levels=1", *ALONE,
    )  # fmt: skip
    assert tickets.load(tmp_path / "run", 1).mask["fc1/bias"].sum(1).tolist() == [24, 24]
    assert (tmp_path / "run/figures/accuracy.png").exists()
    assert not (tmp_path / "run/figures/first_layer_mask.png").exists()


def test_a_finished_run_shows_its_result_and_trains_nothing(finished, monkeypatch):
    folder, printed = finished
    before = (folder / "metrics.jsonl").read_bytes()
    monkeypatch.setattr("groundwork.train.loop.train", lambda *a: pytest.fail("it trained again"))
    assert small.run(folder, "--profile=0:2") == printed
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert (
        "warning: all units are done already: there is no profile"
        in (folder / "run.log").read_text()
    )


def test_more_levels_go_on_from_where_the_run_ended(finished, tmp_path):
    small.train(tmp_path / "grown", "--config.levels=1")
    small.train(tmp_path / "grown")
    small.assert_same_run(tmp_path / "grown", finished[0], small.UNITS)


def test_another_identity_is_refused_with_the_difference(finished):
    with pytest.raises(UserError, match=r"seed is 0 there, 7 here"):
        small.train(finished[0], "--config.seed=7")


def test_a_flipped_bit_is_noticed_and_the_level_done_again(finished, tmp_path, capsys):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    files = (folder / "checkpoints/levels/01/ticket/final").rglob("*")
    victim = max((p for p in files if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(checkpoint.DamagedError, match=victim.name):
        tickets.load(folder, 1)
    small.train(folder)
    said = capsys.readouterr().err + (folder / "run.log").read_text()
    assert "is damaged" in said
    assert "levels/01/ticket is done again" in said
    for level, branch in small.UNITS:
        small.assert_same_tree(*(tickets.load(f, level, branch) for f in (folder, finished[0])))
    by_unit = lambda f: sorted(small.rows(f), key=str)  # noqa: E731
    assert by_unit(folder) == by_unit(finished[0])


def test_what_is_not_there_is_named(finished):
    with pytest.raises(UserError, match=r"no finished levels/07/ticket .*levels/02/ticket"):
        tickets.load(finished[0], 7)


def test_all_levels_share_one_compiled_step(tmp_path, caplog):
    random_mask.make_draw.cache_clear()
    draw = random_mask.make_draw(mesh.make(1, 50, replicate=1, data=1, devices=jax.devices()))
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        sizes = "--config.data.validation_examples=200"
        small.train(tmp_path / "run", "--config.branches.small_dense=()", sizes)
    assert draw._cache_size() == 1  # the random masks of both levels
    compiled = [re.match(r"Compiling jit\((\w+)\)", record.message) for record in caplog.records]
    counts = collections.Counter(found[1] for found in compiled if found)
    assert counts["some_steps"] == 1
    assert counts["add_batches"] == 2  # validation and test differ in shape


@pytest.mark.parametrize("restore", ["weights", "state"])
def test_restore_state_brings_the_moments_back_and_weights_does_not(tmp_path, restore):
    """With one step after the rewind, Adam's update tells fresh moments from old ones."""
    small.train(
        tmp_path / "run", "--config.train.steps=21", f"--config.rewind.restore={restore}",
        "--config.levels=1", *ALONE,
    )  # fmt: skip
    _, rewound, trained = tickets.load(tmp_path / "run", 1)
    moved = np.abs(trained["params"]["output"]["bias"] - rewound["params"]["output"]["bias"])
    fresh = np.allclose(moved, 1.2e-3, rtol=1e-3)  # Adam's first step is ± the learning rate
    assert fresh == (restore == "weights")


def test_global_pruning_ranks_all_layers_together(tmp_path):
    small.train(
        tmp_path / "run",
        "--config.prune.scope=global",
        "--config.prune.rate=0.5",
        "--config.levels=1",
        *ALONE,
    )
    dense, ticket = (tickets.load(tmp_path / "run", level) for level in (0, 1))
    for replicate in range(2):
        flat = np.concatenate(
            [np.abs(_kernels(dense.trained)[p][replicate]).ravel() for p in sorted(dense.mask)]
        )
        kept = np.concatenate([ticket.mask[p][replicate].ravel() for p in sorted(dense.mask)])
        best = np.zeros(len(flat), bool)
        best[np.argsort(-flat, kind="stable")[: len(flat) - round(0.5 * len(flat))]] = True
        np.testing.assert_array_equal(kept, best)


def test_the_random_criterion_does_not_look_at_the_weights(tmp_path):
    small.train(tmp_path / "run", "--config.prune.criterion=random", "--config.levels=1", *ALONE)
    dense, ticket = (tickets.load(tmp_path / "run", level) for level in (0, 1))
    size, keep = np.abs(_kernels(dense.trained)["fc1/kernel"]), ticket.mask["fc1/kernel"]
    assert keep.sum() == keep.size // 2
    assert abs(size[keep].mean() / size[~keep].mean() - 1) < 0.1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_good(tmp_path):
    args = ("--config.optimizer.name=sgd", "--config.rewind.step=0", "--config.levels=0")
    said = r"training loss is not finite: levels/00/ticket, replicate \d, step [1-9]\d*\. "
    with pytest.raises(UserError, match=said):
        small.train(tmp_path / "run", *args, "--config.optimizer.learning_rate=1e38")
    assert checkpoint.verify(tmp_path / "run/checkpoints/start/final")["step"] == 0
    assert not (tmp_path / "run/checkpoints/levels/00/ticket/final").exists()


def test_results_read_back_what_was_written(finished):
    found = results.read(finished[0])
    assert found.branches() == ["ticket", "random_reinit", "random_mask", "small_dense"]
    point = found.points["ticket", 2]
    assert point.kept["output"] == [100 - 25 - round(0.25 * 75)] * 2
    ends = [
        r["accuracy"]
        for r in small.rows(finished[0])
        if r["unit"] == "levels/02/ticket" and r.get("at") == "end"
    ]
    assert point.accuracy == ends


def test_the_steps_that_were_said_beforehand_are_those_of_each_unit(finished):
    assert steps.agree(main.STUDY, finished[0]) == set()
