import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from configs.msdnet import base
from groundwork import architectures
from groundwork.architectures import own
from groundwork.architectures.resnet import ResNet
from groundwork.errors import UserError
from groundwork.runs import identity
from groundwork.traced.macs import multiply_adds
from groundwork.train import step
from groundwork.train.step import Batch
from msdnet import cost, early_exit, exits, heads, networks, objective, plots, results, tokens, work
from msdnet.controls import ResNetExits
from msdnet.plots import HEADS
from tests.groundwork.architectures.small import quickly
from tests.msdnet import small as runs
from tests.own import networks as brought

KEY = jax.random.key(0)
NETWORKS = {  # name → layers, multiply-adds of the parts of one example, heads left out
    "MNIST CNN (Linen)": (("Conv_0", "Conv_1"), [64 * 36, 16 * 36 * 6, 24 * 16 + 16 * 5]),
    "CNN (NNX)": (("norm",), [64 * 36, 64 * 5]),
    "Transformer (NNX)": (("attention", "down"), [6 * 256 + 2 * 36 * 8, 6 * 192, 40]),
    "MLP (Equinox)": (("layers/1",), [56 + 49, 35]),
}


def attached(name_or_made, layers, classes=brought.CLASSES):
    """A network with heads; the network alone and its variables; all variables, by numpy."""
    made = name_or_made
    plain = made.variables
    plain = plain if isinstance(plain, dict) and "params" in plain else {"params": plain}
    net = own.of(made.model)
    pair = (lambda key, inputs: plain, net.apply)
    shapes = jax.eval_shape(heads.attach(_variables(pair), layers, classes).init, KEY, made.inputs)
    model = heads.attach(made.model, layers, classes)
    return model, net, plain, heads.with_backbone(brought.drawn(shapes), plain)


def _variables(pair):
    """The pair as one whose functions take and give variables, not parameters alone."""
    init, apply = pair
    return init, lambda variables, inputs: apply(variables, inputs)


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    """A network; the outputs of all exits, of the network alone, and block by block."""
    found, (layers, macs) = brought.NETWORKS[request.param](), NETWORKS[request.param]
    model, net, plain, variables = attached(found, layers)
    whole = quickly(model.apply)(variables, found.inputs)
    alone = quickly(net.apply)(plain, found.inputs)
    blocks, features = [], found.inputs
    for k in range(model.exits):
        block = quickly(functools.partial(model.apply, method="block"), static_argnums=1)
        features, logits = block(variables, k, features)
        blocks.append((features, logits))
    return found, model, variables, macs, whole, alone, blocks


def test_the_last_exit_is_the_network_bit_for_bit(case):
    found, model, *_, whole, alone, blocks = case
    if found.model.__class__.__name__ == "function" and "norm" in model.layers:
        np.testing.assert_allclose(whole[-1], alone, rtol=2e-6)  # its statistics are constants
    else:
        np.testing.assert_array_equal(whole[-1], alone)
    assert [logits.shape for logits in whole] == [alone.shape] * len(blocks)


def test_block_by_block_is_the_whole_and_what_a_head_alone_takes_is_freed(case):
    *_, whole, _, blocks = case
    for (features, logits), expected in zip(blocks, whole, strict=True):
        np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6)
        assert features.answer is None
    assert [len(features.values) for features, _ in blocks] == [1] * (len(blocks) - 1) + [0]


def test_a_block_has_the_multiply_adds_of_its_part_alone(case):
    found, model, variables, macs, *_, blocks = case
    taken = [found.inputs, *(features for features, _ in blocks)]
    for k, expected in enumerate(macs):
        advance = functools.partial(model.apply, method="advance")
        traced = multiply_adds(
            lambda v, f, k=k, advance=advance: advance(v, k, f), variables, taken[k]
        )
        assert traced == expected * brought.BATCH


# training


