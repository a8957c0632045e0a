"""Students of a ticket, end to end: chains, students that teach each other, and hints."""

import functools
import json

import jax
import numpy as np
import pytest

from compress import fit, results, work
from groundwork import architectures
from groundwork.architectures import lenet
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.runs import metrics
from groundwork.runs.run import Run
from groundwork.train import networks
from tests.compress import small
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SHORT = (
    "--config.model.width=0.05",
    "--config.train.steps=20",
    "--config.train.batch_size=50",
    "--config.eval_every=20",
    "--config.stages=('distill',)",
)
NARROW = "{'name': 'lenet_300_100', 'width': 0.02}"
CHAIN = (
    "--config.distill.init=shrink",
    f"--config.distill.model={NARROW}",
    "--config.distill.assistants=({'name': 'lenet_300_100', 'width': 0.03},)",
)
KEPT = (
    "--config.distill.init=keep",
    "--config.distill.hints=(('fc2', 'output'),)",
)
MUTUAL = (f"--config.distill.model={NARROW}", "--config.distill.mutual=2")


@pytest.fixture(scope="module")
def programs():
    return {}


@pytest.fixture(autouse=True)
def _compiled_once(monkeypatch, programs):
    """All runs of this file have the same data and mesh, so they share programs and starts."""
    initial = networks.initial

    def once(function, context, *key):
        if key not in programs:
            programs[key] = function(context, *key)
        return programs[key]

    def compiler(context):
        return functools.partial(once, fit.compile_recipe, context)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(networks, "initial", functools.partial(once, initial))
    monkeypatch.setattr(fit, "compiler", compiler)
    monkeypatch.setattr(work, "_milliseconds", lambda *_: {})  # which nobody asks for here


@pytest.fixture(scope="module")
def ticket(tmp_path_factory):
    """A run of `lottery` with a ticket whose biases were pruned, too; and the ticket."""
    folder = tmp_path_factory.mktemp("lottery")
    data = small.config(data={"validation_examples": 297})
    about = {"command": "lottery", "config": data}
    (folder / "config.json").write_text(json.dumps(about))
    rng = np.random.default_rng(0)
    shapes = architectures.shapes(lenet.LeNet300100(classes=10, width=0.05), (8, 8, 1))
    rewound, trained = (
        jax.tree.map(lambda s: rng.normal(0, 0.3, (2, *s.shape)).astype("f4"), shapes)
        for _ in range(2)
    )
    first = trained["params"]["fc1"]
    mask = {f"fc1/{name}": rng.uniform(size=first[name].shape) < 0.5 for name in first}
    for name, leaf in first.items():
        leaf *= mask[f"fc1/{name}"]
    first["kernel"][:, 0, 0], mask["fc1/kernel"][:, 0, 0] = 0, True  # kept, and zero by chance
    Run(folder).unit("levels/03/ticket").finish((mask, rewound, trained), {})
    return folder, mask, trained


def train(folder, ticket, *overrides):
    source = f"--config.source.path={ticket[0]}", "--config.source.unit=levels/03/ticket"
    small.train(folder, *SHORT, *source, *overrides)


def said(folder):
    """What is the same in two runs of one config."""
    rows = metrics.read(folder / "metrics.jsonl")
    files = {path.relative_to(folder): path.read_bytes() for path in folder.glob("files/*/*.cna")}
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows], files


def stopped(folder, ticket, monkeypatch, overrides, place):
    """Trains, is stopped at the second look for a signal, which is at this place, and goes on."""
    looks = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "reached", lambda self: next(looks) == 1)
        with pytest.raises(Interrupted, match=place):
            train(folder, ticket, *overrides)
    train(folder, ticket, *overrides)


def test_a_ticket_heads_a_chain_that_ends_the_same_when_it_was_stopped(
    ticket, tmp_path, monkeypatch
):
    chain = tmp_path / "one"
    train(chain, ticket, *CHAIN)
    variables, kept = results.load_all(chain, "original")
    jax.tree.map(np.testing.assert_array_equal, (variables, kept), (ticket[2], ticket[1]))
    parents = {network.name: network.parent for network in results.read(chain).networks}
    assert parents == {
        "original": "",
        "distill-assistant-1": "original",
        "distill": "distill-assistant-1",
    }
    widths = {
        name: results.load(chain, name)["params"]["fc1"]["bias"].shape[-1] for name in parents
    }
    assert widths == {"original": 15, "distill-assistant-1": 9, "distill": 6}
    stopped(tmp_path / "two", ticket, monkeypatch, CHAIN, "distill-assistant-1, step 10")
    assert said(tmp_path / "two") == said(chain)


def test_what_a_ticket_has_pruned_stays_zero_where_it_goes_on_with_hints(ticket, tmp_path):
    folder = tmp_path / "run"
    train(folder, ticket, *KEPT)
    _, mask, trained = ticket
    variables, kept = results.load_all(folder, "distill")
    jax.tree.map(np.testing.assert_array_equal, kept, mask)
    for path, keep in mask.items():
        layer, name = path.split("/")
        values, start = (tree["params"][layer][name] for tree in (variables, trained))
        assert not values[~keep].any()
        assert np.mean(values[keep] != start[keep]) > 0.5
    rows = metrics.read(folder / "metrics.jsonl")
    (_, network) = results.read(folder).networks
    assert {row["parameters"] for row in rows} == {*network.parameters}


def test_students_that_teach_each_other_are_both_kept(ticket, tmp_path, monkeypatch):
    train(tmp_path / "one", ticket, *MUTUAL)
    first, second = (
        results.load(tmp_path / "one", name)["params"]["fc1"]["kernel"]
        for name in ("distill", "distill-peer-2")
    )
    assert first.shape == second.shape == (2, 64, 6)
    assert np.any(first != second)
    stopped(tmp_path / "two", ticket, monkeypatch, MUTUAL, "networks/distill, step 10")
    assert said(tmp_path / "one") == said(tmp_path / "two")
