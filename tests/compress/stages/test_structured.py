"""Units that go in the middle of a pipeline."""

import dataclasses

import jax
import numpy as np
import pytest

import compress
from compress import results, tables, work
from compress.made import Node
from compress.stages import structured
from groundwork import trees
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.runs import checkpoint
from groundwork.runs.progress import Reporter
from tests.compress import small
from tests.conftest import ROOT


def test_a_run_takes_units_and_quantises_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "LOADS", 1)
    small.train(
        tmp_path / "run",
        "--config.stages=('structured','quantize')",
        "--config.structured.ratio=(0.5,)",
        "--config.structured.compensate=true",
        "--config.quantize.method=uniform",
        "--config.train.steps=20",
        "--config.fine_tune.steps=10",
        "--config.eval_every=10",
    )
    files = tmp_path / "run" / "files" / "structured-0.5+quantize-3"
    networks = [compress.load(files / f"{r}.cna") for r in range(2)]
    shapes = [jax.tree.map(np.shape, variables["params"]) for _, variables in networks]
    assert shapes[0] == shapes[1]
    widths = [shapes[0][layer]["kernel"] for layer in ("fc1", "fc2", "output")]
    assert widths == [(64, 15), (15, 5), (5, 10)]
    kept = [apply.__self__.keep for apply, _ in networks]
    assert any((kept[0][name] != kept[1][name]).any() for name in kept[0])
    run = results.read(tmp_path / "run")
    assert "structured-0.5+quantize-3" in str(tables.networks(run))


def test_what_is_not_compensated_is_said_once_for_all_replicates(tmp_path, monkeypatch):
    missed = {"params/dw/kernel": "it has groups of channels"}
    monkeypatch.setattr(structured.units, "least_squares", lambda *given: (given, missed))
    with Reporter(tmp_path / "log.txt", {"a": 1}) as reporter:
        made = structured.compensated(reporter, 1, ["a", "b"], [2, 3], 4)
        assert made == [(1, "a", 2, 4), (1, "b", 3, 4)]
    said = (tmp_path / "log.txt").read_text()
    assert said.count("params/dw/kernel is not compensated: it has groups of channels") == 1


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"structured": {"ratio": ()}}, "structured.ratio=() must be shares"),
        (
            {"structured": {"ratio": (0.1234567, 0.1234568)}},
            "must be shares that differ in six dig",
        ),
        ({"structured": {"ratio": (1.0,)}}, "must lie between 0 and 1"),
        ({"structured": {"criterion": "l3"}}, "unknown structured.criterion 'l3'"),
        ({"stages": ("structured", "prune")}, "prune must come before structured"),
        ({"stages": ("factorize", "structured")}, "takes no units of layers after factorize"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(pipeline, sections, said):
    with pytest.raises(UserError) as caught:
        pipeline(**({"stages": ("structured",)} | sections))
    assert said in str(caught.value)


def test_a_pruned_network_stays_pruned_in_the_units_that_are_left(untrained, pipeline):
    own = pipeline(stages=("structured",), structured={"ratio": (0.5,)})
    before = small.pruned(own, "fc1/kernel", "fc2/kernel")
    made = structured.run(own, small.node("structured", 0.5), before)
    for path, kept in made.mask.items():
        layer, leaf = path.split("/")
        kernel = made.variables["params"][layer][leaf]
        assert kept.shape == kernel.shape
        np.testing.assert_array_equal(kernel != 0, kept)
    assert made.mask["fc1/kernel"].shape[2] < before.mask["fc1/kernel"].shape[2]
    assert len(untrained) == 1
    for replicate in (0, 1):
        one = work.of_replicate(made.form.model, replicate)
        assert all(units.ndim == 1 for units in one.keep.values())


@pytest.fixture
def trains(pipeline, tmp_path):
    """Makes a pipeline that trains in earnest."""
    with Reporter(tmp_path / "run.log", {"a": 1}) as reporter:

        def build(**sections):
            made = pipeline(**sections)
            context = dataclasses.replace(made.context, reporter=reporter)
            return dataclasses.replace(made, context=context)

        yield build


def test_a_stage_that_was_stopped_ends_as_one_that_was_not(trains, monkeypatch):
    """Its checkpoint holds the whole state of training, as narrow as the network."""
    own = trains(
        stages=("structured",),
        structured={"ratio": (0.5,)},
        fine_tune={"steps": 12},
        eval_every=6,
        checkpoint={"every_seconds": 0.0, "poll_steps": 3},
    )
    before = small.pruned(own, "fc1/kernel")
    first = trees.replicate(before.variables, 0)
    graph = structured.graph_of(before.form, first, own.context.dataset.example)
    monkeypatch.setattr(structured, "graph_of", lambda *_: graph)  # one, so all is compiled once
    straight = structured.run(own, small.node("structured", 0.5), before)
    stopped = Node("again", "original", "structured", 0.5, True)
    looks = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "reached", lambda self: next(looks) == 1)
        with pytest.raises(Interrupted):
            structured.run(own, stopped, before)
    (folder,) = own.context.run.unit(stopped.unit).folder.glob("step-*")
    state, _ = checkpoint.restore(folder)
    kernels = [
        np.shape(leaf) for path, leaf in trees.flatten(state).items() if path.endswith("fc1/kernel")
    ]
    width = straight.variables["params"]["fc1"]["kernel"].shape[2]
    assert width < before.variables["params"]["fc1"]["kernel"].shape[2]
    assert len(kernels) > 1  # the optimiser's too
    assert {shape[-1] for shape in kernels} == {width}
    continued = structured.run(own, stopped, before)
    jax.tree.map(np.testing.assert_array_equal, continued.variables, straight.variables)
    assert (continued.variables["params"]["output"]["bias"] != 0).any()


STREAM = {
    "name": "tiny_digits",
    "source": "tfds",
    "dir": str(ROOT / "tests/fixtures/tfds"),
    "stream": True,
    "validation_examples": 20,
}


def test_a_stream_trains_what_is_left_where_no_example_is_looked_at(trains):
    sections = {"train": {"batch_size": 16}, "fine_tune": {"steps": 2, "batch_size": 16}}
    sections |= {"stages": ("structured",), "data": STREAM}
    own = trains(structured={"ratio": (0.5,)}, **sections)
    before = small.dense(own)
    made = structured.run(own, small.node("structured", 0.5), before)
    left, whole = (v["params"]["fc1"]["kernel"] for v in (made.variables, before.variables))
    assert left.shape[2] < whole.shape[2]
    with pytest.raises(UserError, match=r"looks at examples: data\.stream=false"):
        trains(structured={"compensate": True}, **sections)
