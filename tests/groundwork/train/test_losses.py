"""Losses bring their own counts: the cross-entropy's, and a user's own trained to its rows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from groundwork import trees
from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh
from groundwork.errors import UserError
from groundwork.runs import metrics
from groundwork.train import loop, loss_spec, losses, networks, programs, step
from groundwork.train.loss_spec import LossSpec
from groundwork.train.losses import Counts, Loss
from tests import packages
from tests.groundwork.contexts import context_of

TRAIN, HELD, RATE, STEPS = 12, 7, 0.05, 6
count_cross_entropy = jax.jit(losses.count_cross_entropy)


def test_means_are_the_sums_over_the_examples_by_name():
    counts = Counts(
        loss=jnp.asarray([6.0, 1.0]),
        examples=jnp.asarray([4, 8]),
        measures={"accuracy": jnp.asarray([3, 2]), "absolute_error": jnp.asarray([1.0, 4.0])},
    )
    means = counts.means()
    assert list(means) == ["loss", "accuracy", "absolute_error"]
    np.testing.assert_allclose(means["loss"], [1.5, 0.125])
    np.testing.assert_allclose(means["accuracy"], [0.75, 0.25])
    np.testing.assert_allclose(means["absolute_error"], [0.25, 0.5])


def test_a_loss_may_measure_nothing_else():
    assert Counts(loss=jnp.float32(3), examples=jnp.int32(2), measures={}).means() == {"loss": 1.5}


def test_the_cross_entropy_counts_what_it_announces():
    counts = count_cross_entropy(jnp.eye(3), jnp.arange(3), jnp.ones(3, bool))
    assert counts.measures.keys() == losses.CROSS_ENTROPY.measures.keys()
    for name, dtype in losses.CROSS_ENTROPY.measures.items():
        assert counts.measures[name].dtype == dtype
    assert counts.means()["accuracy"] == 1


def test_examples_that_are_not_valid_count_nowhere():
    logits = jnp.asarray([[2.0, 0.0], [0.0, 1.0], [9.0, 0.0]])
    labels = jnp.asarray([0, 0, 0])
    counts = count_cross_entropy(logits, labels, jnp.asarray([True, True, False]))
    assert (counts.examples, counts.measures["accuracy"]) == (2, 1)
    np.testing.assert_allclose(counts.loss, np.log1p(np.exp(-2)) + np.log1p(np.exp(1)), rtol=1e-6)


def test_logits_of_a_short_type_have_the_loss_of_their_values():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5)), jnp.bfloat16)
    labels, valid = jnp.arange(8) % 5, jnp.arange(8) < 6
    short, wide = (
        count_cross_entropy(each, labels, valid).loss
        for each in (logits, logits.astype(jnp.float32))
    )
    assert short.dtype == jnp.float32
    assert short == wide


# a loss of a user's own: squared errors of a linear regression


def count_squares(outputs, targets, valid):
    errors = outputs - targets
    return Counts(
        loss=jnp.sum(jnp.where(valid, jnp.sum(errors**2, -1), 0.0)),
        examples=jnp.sum(valid, dtype=jnp.int32),
        measures={"absolute_error": jnp.sum(jnp.where(valid, jnp.abs(errors).sum(-1), 0.0))},
    )


SQUARES = Loss(count=count_squares, measures={"absolute_error": np.float32})


class Line(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.Dense(2, name="line")(inputs)


@pytest.fixture(scope="module")
def dataset():
    """Five features, two targets."""
    rng = np.random.default_rng(0)
    slope = rng.normal(size=(5, 2))

    def split(count):
        inputs = rng.normal(size=(count, 5)).astype(np.float32)
        targets = inputs @ slope + rng.normal(0, 0.1, (count, 2))
        return Split(inputs, targets.astype(np.float32))

    moments = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    return Dataset("made", split(TRAIN), split(HELD), split(HELD), 2, *moments)


def _descent(variables, dataset):
    """By numpy: (kernel, bias) before each step and after the last, of one replicate."""
    line = variables["params"]["line"]
    kernel, bias = (np.asarray(line[name], np.float64) for name in ("kernel", "bias"))
    inputs, targets = dataset.train
    for _ in range(STEPS):
        yield kernel, bias
        error = 2 * (inputs @ kernel + bias - targets) / TRAIN
        kernel, bias = kernel - RATE * inputs.T @ error, bias - RATE * error.sum(0)
    yield kernel, bias


def _measured(point, split):
    """The means that a row should have at a point of the descent."""
    kernel, bias = point
    error = split.inputs @ kernel + bias - split.labels
    return [(error**2).sum(1).mean(), np.abs(error).sum(1).mean()]


def _train(context):
    """Trains to the end; returns the variables before the first step, on the host."""
    model, optimizer = Line(), optax.sgd(RATE)
    made = programs.make(
        model,
        optimizer,
        context.dataset,
        context.mesh,
        batch_size=TRAIN,  # all examples, so that their order does not count
        loss=step.make_loss(model, SQUARES),
        evaluate=step.make_eval_step(model, SQUARES),
        objective=SQUARES,
    )
    variables = networks.initial(context, model)
    begun = jax.device_get(variables)
    state = networks.make_start(context, networks.unmasked(optimizer))(variables)
    unit = context.run.unit("regression")
    loop.train(context, loop.Job(programs=made, unit=unit, stop=STEPS, fields={}), state)
    return begun


def _values(rows, **those):
    """Loss and absolute error of the one row with these fields."""
    (row,) = (row for row in rows if those.items() <= row.items())
    return [row["loss"], row["absolute_error"]]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2)])
def test_another_loss_is_trained_and_its_rows_have_its_measures(dataset, tmp_path, rows, columns):
    devices = mesh.make(2, TRAIN, replicate=rows, data=columns)
    with context_of(tmp_path, dataset, devices, replicates=2, eval_every=2) as context:
        shown = []
        context.reporter.update = lambda step, stop, means: shown.append((step, sorted(means)))
        begun = _train(context)
    names = ["absolute_error", "loss"]
    assert shown == [(2, names), (4, names), (6, names)]
    found = metrics.read(context.run.metrics)
    assert all(sorted(metrics.measured(row)) == names for row in found)
    for replicate in range(2):
        points = list(_descent(trees.replicate(begun, replicate), dataset))
        own = [row for row in found if row["replicate"] == replicate]
        for at in (2, 4, 6):
            before = [_measured(point, dataset.train) for point in points[at - 2 : at]]
            expected = np.mean(before, 0), _measured(points[at], dataset.validation)
            got = [_values(own, step=at, split=split) for split in ("train", "validation")]
            np.testing.assert_allclose(got, expected, rtol=1e-4)
        end = _values(own, split="test", at="end")
        np.testing.assert_allclose(end, _measured(points[-1], dataset.test), rtol=1e-4)


# the losses that a config can name


def test_tokens_count_one_by_one_and_negative_labels_do_not():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 4, 5)), rng.integers(0, 5, (3, 4))
    labels[0, 2:], labels[1] = -1, -1
    valid = np.array([True, True, False])
    counts = losses.cross_entropy(tokens=True).count(*map(jnp.asarray, (logits, labels, valid)))
    expected = [
        -np.log(np.exp(logits[0, at, labels[0, at]]) / np.exp(logits[0, at]).sum()) for at in (0, 1)
    ]
    np.testing.assert_allclose(counts.loss, np.sum(expected), rtol=1e-5)
    assert (counts.examples, counts.loss.shape) == (2, ())
    assert counts.measures["accuracy"] == sum(
        logits[0, at].argmax() == labels[0, at] for at in (0, 1)
    )


def test_bits_per_character_and_perplexity_are_those_of_a_hand_count():
    """Of 5 tokens that count the network gives the right one 1/2, 1/4, 1/4, 1/8 and 1/8."""
    shares = (
        np.array(
            [[[4, 2, 1, 1], [2, 4, 1, 1], [1, 1, 2, 4]], [[1, 4, 1, 2], [1, 2, 4, 1], [8] * 4]]
        )
        / 8
    )
    labels = np.array([[0, 0, 2], [0, 3, -1]])
    loss = losses.language_model()
    counts = loss.count(jnp.log(shares), jnp.asarray(labels), jnp.ones(2, bool))
    assert int(counts.examples) == 5
    bits = float(counts.means()["bits_per_character"])
    assert bits == pytest.approx((1 + 2 + 2 + 3 + 3) / 5, abs=1e-6)
    assert float(counts.means()["loss"]) == pytest.approx(bits * np.log(2), abs=1e-6)
    assert int(counts.measures["accuracy"]) == 1
    assert (loss.metric.name, loss.metric.higher_is_better) == ("bits_per_character", False)
    assert loss.metric.stopping == loss.metric
    assert loss.metric.perplexities([bits]) == pytest.approx([2**2.2])
    assert losses.CROSS_ENTROPY.metric.perplexities([bits]) == []


def test_a_language_model_needs_an_answer_for_each_token():
    with pytest.raises(UserError, match=r"shape \(2, 4\), the targets \(2, 3\): .* \[B, L, C\]"):
        losses.language_model().count(jnp.ones((2, 4)), jnp.ones((2, 3), int), jnp.ones(2, bool))


def test_smoothed_labels_are_shared_among_the_classes():
    logits, labels = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4))), jnp.arange(6) % 4
    counts = losses.cross_entropy(label_smoothing=0.2).count(logits, labels, jnp.ones(6, bool))
    soft = 0.8 * np.eye(4)[np.asarray(labels)] + 0.2 / 4
    expected = -(soft * np.asarray(jax.nn.log_softmax(logits))).sum()
    np.testing.assert_allclose(counts.loss, expected, rtol=1e-5)
    assert losses.cross_entropy() is losses.CROSS_ENTROPY


def test_a_squared_error_is_the_mean_over_an_examples_numbers():
    outputs, targets = jnp.asarray([[1.0, 2.0], [5.0, 5.0]]), jnp.asarray([[0.0, 4.0], [0.0, 0.0]])
    counts = losses.mean_squared_error().count(outputs, targets, jnp.asarray([True, False]))
    assert counts.means() == {"loss": 2.5, "mean_squared_error": 2.5}
    with pytest.raises(UserError, match=r"\(2, 1\), the targets \(2,\).*equal ones"):
        losses.mean_squared_error().count(jnp.ones((2, 1)), jnp.ones(2), jnp.ones(2, bool))


def test_yes_or_no_labels_are_judged_one_by_one():
    logits, labels = jnp.asarray([[2.0, -1.0], [3.0, 3.0]]), jnp.asarray([[1, 1], [0, 0]])
    counts = losses.sigmoid_cross_entropy().count(logits, labels, jnp.asarray([True, False]))
    np.testing.assert_allclose(counts.loss, (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2, 1e-6)
    assert counts.means()["label_accuracy"] == 0.5


def test_agreement_is_with_the_logits_that_are_the_targets():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 6, 4))
    counts = losses.agreement().count(jnp.asarray(ours), jnp.asarray(theirs), jnp.arange(6) < 5)
    soft = np.exp(theirs) / np.exp(theirs).sum(1, keepdims=True)
    logs = ours - np.log(np.exp(ours).sum(1, keepdims=True))
    means = counts.means()
    np.testing.assert_allclose(means["loss"], -(soft * logs).sum(1)[:5].mean(), rtol=1e-5)
    np.testing.assert_allclose(means["agreement"], (ours.argmax(1) == theirs.argmax(1))[:5].mean())
    errors = ((ours - theirs) ** 2).sum(1) / (theirs**2).sum(1)
    np.testing.assert_allclose(means["logit_error"], errors[:5].mean(), rtol=1e-5)
    assert losses.agreement().metric.is_share


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_counts_what_it_announces_and_is_judged_by_it(name):
    loss = losses.LOSSES[name]()
    outputs, targets = {
        "cross_entropy": (jnp.ones((3, 2)), jnp.zeros(3, jnp.int32)),
        "language_model": (jnp.ones((3, 4, 2)), jnp.zeros((3, 4), jnp.int32)),
        "squeezedet": (jnp.ones((3, 8 * 8 * 3, 6)), jnp.zeros((3, 1, 5))),
    }.get(name, (jnp.ones((3, 2)), jnp.zeros((3, 2))))
    counts = loss.count(outputs, targets, jnp.ones(3, bool))
    assert {n: a.dtype for n, a in counts.measures.items()} == dict(loss.measures)
    assert loss.metric.name in loss.measures


class TestOwn:
    """Losses of a user's own, by name."""

    @pytest.fixture(autouse=True)
    def _package(self, tmp_path, monkeypatch):
        text = packages.LOSSES + LOSSES
        packages.write(tmp_path, monkeypatch, losses=text)

    @pytest.mark.parametrize(
        ("name", "kwargs", "expected"),
        [
            ("absolute", {}, 6.0),
            ("absolute", {"power": 2}, 14.0),
            ("factory", {"scale": 2}, 12.0),
            ("made", {"scale": 3}, 18.0),
            ("READY", {}, 6.0),
        ],
    )
    def test_it_is_a_function_a_factory_or_a_loss(self, name, kwargs, expected):
        loss = loss_spec.build(LossSpec(f"theirs.losses:{name}", kwargs), None)
        outputs = jnp.asarray([[1.0, -2.0, 3.0], [9.0, 9.0, 9.0]])
        counts = loss.count(outputs, jnp.zeros((2, 3)), jnp.asarray([True, False]))
        assert (float(counts.loss), counts.examples, loss.metric.name) == (expected, 1, "loss")

    @pytest.mark.parametrize(
        ("name", "kwargs", "match"),
        [
            ("absolut", {}, "did you mean 'absolute'"),
            ("factory", {"scales": 2}, "loss_kwargs.*unexpected keyword argument 'scales'"),
            ("NUMBER", {}, "neither a Loss without settings nor a function: 3"),
            ("nothing", {}, "returns neither a Loss nor a function"),
        ],
    )
    def test_anything_else_is_refused(self, name, kwargs, match):
        with pytest.raises(UserError, match=match):
            loss_spec.build(LossSpec(f"theirs.losses:{name}", kwargs), None)

    def test_a_mean_over_the_batch_is_refused(self):
        loss = losses.of_examples(lambda outputs, targets: outputs.mean(), "loss=mine")
        with pytest.raises(UserError, match=r"loss=mine gives an array of shape \(\) for a batch"):
            loss.count(jnp.ones(3), jnp.ones(3), jnp.ones(3, bool))


