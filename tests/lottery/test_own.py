"""Networks, data and losses of a user's own, through the command: trained, continued, refused."""

import json
import re

import numpy as np
import pytest

from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.runs import metrics
from lottery import results, spec, tickets, work
from tests import packages
from tests.lottery import small

QUICK = [
    "--config.levels=1",
    "--config.train.steps=24",
    "--config.train.batch_size=20",
    "--config.eval_every=8",
    "--config.rewind.step=4",
    "--config.prune.rate=0.3",
    "--config.model.width=1.0",
    "--config.branches.small_dense=()",
    "--config.branches.random_mask=()",
    "--config.branches.random_reinit=()",
]
REGRESSION = [
    *QUICK,
    "--config.model.name=theirs.nets:Regression",
    "--config.model.kwargs={'width': 9}",
    "--config.data.source=theirs.data:regression",
    "--config.data.validation_examples=0",
    "--config.loss=theirs.losses:absolute",
]
TOKENS = [
    *QUICK,
    "--config.model.name=theirs.nets:Tokens",
    "--config.model.kwargs={'vocabulary': 7}",
    "--config.data.source=theirs.data:tokens",
    "--config.data.validation_examples=0",
]


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Write the package, or write it again with another text of a module."""
    packages.write(tmp_path, monkeypatch)
    return lambda **modules: packages.write(tmp_path, monkeypatch, **modules)


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """A finished run, whose package is gone."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        packages.write(folder, patch)
        printed = small.run(folder / "run", *REGRESSION)
    return folder / "run", printed


def test_a_regression_is_trained_and_its_tables_and_figures_say_loss(regression):
    folder, printed = regression
    assert "run: test loss at the end of training" in printed
    run = results.read(folder)
    assert run.metric == ("loss", False)
    assert (folder / "figures/loss.png").is_file()
    page = (folder / "report.html").read_text()
    assert "Test loss against" in page
    assert "accuracy" not in page.lower()
    (record, _) = results.records(run)
    assert record["loss_mean"] == np.mean(run.points["ticket", 0].accuracy)
    assert {*map(tuple, map(metrics.measured, metrics.read(folder / "metrics.jsonl")))} == {
        ("loss",)
    }
    first, *_, last = [r["loss"] for r in small.rows(folder) if r["split"] == "validation"]
    assert last < first


def test_interrupted_and_continued_it_is_the_same_bit_for_bit(
    regression, theirs, tmp_path, monkeypatch
):
    disturbed = tmp_path / "run"
    often = "--config.checkpoint.poll_steps=3"
    looks = iter(range(1000))
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 9)
    with pytest.raises(Interrupted, match=r"saved at levels/0\d/ticket, step \d+"):
        small.train(disturbed, *REGRESSION, often)
    monkeypatch.setattr(Interruption, "reached", lambda self: False)
    small.train(disturbed, *REGRESSION, often)
    assert "continues from step" in (disturbed / "run.log").read_text()
    small.assert_same_run(disturbed, regression[0], [(0, "ticket"), (1, "ticket")])


@pytest.mark.parametrize(
    ("module", "old", "new", "key"),
    [
        ("nets", "Dropout(0.1, deter", "Dropout(0.2, deter", "model.name=theirs.nets:Regression"),
        ("losses", ".sum(-1)", ".mean(-1)", "loss=theirs.losses:absolute"),
        ("data", "default_rng(0)", "default_rng(1)", "data.source=theirs.data:regression"),
    ],
)
def test_a_run_of_other_code_is_refused_by_its_key(regression, theirs, module, old, new, key):
    folder, _ = regression
    before = packages.MODULES[module]
    assert old in before
    theirs(**{module: before.replace(old, new)})
    with pytest.raises(UserError, match=f"{re.escape(key)} computes something else than when"):
        small.train(folder, *REGRESSION)
    theirs(**{module: f"# a comment\n{before}"})
    small.train(folder, *REGRESSION)  # computes the same


def test_tokens_stay_integers_and_padding_does_not_count(theirs, tmp_path):
    small.train(tmp_path / "run", *TOKENS, "--config.optimizer.learning_rate=0.05")
    ends = [r for r in small.rows(tmp_path / "run") if r.get("at") == "end" and r["level"] == 0]
    assert results.read(tmp_path / "run").metric.name == "accuracy"
    kernel = tickets.load(tmp_path / "run", 1).trained["params"]["embed"]["embedding"]
    assert kernel.shape == (2, 7, 8)
    for row in ends:
        assert row["accuracy"] > 0.5  # of the four in six that are not padding
        assert round(row["accuracy"] * 29 * 4, 6) % 1 == 0  # counted by tokens


def test_an_nnx_network_with_batch_statistics_is_trained(theirs, tmp_path):
    name, fast = (
        "--config.model.name=theirs.nets:Convolutional",
        "--config.optimizer.learning_rate=0.03",
    )
    small.train(tmp_path / "run", *QUICK, name, fast)
    began = json.loads((tmp_path / "run/config.json").read_text())
    assert list(began["own"]) == ["model.name"]
    ticket = tickets.load(tmp_path / "run", 1)
    assert sorted(ticket.mask) == ["conv/kernel", "layers/0/kernel", "layers/1/kernel"]
    assert ticket.trained["params"]["layers"]["1"]["kernel"].shape == (2, 8, 10)
    mean, begun = (tree["batch_stats"]["norm"]["mean"] for tree in (ticket.trained, ticket.rewound))
    assert not np.array_equal(mean, begun)
    losses = [r["loss"] for r in small.rows(tmp_path / "run") if r["split"] == "validation"]
    assert losses[-1] < losses[0]