class Small(nn.Module):
    """A residual block with BatchNorm between two layers."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, train=False):
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = nn.relu(norm(name="bn1")(nn.Conv(3, (3, 3), name="conv1")(x)))
        x = nn.relu(x + norm(name="bn2")(nn.Conv(3, (3, 3), name="conv2")(x)))
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        return nn.Dense(brought.CLASSES, name="output")(jnp.mean(x, (1, 2)))


@functools.cache
def small(dropout=0.0):
    module, x = Small(dropout), brought.images()
    found = brought.Brought(
        module, brought.made(module, x), x, brought.LABELS, 0, brought.TRAIN, None
    )
    batch = Batch(x, brought.LABELS, jnp.ones(4, bool))
    return batch, *attached(found, ("conv1", "bn2"))


def gradient(loss, variables, batch):
    def of_params(params):
        return loss(KEY, {**variables, "params": params}, batch)

    return quickly(jax.value_and_grad(of_params, has_aux=True))(variables["params"])


def test_the_last_exit_s_loss_trains_the_network_as_it_trains_alone():
    batch, model, net, plain, variables = small()
    (loss, (updated, _)), grads = gradient(step.make_loss(net), plain, batch)
    (same, (found, _)), ours = gradient(objective.make_loss(model, (0, 0, 1.0)), variables, batch)
    assert loss == same
    for one, other in (
        (grads, ours["backbone"]),
        (updated["batch_stats"], found["batch_stats"]["backbone"]),
    ):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    assert not np.array_equal(
        updated["batch_stats"]["bn1"]["mean"], plain["batch_stats"]["bn1"]["mean"]
    )


def test_gradient_equilibrium_divides_what_comes_from_later_exits():
    """Of K = 3 exits, the last one's loss reaches block k times the product of (K−k−1)/(K−k)."""
    batch, model, _, _, variables = small()
    plain, even = (
        gradient(objective.make_loss(model, (0, 0, 1.0), equilibrium=on), variables, batch)[1][
            "backbone"
        ]
        for on in (False, True)
    )
    for layer, share in (("conv1", 1 / 3), ("conv2", 1 / 2), ("output", 1)):
        kernels = (tree[layer]["kernel"] for tree in (even, plain))
        one, other = kernels
        np.testing.assert_allclose(one, share * other, rtol=1e-4, atol=1e-6)


def test_dropout_draws_from_the_step_s_key_and_evaluation_has_none():
    batch, model, *_, variables = small(0.5)
    loss = objective.make_loss(model, (0, 0, 1.0))
    run = quickly(lambda key: loss(key, variables, batch)[0])
    one, again, other = (float(run(jax.random.key(seed))) for seed in (0, 0, 1))
    assert one == again != other
    traced = str(jax.make_jaxpr(model.apply)(variables, batch.inputs))
    assert "random_bits" not in traced
    assert "random_bits" in str(jax.make_jaxpr(lambda key: loss(key, variables, batch)[0])(KEY))


def test_an_nnx_class_makes_its_variables_and_its_statistics_change():
    model = heads.attach(brought.NnxCNN, ("norm",), brought.CLASSES)
    shapes = jax.eval_shape(model.init, KEY, brought.images())
    assert set(shapes["params"]) == {"backbone", "classifier_0"}
    variables = brought.drawn(shapes)
    batch = Batch(brought.images(), brought.LABELS, jnp.ones(4, bool))
    loss = objective.make_loss(model, (1.0, 1.0))
    _, (updated, _) = quickly(lambda v: loss(KEY, v, batch))(variables)
    before, after = (tree["batch_stats"]["backbone"]["norm"] for tree in (variables, updated))
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert not np.array_equal(before["mean"], after["mean"])
    assert model == heads.attach(brought.NnxCNN, ["norm"], brought.CLASSES)


class Counting(nn.Module):
    """Its second layer depends on the number of steps, which its first one increments."""

    @nn.compact
    def __call__(self, x, train=False):
        steps = self.variable("state", "steps", lambda: jnp.zeros(()))
        if train:
            steps.value = steps.value + 1
        x = nn.Dense(3, name="first")(x.reshape(len(x), -1))
        return nn.Dense(brought.CLASSES, name="output")(x * steps.value)


def test_what_one_block_changes_another_sees_as_the_network_alone_does():
    x = brought.images()[:, :2, 0]
    found = brought.Brought(
        Counting(), brought.made(Counting(), x), x, brought.LABELS, 0, brought.TRAIN, None
    )
    model, net, plain, variables = attached(found, ("first",))
    how = {"train": True, "mutable": ["state"]}
    ours, changed = quickly(lambda v: model.apply(v, x, **how))(variables)
    alone, expected = quickly(lambda v: net.apply(v, x, **how))(plain)
    np.testing.assert_allclose(ours[-1], alone, rtol=1e-6)
    assert changed["state"]["backbone"] == expected["state"]


