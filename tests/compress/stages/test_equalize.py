"""Networks that are changed without any training, by the stage and by the whole command."""

import jax
import numpy as np
import pytest

from compress import form as form_lib
from compress import work
from compress.form import Form
from compress.quantize import data_free, materialize
from compress.stages import equalize, quantize, structured
from groundwork import trees
from groundwork.architectures import lenet
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from groundwork.runs import trained
from lowrank import factorization
from tests.compress import archives, small
from tests.compress.small import dense, node, pruned

WITHOUT = {"fine_tune": {"steps": 0}}


def test_each_replicate_is_folded_and_evened(untrained, pipeline):
    own = pipeline("vgg_11", 0.05, stages=("equalize",), data={"pad": 12})
    before = positive(dense(own))
    bias = before.variables["params"]["bn1_1"]["bias"]
    bias[...] = 0  # pruned, until BatchNorm is folded
    before = before._replace(mask={"bn1_1/bias": bias != 0})
    made = equalize.run(own, node("equalize"), before)
    assert made.form == before.form
    written = made.variables["params"]["bn1_1"]["bias"] != 0
    assert written.any()
    np.testing.assert_array_equal(made.mask["bn1_1/bias"], written)
    example = jax.ShapeDtypeStruct((2, 32, 32, 1), np.float32)
    for r in range(2):
        one = trees.replicate(before.variables, r)
        folded = data_free.fold(own.model, one, example)
        wanted = data_free.equalize(own.model, folded.variables, example)
        assert len(folded.folded) == len(wanted.pairs) == 8
        jax.tree.map(
            np.testing.assert_array_equal, trees.replicate(made.variables, r), wanted.variables
        )
    assert not untrained


def positive(made):
    """A network whose variances are."""
    return made._replace(variables=jax.tree.map(abs, made.variables))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"stages": ("equalize", "prune")}, "prune must come before equalize"),
        ({"stages": ("equalize", "quantize")}, "quantize trains after equalize"),
        ({"stages": ("equalize", "structured")}, "structured trains after equalize"),
        (
            {"stages": ("equalize", "structured"), "structured": {"criterion": "scale"}, **WITHOUT},
            "scales, which are all 1 after equalize",
        ),
    ],
)
def test_what_would_undo_it_is_refused(pipeline, sections, said):
    with pytest.raises(UserError, match=said):
        pipeline("resnet_20", 0.1, **sections)


def test_a_network_without_batch_norm_may_be_trained_afterwards(pipeline):
    pipeline(stages=("equalize", "quantize"))
    pipeline("resnet_20", 0.1, stages=("equalize", "quantize"), quantize={"fine_tune": False})


@pytest.mark.parametrize("method", ["uniform", "kmeans"])
def test_biases_make_up_for_rounded_weights(untrained, pipeline, method):
    rules = {"method": method, "fine_tune": False, "other_bits": 0}
    inputs, means = None, {}
    for correction in ("none", "empirical"):
        section = {**rules, "bias_correction": correction}
        own = pipeline(stages=("quantize",), quantize=section)
        before = pruned(own, "fc1/kernel")
        made = quantize.run(own, node("quantize", 3), before)
        inputs = data_lib.first_examples(own.context.dataset, quantize.CORRECTED_WITH)[0]
        for r in range(2):
            one = trees.replicate(made.variables, r)
            exact = trees.replicate(before.variables, r)
            now = {**one, "params": materialize(one["params"])}
            kernel = now["params"]["fc1"]["kernel"]
            assert not np.asarray(kernel)[~before.mask["fc1/kernel"][r]].any()
            answers = [own.model.apply(each, inputs) for each in (exact, now)]
            wanted, got = (np.asarray(each, np.float64).mean(0) for each in answers)
            means[correction, r] = np.abs(got - wanted).max() / np.abs(wanted).max()
    for r in range(2):
        assert means["empirical", r] < 1e-5 < means["none", r]


def test_correction_is_for_what_is_not_trained(pipeline):
    with pytest.raises(UserError, match=r"set quantize\.fine_tune=False"):
        pipeline(stages=("quantize",), quantize={"bias_correction": "empirical"})
    with pytest.raises(UserError, match=r"quantize\.bias_correction"):
        pipeline(stages=("quantize",), quantize={"bias_correction": "best"})


def test_no_steps_leave_a_network_as_it_was_changed(untrained, pipeline):
    own = pipeline(stages=("structured",), **WITHOUT)
    before = dense(own)
    made = structured.run(own, node("structured", 0.5), before)
    assert not untrained
    kept = next(iter(made.form.model.keep.values()))
    bias = before.variables["params"]["fc1"]["bias"]
    np.testing.assert_array_equal(
        made.variables["params"]["fc1"]["bias"], bias[kept].reshape(2, -1)
    )


def test_a_run_without_training(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "LOADS", 1)
    model = lenet.LeNet300100(classes=10, width=0.1)
    trained.save(tmp_path / "drawn.npz", archives.drawn(model, (64,)))
    small.train(
        tmp_path / "run",
        f"--config.source.path={tmp_path / 'drawn.npz'}",
        "--config.stages=('equalize','structured','quantize')",
        "--config.structured.ratio=(0.2,)",
        "--config.structured.compensate=true",
        "--config.quantize.method=uniform",
        "--config.quantize.per_channel=true",
        "--config.quantize.fine_tune=false",
        "--config.quantize.bias_correction=empirical",
        "--config.fine_tune.steps=0",
        "--config.train.steps=5",
    )
    said = (tmp_path / "run" / "run.log").read_text()
    assert "layers that have the ranges of those that follow: 2" in said
    assert "not made even, since the network returns it: output" in said
    assert "train.steps has no effect" in said
    for name in ("equalize", "equalize+structured-0.2", "equalize+structured-0.2+quantize-3"):
        assert (tmp_path / f"run/files/{name}/1.cna").exists()


def test_layers_of_low_rank_are_evened_like_others():
    model = lenet.LeNet300100(classes=10, width=0.05)
    variables, inputs = archives.drawn(model, (16,)), np.eye(16, dtype="f4")
    plan = {"fc1": {"method": "svd", "rank": 3}}
    apply, factors = factorization.factorize(model, variables, plan, inputs)
    network = form_lib.evaluation(Form(model, plan))
    new, pairs, left = data_free.equalize(network, factors, inputs)
    assert [len(following) for following in pairs.values()] == [1, 1, 1]
    assert list(left.values()) == ["the network returns it"]
    wanted = np.asarray(apply(factors, inputs))
    np.testing.assert_allclose(network(new, inputs), wanted, atol=1e-5 * np.abs(wanted).max())