SPREAD = [*QUICK, "--config.levels=0", "--config.mesh.data=2"]
SPREAD += ["--config.model.name=theirs.nets:Convolutional"]


@pytest.mark.slow
def test_a_batch_may_be_spread_if_statistics_are_averaged(theirs, tmp_path):
    with pytest.raises(UserError, match=r"norm/mean differs between .* or set mesh.data=1"):
        small.train(tmp_path / "own", *SPREAD)
    averaged = "--config.model.kwargs={'axis': 'data'}"
    for name, spread in (("two", []), ("one", ["--config.mesh.data=1"])):
        small.train(tmp_path / name, *SPREAD, averaged, *spread)
    two, one = (
        tickets.load(tmp_path / name, 0).trained["batch_stats"]["norm"]["mean"]
        for name in ("two", "one")
    )
    np.testing.assert_allclose(two, one, atol=0.05)  # dropout differs


REFUSALS = {
    "a module that is not there": (["model.name=their.nets:Net"], ["model.name", "'their'"]),
    "a misspelt class": (["model.name=theirs.nets:Regresion"], ["did you mean 'Regression'"]),
    "an unknown argument": (
        ["model.name=theirs.nets:Regression", "model.kwargs={'widht': 3}"],
        ["model.kwargs={'widht': 3}", "unexpected keyword argument 'widht'"],
    ),
    "a width": (["model.name=theirs.nets:Regression", "model.width=0.5"], ["model.width=0.5"]),
    "arguments of a shipped network": (["model.kwargs={'width': 3}"], ["model.kwargs"]),
    "inputs of another kind": (
        ["model.name=theirs.nets:Tokens", "model.kwargs={'vocabulary': 3}"],
        ["theirs.nets:Tokens cannot take inputs of float32[1, 8, 8, 1]", "integer"],
    ),
    "a narrower network": (
        ["model.name=theirs.nets:Convolutional", "branches.small_dense=(2,)"],
        ["branches.small_dense=()", "theirs.nets:Convolutional"],
    ),
    "a misspelt loss": (["loss=cross_entrpy"], ["did you mean 'cross_entropy'"]),
    "settings that a loss lacks": (["loss_kwargs={'smoothing': 0.1}"], ["'smoothing'"]),
    "a smoothing beyond 1": (["loss_kwargs={'label_smoothing': 1.5}"], ["1.5", "[0, 1)"]),
    "labels for numbers": (["loss=mean_squared_error"], ["float32[10]", "int32[]", "equal ones"]),
    "numbers for labels": (
        [
            "model.name=theirs.nets:Regression",
            "data.source=theirs.data:regression",
            "data.validation_examples=0",
        ],
        ["loss=cross_entropy", "float32[2]", "labels must be integers"],
    ),
    "a mean for losses": (
        ["loss=jax.numpy:vdot"],
        ["loss=jax.numpy:vdot cannot take outputs of float32[10]"],
    ),
    "outputs of other axes": (
        ["model.name=theirs.nets:make", "model.kwargs={'width': 2}"],
        ["cross_entropy", "float32[8, 8, 2]", "one axis more"],
    ),
    "too few outputs": (
        ["model.name=theirs.nets:Convolutional", "model.kwargs={'num_classes': 9}"],
        ["cross_entropy", "float32[9]", "the label 9 needs 10 outputs, not 9"],
    ),
    "an unknown argument of the data": (
        ["data.source=theirs.data:regression", "data.kwargs={'size': 3}"],
        ["data.kwargs={'size': 3}", "'size'"],
    ),
    "two validation splits": (
        ["data.source=theirs.data:regression", "data.validation_examples=5"],
        ["data.validation_examples=0"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_what_does_not_fit_is_refused_in_one_line_before_training(case, theirs, refused):
    overrides, expected = case
    error = refused("prune.rate=0.3", "branches.small_dense=()", *overrides)
    for part in expected:
        assert part in error


SCANNED = """
import flax.linen as nn


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(5, name="dense")(x)), None


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 3}
        x, _ = nn.scan(Block, **options)(name="blocks")(x, None)
        return nn.Dense(2, name="output")(x)
"""


def test_the_layers_of_a_scan_are_ranked_each_by_itself(theirs, tmp_path):
    theirs(nets=SCANNED)
    flags = ("--config.model.name=theirs.nets:Scanned", "--config.model.kwargs={}")
    config = config_lib.resolve(config_lib.parse([*small.ARGS, *REGRESSION, *flags], "")[0])
    checked = spec.from_config(config)
    plan = work.make_plan(checked, config, data_lib.load(config))
    assert plan.slices == {"blocks/dense": 3, "output": 1}
    assert plan.kept[1]["blocks/dense"] == 3 * (25 - round(0.3 * 25))