def test_tokens_count_one_by_one_and_without_a_label_not_at_all():
    """The loss, the distillation and the counts of two exits' logits [B, L, C], by numpy."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(2, 3, 4, 5)).astype(np.float32)
    labels = draw.integers(0, 5, (3, 4))
    labels[0, 2:] = -1
    valid = np.array([True, True, False])
    counted = valid[:, None] & (labels >= 0)

    class Model(nn.Module):
        exits = 2

        def advance(self, k, features, train):
            return features

        def classify(self, k, features, train):
            return jnp.asarray(logits[k])

    batch = Batch(jnp.zeros((3, 4)), jnp.asarray(labels), jnp.asarray(valid))
    loss_fn = objective.make_loss(Model(), (0.5, 1.0), distillation=0.25, temperature=2.0)
    with jax.disable_jit():
        loss, (_, counts) = loss_fn(KEY, {}, batch)
    log_p = log_softmax(logits, -1)
    each = -np.take_along_axis(log_p, np.maximum(labels, 0)[None, ..., None], -1)[..., 0]
    soft = log_softmax(logits / 2, -1)
    apart = (np.exp(soft[1]) * (soft[1] - soft[0])).sum(-1)
    expected = (0.5 * each[0] + each[1] + 0.25 * 4 * apart)[counted].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert counts.examples == counted.sum() == 6
    assert counts.measures["accuracy"] == (logits[1].argmax(-1) == labels)[counted].sum()


# the command

BROUGHT = (
    "--config.heads.model.name=tests.msdnet.slimmable.networks:Tiny",
    "--config.heads.model.width=1.0",
    "--config.heads.layers=('norm',)",
    "--config.replicates=1",
    "--config.train.steps=10",
    "--config.eval_every=10",
    "--config.optimizer.drop_steps=()",
)
SHARED = "--config.mesh.data=2"  # two devices share each batch


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads") / "run"
    runs.train(folder, *BROUGHT, SHARED, networks=("heads",))
    return folder


@pytest.mark.slow
def test_a_run_on_two_devices_ends_as_one_on_one_device(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "milliseconds", lambda model, *_: [1.0] * model.exits)
    runs.train(tmp_path / "run", *BROUGHT, networks=("heads",))
    ours, theirs = (results.load(folder, "heads")[0] for folder in (finished, tmp_path / "run"))
    assert set(ours) == {"params", "batch_stats"}
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4),
        ours,
        theirs,
    )


@pytest.mark.slow
def test_a_network_of_one_s_own_is_known_by_its_code(finished, monkeypatch):
    monkeypatch.setattr(nn, "relu", nn.gelu)
    with pytest.raises(UserError, match=r"heads\.model\.name=tests.* computes something else"):
        runs.train(finished, *BROUGHT, SHARED, networks=("heads",))


@pytest.mark.slow
def test_a_run_of_before_there_were_heads_goes_on_and_two_of_one_model_stay_two(finished):
    about = json.loads((finished / "config.json").read_text())
    config = {**about["config"], **base.get_config().to_dict()}
    older = {key: value for key, value in config.items() if key not in HEADS}
    now = identity.Identity(command="msdnet", config=config)
    identity.refuse_other(finished, {**about, "config": older}, now)
    run = results.read(finished)
    assert [len(network.costs) for network in run.networks.values()] == [2]
    assert plots.label(run, "heads").endswith(":Tiny with heads")
    run.config["heads_2"]["model"] = run.config["heads"]["model"]
    assert plots.label(run, "heads_2").endswith(":Tiny with heads_2")


# costs


def test_costs_of_tokens_are_those_of_their_parts():
    found = brought.language_model()
    model, *_ = attached(found, ("blocks",), brought.TOKENS)
    example = jax.ShapeDtypeStruct((1, brought.LENGTH), jnp.int32)
    first, last = cost.costs(model, example)
    head = brought.LENGTH * 8 * brought.TOKENS
    assert (last.macs, last.macs_cumulative) == (
        found.macs // brought.BATCH,
        found.macs // brought.BATCH + head,
    )
    assert first.macs == found.macs // brought.BATCH  # its head costs what the last layer does
    assert last.params + 9 * brought.TOKENS == cost.parameters(model, example)


def test_a_resnet_with_heads_costs_what_one_written_with_exits_does():
    model = heads.attach(ResNet(10, 0.5, blocks=1), ("block1_1", "block2_1"), 10)
    written, shape = ResNetExits(10, width=0.5, blocks=1), (16, 16, 1)
    assert cost.costs(model, shape) == cost.costs(written, shape)
    assert cost.parameters(model, shape) == cost.parameters(written, shape)


def test_a_section_names_a_network_and_its_layers():
    section = {"model": {"name": "vgg_11", "width": 0.125}, "layers": ["bn1_1"], "head": 4}
    model = networks.build("heads_2", section, 10)
    vgg = architectures.build({"name": "vgg_11", "width": 0.125}, 10)
    assert model == heads.attach(vgg, ("bn1_1",), 10, head=4)
    for change, message in (
        ({"layers": ()}, r"heads_2: layers=\(\) must name"),
        ({"layer": "x"}, "unknown config key of heads_2 'layer'; did you mean 'layers'"),
        ({"model": {"name": "vgg_10"}}, "heads_2: unknown model 'vgg_10'"),
        ({"model": {"name": "a:B", "width": 0.5}}, r"heads_2: model\.width=0\.5 is .*: leave 1\.0"),
        ({"dtype": "bfloat16"}, "unknown config key of heads_2 'dtype'"),
    ):
        with pytest.raises(UserError, match=message):
            networks.build("heads_2", {**section, **change}, 10)


# predictions


def test_images_that_leave_early_are_answered_as_the_whole_network_routes_them():
    found = brought.NETWORKS["MNIST CNN (Linen)"]()
    model, _, _, variables = attached(found, ("Conv_0",))
    logits = quickly(model.apply)(variables, found.inputs)
    sure = np.stack([np.asarray(exits.confidence(one)) for one in logits], 1)
    limits = [float(np.median(sure[:, 0]))]
    predicted = early_exit.predict(model, variables, np.asarray(found.inputs), limits, 4)
    routed = exits.route(sure, limits)
    np.testing.assert_array_equal(predicted.exits, routed)
    assert set(routed) == {0, 1}
    labels = np.stack([np.argmax(one, -1) for one in logits], 1)
    np.testing.assert_array_equal(predicted.labels, labels[np.arange(4), routed])


def test_tokens_leave_one_by_one_and_their_sequence_with_the_last_of_them():
    found = brought.language_model()
    model, _, _, variables = attached(found, ("Embed_0", "blocks"), brought.TOKENS)
    logits = quickly(model.apply)(variables, found.inputs)
    sure = np.stack([np.asarray(exits.confidence(one)) for one in logits], -1)  # [B, L, K]
    # The least confident of some sequence's tokens leaves at the first exit, and so do all of it.
    limits = [float(np.sort(sure[..., 0].min(1))[-2]), float(np.median(sure[..., 1]))]
    predicted = tokens.predict(model, variables, found.inputs, limits, batch_size=4)
    routed = exits.route(sure.reshape(-1, 3), limits).reshape(predicted.exits.shape)
    np.testing.assert_array_equal(predicted.exits, routed)
    labels = np.stack([np.argmax(one, -1) for one in logits], -1)
    chosen = np.take_along_axis(labels, routed[..., None], -1)[..., 0]
    np.testing.assert_array_equal(predicted.labels, chosen)
    np.testing.assert_array_equal(predicted.blocks, routed.max(1) + 1)
    assert predicted.blocks.min() == 1 < predicted.blocks.max()


# refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), 5), r"layers=\(\) must name at least one layer"),
        ((("conv1", "conv1"), 5), r"name 'conv1' more than once"),
        ((("conv1",), 0), "classes=0 must be an integer, at least 1"),
    ],
)
def test_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        heads.attach(Small(), *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "classes", "message"),
    [
        (("conv3",), 5, "unknown layer 'conv3'; did you mean 'conv"),
        (("bn2", "conv1"), 5, "layer 'conv1' comes before 'bn2'"),
        (("conv1",), 7, r"the network gives \[\(1, 5\)\], not logits \[B, 7\] of classes"),
    ],
)
def test_what_the_first_trace_shows_is_refused_in_one_line(layers, classes, message):
    with pytest.raises(UserError, match=message) as caught:
        architectures.shapes(heads.attach(Small(), layers, classes), (8, 8, 1))
    assert "\n" not in str(caught.value)


def test_other_networks_variables_are_refused():
    _, _, _, plain, variables = small()
    with pytest.raises(ValueError, match="are not those of the network that has the heads"):
        heads.with_backbone(variables, {"params": plain["params"]})
    with pytest.raises(ValueError, match="give the NNX module's class"):
        heads.attach(brought.nnx.Module(), ("conv",), 5)
    with pytest.raises(ValueError, match=r"give a module, Small\(…\), not its class"):
        heads.attach(Small, ("conv1",), 5)
    with pytest.raises(ValueError, match=r"makes none: give a pair \(init, apply\)"):
        heads.attach(lambda params, x: x, ("conv1",), 5).init(KEY, brought.images())
