"""Widths as exits of the command: answers, losses, costs, a run that is stopped and continued."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.train.step import Batch
from msdnet import cost, networks, objective, plots, report, results
from tests.groundwork.architectures.small import quickly
from tests.lottery.small import assert_same_tree
from tests.msdnet import small
from tests.msdnet.slimmable.networks import CLASSES, UNITS, by_hand, drawn

SHAPE = (1, 5, 1)
COUNTS = ({"first": 2, "second": 3}, UNITS)
SECTION = {"model": {"name": "tests.msdnet.slimmable.networks:Tiny"}, "widths": [0.5, 1.0]}
MACS = [5 * 2 + 2 * 3 + 3 * CLASSES, 5 * 4 + 4 * 6 + 6 * CLASSES]
PARAMS = [macs + 2 + 3 + CLASSES + 2 * 2 for macs in MACS[:1]] + [MACS[1] + 4 + 6 + CLASSES + 2 * 4]
ARGS = (
    "--config.slimmable.model.name=tests.msdnet.slimmable.networks:Tiny",
    "--config.slimmable.widths=(0.5, 1.0)",
    "--config.checkpoint.poll_steps=20",
)


@pytest.mark.parametrize("name", ["slimmable", "separate"])
def test_widths_cost_what_they_do_alone_and_add_up_in_turn(name):
    model = networks.build(name, SECTION, CLASSES)
    assert model == networks.build(name, SECTION, CLASSES)
    assert (model.exits, model.alone) == (2, True)
    found = cost.costs(model, SHAPE)
    assert [one.macs for one in found] == MACS
    assert [one.params for one in found] == PARAMS
    assert [one.macs_cumulative for one in found] == [MACS[0], sum(MACS)]
    extra = {"slimmable": 2 * 2, "separate": PARAMS[0]}[name]  # the norm of the narrow width
    assert cost.parameters(model, SHAPE) == PARAMS[1] + extra


def test_the_loss_is_the_sum_of_all_widths_and_each_has_its_statistics():
    model = networks.build("slimmable", SECTION, CLASSES)
    variables = drawn(cost.shapes(model, SHAPE))
    x = np.random.default_rng(2).normal(size=(6, *SHAPE)).astype(np.float32)
    batch = Batch(jnp.asarray(x), jnp.arange(6) % CLASSES, jnp.ones(6, bool))
    loss_fn = objective.make_loss(model, (1.0, 1.0))

    @quickly
    def loss(variables):
        one = jax.vmap(lambda _: loss_fn(jax.random.key(0), variables, batch), axis_name="data")
        return jax.tree.map(lambda leaf: leaf[0], one(jnp.zeros(1)))

    found, (changed, _) = loss(variables)
    expected = 0.0
    for number, count in enumerate(COUNTS):
        logits, new = by_hand(variables, x.reshape(6, 5), number, count, train=True)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        expected -= np.log(shares[np.arange(6), np.arange(6) % CLASSES]).mean()
        for kind, leaf in new.items():
            ours = changed["batch_stats"]["norm"][kind][f"width_{number}"]
            np.testing.assert_allclose(ours, leaf, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({**SECTION, "widths": [1.0, 0.5]}, r"slimmable: widths=\(1\.0, 0\.5\) must grow"),
        ({**SECTION, "widths": [0.1, 1.0]}, "slimmable: width 0.1 leaves none of the 4 units"),
        ({**SECTION, "model": {"name": "vgg_12"}}, "unknown model 'vgg_12'; did you mean"),
        ({**SECTION, "model": 3}, "slimmable.model=3 must be"),
        ({**SECTION, "width": 3}, "unknown config key of slimmable 'width'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(section, said):
    with pytest.raises(UserError, match=said) as caught:
        cost.costs(networks.build("slimmable", section, CLASSES), SHAPE)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slimmable") / "run"
    small.train(folder, *ARGS, networks=("slimmable", "separate"))
    return folder


@pytest.mark.slow
def test_a_run_shows_widths_alone_and_in_turn(finished):
    run = results.read(finished)
    for network in run.networks.values():
        assert network.alone
        np.testing.assert_allclose(np.cumsum(network.milliseconds_alone), network.milliseconds)
        alone, in_turn = ([one[n] for one in network.costs] for n in (1, 2))
        assert in_turn == np.cumsum(alone).tolist()
        header, rows = report._exit_table(network)
        assert header[4:6] == ["ms per image alone", "ms per image"]
        assert float(rows[1][4]) == pytest.approx(network.milliseconds_alone[1], abs=1e-3)
    path, caption = plots.measured(run, finished / "figures/measured.png")
    assert path.is_file()
    assert "(slimmable network, width chosen, widths trained separately)" in caption
    params = results.load(finished, "separate")[0]["params"]
    first = [np.shape(params[f"classifier_{k}"]["first"]["kernel"]) for k in range(2)]
    assert first == [(2, 64, 2), (2, 64, 4)]


@pytest.mark.slow
def test_asked_to_stop_in_the_middle_widths_go_on_bit_for_bit(finished, tmp_path, monkeypatch):
    looks = iter(range(1000))
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 1)
    with pytest.raises(Interrupted, match=r"saved at networks/slimmable, step \d+"):
        small.train(tmp_path / "run", *ARGS, networks=("slimmable",))
    monkeypatch.undo()
    small.train(tmp_path / "run", *ARGS, networks=("slimmable",))
    ours, theirs = (results.load(path, "slimmable")[0] for path in (tmp_path / "run", finished))
    assert_same_tree(ours, theirs)