LOSSES = """

from groundwork.train.losses import Loss, of_examples

NUMBER = 3
READY = of_examples(absolute)


def factory(scale=1):
    return lambda outputs, targets: scale * absolute(outputs, targets)


def made(scale):
    return of_examples(factory(scale))


def nothing():
    return None
"""


@pytest.mark.parametrize(("columns", "rows"), [(1, 5), (2, 5), (2, 1)])
def test_uneven_tokens_weigh_the_same_on_every_mesh(columns, rows, tmp_path):
    """By numpy: one step of descent on the mean over the tokens that count, in some of 8 rows."""
    rng = np.random.default_rng(3)
    tokens, targets = rng.integers(0, 4, (8, 3)), rng.integers(0, 4, (8, 3))
    targets[rows:], targets[0, 1:] = -1, -1  # of one row, a device has none
    split = Split(tokens.astype(np.int32), targets.astype(np.int32))
    nothing = np.zeros((1, 1), np.float32)
    dataset = Dataset(
        "made", split, Split(split.inputs[:0], split.labels[:0]), split, 4, *[nothing] * 2
    )
    model, loss = Table(), losses.cross_entropy(tokens=True)
    devices = mesh.make(1, 8, replicate=1, data=columns)
    with context_of(tmp_path, dataset, devices, replicates=1) as context:
        made = programs.make(model, optax.sgd(1.0), dataset, devices, batch_size=8, objective=loss)
        variables = networks.initial(context, model)
        before = np.asarray(variables["params"]["table"]["embedding"][0], np.float64)
        state = networks.make_start(context, networks.unmasked(optax.sgd(1.0)))(variables)
        with made.feed(state.key, 0) as feed:
            state, tally = made.run_steps(state, feed, made.no_tally(1), 0, 1)
        after = np.asarray(state.variables["params"]["table"]["embedding"][0])
        assert int(tally.counts.examples[0]) == (targets >= 0).sum()
        assert int(tally.first_bad[0]) == step.NEVER  # the loss is finite
    gradient = np.zeros((4, 4))
    for token, target in zip(tokens.ravel(), targets.ravel(), strict=True):
        if target >= 0:
            odds = np.exp(before[token])
            gradient[token] += odds / odds.sum() - np.eye(4)[target]
    np.testing.assert_allclose(after, before - gradient / (targets >= 0).sum(), atol=1e-6)


class Table(nn.Module):
    @nn.compact
    def __call__(self, tokens, train=False):
        return nn.Embed(4, 4, name="table")(tokens)
