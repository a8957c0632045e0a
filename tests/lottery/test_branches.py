"""Controls beside the ticket, each against what its paper says, worked out in NumPy."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from groundwork import architectures, keys
from groundwork import config as config_lib
from groundwork.devices import mesh
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.train import optim
from lottery import spec, tickets
from lottery.branches import scratch_b, shuffled_mask
from pruning import masks
from tests.conftest import ROOT
from tests.lottery import small

STEPS, REWIND, DROP = 30, 10, 20
ARGS = [
    *(f"--config.branches.{name}=()" for name in ("random_reinit", "random_mask", "small_dense")),
    *(f"--config.branches.{name}=(1, 2)" for name in ("finetune", "lr_rewind")),
    *(f"--config.branches.{n}=2" for n in ("shuffled_mask", "shuffled_signs", "constant_signed")),
    "--config.branches.scratch_b=1",
    "--config.data.validation_examples=0",
    f"--config.train.steps={STEPS}",
    f"--config.rewind.step={REWIND}",
    "--config.optimizer.schedule=step",
    f"--config.optimizer.drop_steps=({DROP},)",
    "--config.optimizer.drop_factor=1e-3",  # so that what is trained at that rate stands still
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "branches"
    small.train(folder, *ARGS)
    return folder


def kernels(variables):
    return {path: np.asarray(leaf) for path, leaf in masks.flatten(variables["params"]).items()}


def begun(folder, level, branch):
    """Of each kernel: the mask, the ticket's weights at the rewind step, and the branch's."""
    ticket, control = (tickets.load(folder, level, name) for name in ("ticket", branch))
    before, after = kernels(ticket.rewound), kernels(control.rewound)
    return [(control.mask[path], before[path], after[path]) for path in before]


def steps_of(folder, level, branch):
    unit = tickets.unit_name(level, branch)
    rows = [row for row in small.rows(folder) if row["unit"] == unit]
    return [row["step"] for row in rows if row["split"] == "train"]


def test_a_shuffled_mask_keeps_as_many_of_each_array_and_the_dense_weights(folder):
    dense = kernels(tickets.load(folder, 0).rewound)
    ticket, control = (tickets.load(folder, 2, name) for name in ("ticket", "shuffled_mask"))
    for path, keep in control.mask.items():
        assert keep.sum((1, 2)).tolist() == ticket.mask[path].sum((1, 2)).tolist()
        both = (keep & ticket.mask[path]).sum() / keep.sum()  # by chance as many as are kept
        assert both == pytest.approx(keep.mean(), abs=0.15)
        np.testing.assert_array_equal(
            kernels(control.rewound)[path], np.where(keep, dense[path], 0)
        )
    assert not np.array_equal(*control.mask["fc1/kernel"])


def test_layers_that_are_stacked_are_shuffled_each_by_itself():
    counts = np.array([10, 20, 20])
    keep = np.arange(40) < counts[:, None]
    devices = mesh.make(1, 1, replicate=1, data=1, devices=jax.devices())
    shuffle = shuffled_mask.make_shuffle(devices, (("stack", 3),))
    made = np.asarray(shuffle(keys.roots(0, 1), {"stack": keep[None]}, 1)["stack"][0])
    assert made.sum(1).tolist() == counts.tolist()
    assert not np.array_equal(made[1], made[2])


def test_shuffled_signs_change_places_among_the_kept_weights(folder):
    for keep, before, after in begun(folder, 2, "shuffled_signs"):
        np.testing.assert_array_equal(np.abs(after), np.abs(before))
        assert not after[~keep].any()
        for replicate in range(2):
            assert (after[replicate] < 0).sum() == (before[replicate] < 0).sum()
        assert 0.2 < (after != before)[keep].mean() < 0.8
    small.assert_same_tree(*(tickets.load(folder, 2, b).mask for b in ("ticket", "shuffled_signs")))


def test_constant_weights_have_the_deviation_of_the_initial_ones_and_the_tickets_signs(folder):
    model = architectures.build({"name": "lenet_300_100", "width": 0.1}, 10)
    inputs = np.zeros((1, 8, 8, 1), np.float32)
    for replicate, root in enumerate(keys.roots(0, 2)):
        init = kernels(model.init(keys.stream(root, "init"), inputs))
        made = begun(folder, 2, "constant_signed")
        for (keep, before, after), first in zip(made, init.values(), strict=True):
            expected = np.sign(before[replicate]) * keep[replicate] * first.std()
            np.testing.assert_allclose(after[replicate], expected, rtol=1e-5)


@pytest.mark.parametrize("branch", ["finetune", "lr_rewind"])
def test_what_is_not_rewound_goes_on_from_its_own_weights_and_prunes_them(folder, branch):
    before = tickets.load(folder, 0)
    for level in (1, 2):
        own = tickets.load(folder, level, branch)
        for path, keep in own.mask.items():
            weights = kernels(before.trained)[path]
            np.testing.assert_array_equal(kernels(own.rewound)[path], np.where(keep, weights, 0))
            rate = 0.25 if path == "output/kernel" else 0.5
            for replicate, kept in enumerate(keep):
                held = before.mask[path][replicate]
                count = held.sum() - round(rate * held.sum())
                size = np.where(held, np.abs(weights[replicate]), -1).ravel()
                chosen = np.zeros(size.size, bool)
                chosen[np.argsort(-size, kind="stable")[:count]] = True
                np.testing.assert_array_equal(kept.ravel(), chosen)
        assert steps_of(folder, level, branch) == steps_of(folder, level, "ticket")
        before = own


def test_finetuning_has_the_last_learning_rate_and_rewinding_repeats_the_schedule(folder):
    moved = {}
    for branch in ("finetune", "lr_rewind"):
        own = tickets.load(folder, 1, branch)
        bias = [own.trained["params"]["fc1"]["bias"], own.rewound["params"]["fc1"]["bias"]]
        moved[branch] = np.abs(bias[0] - bias[1]).max()
    last = (STEPS - REWIND) * 1.2e-3 * 1e-3  # the most that Adam goes, but for a few per cent
    assert 0 < moved["finetune"] < 1.5 * last
    assert moved["lr_rewind"] > 1.2e-3


def test_the_last_rate_and_a_stretched_schedule_are_those_of_the_steps():
    checked = spec.from_config(config())
    made = optim.OptimizerSpec(
        "sgd", 0.5, 0.9, 0.0, "step", drop_steps=(4, 8), drop_factor=0.1, warmup_steps=2
    )
    assert checked.optimizer.name == "adam"
    last = optim.schedule(optim.settled(made, 10), 10)
    assert [float(last(step)) for step in (0, 9)] == pytest.approx([0.005, 0.005])
    stretched, steps = optim.stretched(made, 10, 2.5)
    assert (stretched.drop_steps, steps) == ((10, 20), 25)


def test_scratch_b_has_new_weights_and_the_dense_networks_multiply_adds(folder):
    ticket, control = (tickets.load(folder, 1, name) for name in ("ticket", "scratch_b"))
    small.assert_same_tree(ticket.mask, control.mask)
    times = sum(k.size for k in ticket.mask.values()) / sum(k.sum() for k in ticket.mask.values())
    assert 1.5 < times < 2.5
    assert max(steps_of(folder, 1, "scratch_b")) == round(times * STEPS)
    for keep, before, after in begun(folder, 1, "scratch_b"):
        assert (after != before)[keep].all()


def test_a_weight_of_a_convolution_costs_as_many_multiply_adds_as_it_has_places():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3), strides=2, name="conv")(x)
            return nn.Dense(5, name="fc")(x.reshape((len(x), -1)))

    shapes = jax.eval_shape(Net().init, jax.random.key(0), np.zeros((1, 6, 6, 2)))
    costs = scratch_b.costs(Net(), shapes, (6, 6, 2))
    by_hand = {"conv/kernel": 9 * 2 * 4 * 3 * 3, "fc/kernel": 36 * 5}
    assert costs == (sum(by_hand.values()), by_hand)
    mask = {"conv/kernel": np.zeros((2, 3, 3, 2, 4), bool)}
    mask["conv/kernel"][:, 0] = True  # a third
    expected = costs.total / (by_hand["conv/kernel"] / 3 + by_hand["fc/kernel"])
    assert scratch_b.times_as_long(costs, mask) == pytest.approx(expected)
    assert scratch_b.times_as_long(costs, mask, at_most=1.25) == 1.25


def test_a_run_that_is_stopped_in_a_branch_goes_on_bit_for_bit(folder, tmp_path, monkeypatch):
    run, branch = tmp_path / "run", "levels/02/finetune"
    alone = [*ARGS, *(a.partition("=")[0] + "=()" for a in ARGS if "branches" in a)]
    alone.append("--config.branches.finetune=all")

    def rows(folder):
        return [r for r in small.rows(folder) if r["unit"] == branch]

    def reached(self):
        return (run / "metrics.jsonl").exists() and bool(rows(run))

    monkeypatch.setattr(Interruption, "reached", reached)
    with pytest.raises(Interrupted, match=rf"saved at {branch}, step 20"):
        small.train(run, small.OFTEN, *alone)
    monkeypatch.undo()
    small.train(run, *alone)
    assert rows(run) == rows(folder)
    units = [(0, "ticket"), (1, "finetune"), (2, "ticket"), (2, "finetune")]
    for level, name in units:
        small.assert_same_tree(*(tickets.load(one, level, name) for one in (run, folder)))


def config(**changes):
    found = config_lib.resolve(config_lib.load(str(ROOT / "configs/lottery/digits.py")))
    for key, value in changes.items():
        section, _, name = key.partition("__")
        found[section][name] = value
    return found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"branches__finetune": (1, 3)}, r"branches\.finetune=.*give level 2, too, or 'all'"),
        ({"branches__lr_rewind": 2}, r"branches\.lr_rewind=2: .* give level 1"),
        ({"branches__finetune": "all", "optimizer__schedule": "cosine"}, r"take branches\.lr_rew"),
        ({"branches__scratch_b_at_most": 0.5}, r"branches\.scratch_b_at_most=0.5 must be at"),
        (
            {"branches__scratch_b_at_most": "all"},
            r"branches\.scratch_b_at_most='all' must be a num",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, said):
    with pytest.raises(UserError, match=said) as caught:
        spec.from_config(config(**changes))
    assert "\n" not in str(caught.value)
