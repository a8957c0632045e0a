"""Predictions in two parts, beside the network's own function as XLA computes it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures, traced
from groundwork.architectures import layers
from groundwork.architectures.cpu import chain as chain_lib
from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.chain import FORMS
from groundwork.architectures.cpu.convolution import conv_general_dilated
from groundwork.traced.predictions import compiled, predictor
from msdnet import MSDNet
from tests.groundwork.architectures.cpu.onednn import decide_again, needs_onednn
from tests.groundwork.traced.foreign import NETWORKS

KEY = jax.random.key(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def disturbed(variables):
    """Variables whose biases, scales and statistics are not those of a new network."""
    leaves, tree = jax.tree.flatten(variables)
    random = np.random.default_rng(1)
    moved = [leaf + 0.1 * np.abs(random.normal(size=leaf.shape)).astype("f4") for leaf in leaves]
    return jax.tree.unflatten(tree, moved)


def parts(monkeypatch, apply, variables, *inputs, **options):
    """The outputs by both parts, and the chains that were computed."""
    met, run = [], chain_lib.run

    def noted(chain, *rest):
        met.append(chain)
        return run(chain, *rest)

    monkeypatch.setattr(chain_lib, "run", noted)
    made = predictor(apply, variables, *inputs, **options)
    return jax.jit(made.apply)(made.prepare(variables), *inputs), met


def kinds(chains):
    return [[node.kind for node in chain.nodes] for chain in chains]


def assert_close(ours, theirs, most=1e-5):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        scale = np.abs(np.asarray(other, np.float64)).max(initial=1e-9)
        np.testing.assert_allclose(one, other, rtol=0, atol=most * scale)


def of_the_house(name, batch, **settings):
    model = architectures.build({"name": name, **settings}, 10)
    x = normal(batch, 32, 32, 3)
    variables = jax.jit(lambda key: model.init(key, x, train=False))(KEY)
    return lambda v, x: model.apply(v, x, train=False), disturbed(variables), x


HOUSE = {  # name → width, and how many chains its layers are in
    "resnet_20": (0.5, 1),
    "vgg_11": (0.125, 1),
    "densenet_40": (0.5, None),
    "mobilenet_v2_small": (0.25, 1),
    "shufflenet_v1_small": (0.25, None),
    "lenet_300_100": (0.1, 1),
}


@needs_onednn
@pytest.mark.parametrize("name", HOUSE)
def test_networks_of_the_house(monkeypatch, name):
    width, chains = HOUSE[name]
    apply, variables, x = of_the_house(
        name, 1 if name in ("resnet_20", "vgg_11") else 3, width=width
    )
    ours, met = parts(monkeypatch, apply, variables, x)
    assert_close(ours, jax.jit(apply)(variables, x))
    assert chains in (None, len(met))
    assert met


@needs_onednn
def test_a_network_with_exits_is_one_chain(monkeypatch):
    model, x = MSDNet(10, blocks=2, base=1, step=1, step_mode="even"), normal(2, 32, 32, 3)
    variables = disturbed(jax.jit(lambda key: model.init(key, x, False))(KEY))
    ours, met = parts(monkeypatch, lambda v, x: model.apply(v, x, False), variables, x)
    assert_close(ours, model.apply(variables, x, False))
    assert len(met) == 1
    assert kinds(met)[0].count("concat") > 1


@needs_onednn
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_nobody_here_wrote(monkeypatch, name):
    called = NETWORKS[name]()
    apply = traced.network.apply_of(called.model)

    def network(variables, *inputs):
        return apply(variables, *inputs, **called.kwargs)

    ours, _ = parts(monkeypatch, network, called.variables, *called.args)
    assert_close(ours, network(called.variables, *called.args))


class Odd(nn.Module):
    """What can stand between layers: values that are read twice, other orders, other numbers."""

    kind: str

    @nn.compact
    def __call__(self, x):
        def conv(x, name, features=16):
            own = {"conv_general_dilated": conv_general_dilated}
            return nn.Conv(features, (3, 3), name=name, **own)(x)

        y = conv(x, "first")
        match self.kind:
            case "read twice":
                return nn.relu(y) + 2 * y
            case "itself":
                return nn.relu(y + y)
            case "a residual that comes later":
                return nn.relu(y + conv(x, "second"))
            case "a residual before bounds":
                return y + nn.relu(conv(nn.relu(y), "second"))
            case "bounds in turn":
                return jnp.maximum(jnp.minimum(jnp.maximum(y, -0.5), 0.25), -0.25)
            case "bounds that cross":
                return jnp.maximum(jnp.minimum(y, -1.0), 1.0)
            case "clip":
                return jnp.clip(y, -0.3, 0.4)
            case "hard swish":
                return y * nn.relu6(y + 3) / 6
            case "scaled after bounds":
                return nn.relu(y) * 3 - 1
            case "scaled after a residual":
                return (conv(nn.relu(y), "second") + y) * 2
            case "minus":
                return nn.relu(1 - y)
            case "a view that is scaled":
                flat = y.reshape(len(y), -1)
                numbers = np.linspace(1, 2, flat.shape[1], dtype=np.float32)
                return flat * jnp.broadcast_to(numbers, flat.shape) + 1
            case "a residual of a view":
                flat = y.reshape(len(y), -1)
                return flat + nn.Dense(flat.shape[1], name="dense")(flat)
            case "a view":
                flat = y.reshape(len(y), -1)
                return nn.Dense(5, name="dense")(flat), flat.sum(-1), nn.relu(y)
            case "concatenated with the input":
                return conv(jnp.concatenate([x, nn.relu(y), y], -1), "second")
            case "whole":
                return y
            case "pooled and gated":
                gate = nn.sigmoid(nn.Dense(16, name="gate")(y.mean((1, 2))))
                return conv(y * jnp.broadcast_to(gate[:, None, None], y.shape), "second")
            case "shortcut":
                z = jnp.pad(y[:, ::2, 1:], [(0, 0)] * 3 + [(3, 5)])
                return z, jnp.pad(y[:, ::2, ::3], [(0, 0)] * 3 + [(3, 5)]) + 1
            case "half":
                return nn.relu(y.astype(jnp.bfloat16)).astype(jnp.float32)


ODD = (
    *("read twice", "itself", "a residual that comes later", "a residual before bounds"),
    *("bounds in turn", "bounds that cross", "clip", "hard swish", "scaled after bounds"),
    *("scaled after a residual", "minus", "a view", "a view that is scaled"),
    *("a residual of a view", "concatenated with the input", "whole"),
    *("pooled and gated", "shortcut", "half"),
)


@needs_onednn
@pytest.mark.parametrize("kind", ODD)
def test_what_stands_between_layers(monkeypatch, kind):
    model, x = Odd(kind), normal(2, 7, 9, 5)
    variables = disturbed(jax.jit(model.init)(KEY, x))
    ours, met = parts(monkeypatch, model.apply, variables, x)
    assert_close(ours, jax.jit(model.apply)(variables, x), 1e-2 if kind == "half" else 1e-5)
    assert met


@needs_onednn
def test_convolutions_of_flax_itself_are_in_a_chain(monkeypatch):
    model = nn.Sequential([nn.Conv(8, (3, 3), strides=2), nn.relu, nn.Conv(4, (1, 1))])
    x = normal(2, 8, 8, 3)
    variables = disturbed(model.init(KEY, x))
    ours, met = parts(monkeypatch, model.apply, variables, x)
    assert_close(ours, model.apply(variables, x))
    assert kinds(met) == [["convolve", "convolve"]]


def one_sided(first, second):
    """The larger, which is not the second where that is NaN."""
    return jnp.where((first >= second) | jnp.isnan(second), first, second)


POOLED = {  # how a network may pool → the nodes that it becomes after the first layer
    "ours": (lambda x: layers.max_pool(x), ["max_pool"]),
    "ours, overlapping": (lambda x: layers.max_pool(x, 3, 2, 1), ["max_pool"]),
    "ours, mean": (lambda x: layers.average_pool(x, 3), ["sum_pool", "affine"]),
    "padded before": (
        lambda x: layers.max_pool(
            jnp.pad(x, [(0, 0), (0, 1), (1, 2), (0, 0)], constant_values=-jnp.inf), 3
        ),
        ["max_pool"],
    ),
    "flax": (lambda x: nn.relu(nn.max_pool(x, (2, 3), (2, 1), "SAME")), ["max_pool"]),
    "flax, mean": (lambda x: nn.avg_pool(x, (2, 2), (2, 2)), ["sum_pool", "affine"]),
    "bounds before": (lambda x: layers.max_pool(nn.relu(x)), ["max_pool"]),
    "rows alone": (lambda x: jnp.maximum(x[:, :-1], x[:, 1:]), ["max_pool"]),
    "twice": (lambda x: layers.max_pool(layers.max_pool(x, 3, 1), 2), ["max_pool"]),
    "read twice": (lambda x: (p := layers.max_pool(x)) + p[:, ::-1], ["max_pool"]),
    "other rows": (lambda x: x[:, :-1] + x[:, 1:] * x[:, :-1], []),
    "not beside each other": (lambda x: jnp.maximum(x[:, :-2], x[:, 2:]), []),
    "zeros outside": (lambda x: layers.max_pool(jnp.pad(x, [(0, 0), *[(1, 1)] * 2, (0, 0)])), []),
    "cut, then padded": (lambda x: layers.max_pool(x[:, :, 2:], 3, 1, 1), []),
    "cut at the end, then padded": (lambda x: layers.max_pool(x[:, :, :5], 3, 1, 1), []),
    "a NaN of the second": (lambda x: one_sided(x[:, 1:], x[:, :-1]), []),
    "every other pixel": (lambda x: layers.max_pool(x[:, ::2, ::2], 2, 1), []),
}


@needs_onednn
@pytest.mark.parametrize("kind", POOLED)
def test_pooling(monkeypatch, kind):
    pool, nodes = POOLED[kind]

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return pool(nn.Conv(4, (3, 3), conv_general_dilated=conv_general_dilated)(x))

    x = normal(2, 8, 9, 3)
    x[1, 2, 2, 0] = np.nan
    variables = disturbed(Net().init(KEY, x))
    ours, (met, *_) = parts(monkeypatch, Net().apply, variables, x)
    theirs = np.asarray(Net().apply(variables, x))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.nanmax(np.abs(theirs)))
    assert [n.kind for n in met.nodes if n.kind.endswith(("pool", "affine"))] == nodes


@needs_onednn
def test_what_follows_a_layer_is_part_of_it(monkeypatch):
    apply, variables, x = of_the_house("resnet_20", 2, width=0.5)
    _, (chain,) = parts(monkeypatch, apply, variables, x)
    nodes = [node.kind for node in chain.nodes]
    assert nodes.count("convolve") == 19
    assert nodes.count("affine") == 1  # the mean's
    assert nodes.count("add") == nodes.count("shortcut") == 2
    assert sum(len(node.inputs) == 2 for node in chain.nodes if node.kind == "convolve") == 7


@needs_onednn
@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("top", [np.inf, 6.0])
def test_what_is_no_number_stays_none(channels, top):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(16, (3, 3), conv_general_dilated=conv_general_dilated)(x)
            return jnp.minimum(nn.relu(x), top)

    x = normal(2, 6, 6, channels)
    variables = Net().init(KEY, x)
    x[0, 3, 3, 0] = np.nan
    made = predictor(Net().apply, variables, x)
    ours = np.asarray(made.apply(made.prepare(variables), x))
    theirs = np.asarray(Net().apply(variables, x))
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    assert np.isnan(ours).sum() == 9 * 16
    assert (ours[~np.isnan(ours)] >= 0).all()


def test_without_onednn_weights_are_still_apart(monkeypatch):
    monkeypatch.setenv(library.SWITCH, "xla")
    decide_again()
    try:
        apply, variables, x = of_the_house("lenet_300_100", 2, width=0.1)
        made = predictor(apply, variables, x)
        prepared = made.prepare(variables)
        assert_close(made.apply(prepared, x), apply(variables, x), 1e-6)
        assert "ffi_call" not in str(jax.make_jaxpr(made.apply)(prepared, x))
    finally:
        monkeypatch.undo()
        decide_again()


@needs_onednn
def test_predictions_are_the_same_bits_every_time_and_in_loops():
    apply, variables, x = of_the_house("resnet_20", 4, width=0.5)
    made = predictor(apply, variables, x)
    prepared, run = made.prepare(variables), jax.jit(made.apply)
    first = np.asarray(run(prepared, x))
    for _ in range(3):
        assert np.array_equal(first, run(prepared, x))
    several = jax.jit(lambda p, xs: jax.lax.map(lambda x: made.apply(p, x), xs))
    assert np.array_equal(several(prepared, np.stack([x, x[::-1]]))[0], first)
    mapped = jax.jit(jax.vmap(made.apply, in_axes=(None, 0)))
    assert np.array_equal(mapped(prepared, np.stack([x, x[::-1]]))[1], run(prepared, x[::-1]))


class Small(nn.Module):
    """Two convolutions whose unfolded windows take less than oneDNN's own scratch memory."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(7, (3, 3), name="first", conv_general_dilated=conv_general_dilated)(x))
        return nn.Conv(16, (2, 2), strides=3, padding="VALID", name="second")(x) + 1


def forms(chains):
    return [FORMS[node.fields[-1]] for chain in chains for node in chain.nodes]


@needs_onednn
@pytest.mark.parametrize("most", [None, 12288, 8000, 0])
def test_forms_of_convolutions_fit_into_the_memory_that_is_given(monkeypatch, most):
    x = normal(2, 8, 8, 5)
    variables = disturbed(Small().init(KEY, x))
    if most == 0:
        with pytest.raises(ValueError, match=r"'first' needs at least 5952 bytes .* \(mec\)"):
            predictor(Small().apply, variables, x, compute_memory=most)
        return
    ours, met = parts(monkeypatch, Small().apply, variables, x, compute_memory=most)
    assert_close(ours, Small().apply(variables, x))
    if most is not None:
        assert all(scratch <= most for chain in met for scratch in chain_lib.scratch_bytes(chain))
        assert forms(met) == {12288: ["direct"] * 2, 8000: ["mec"] * 2}[most]


@pytest.mark.parametrize(("most", "fits"), [(10**9, True), (18_000, True), (1000, False)])
def test_without_onednn_convolutions_are_products_where_memory_asks_for_it(monkeypatch, most, fits):
    monkeypatch.setenv(library.SWITCH, "xla")
    decide_again()
    try:
        x = normal(2, 8, 8, 5)
        variables = disturbed(Small().init(KEY, x))
        if not fits:
            with pytest.raises(ValueError, match=r"'first' needs at least \d+ bytes .* \(mec\)"):
                predictor(Small().apply, variables, x, compute_memory=most)
            return
        made = predictor(Small().apply, variables, x, compute_memory=most)
        prepared = made.prepare(variables)
        assert_close(made.apply(prepared, x), Small().apply(variables, x))
        left = str(jax.make_jaxpr(made.apply)(prepared, x)).count("conv_general_dilated[")
        assert (left == 2) == (most == 10**9)
        empty = predictor(Small().apply, variables, x[:0], compute_memory=0)
        assert empty.apply(empty.prepare(variables), x[:0]).shape == (0, 3, 3, 16)
    finally:
        monkeypatch.undo()
        decide_again()


def pruned(variables, density):
    """Variables whose kernels have so few entries that are not zero."""
    random = np.random.default_rng(2)

    def one(path, leaf):
        is_kernel = jax.tree_util.keystr(path).endswith("['kernel']")
        return leaf * (random.random(leaf.shape) < density) if is_kernel else leaf

    return jax.tree_util.tree_map_with_path(one, variables)


@needs_onednn
@pytest.mark.parametrize(
    ("name", "batch", "width"), [("lenet_300_100", 1, 1.0), ("vgg_11", 1, 0.5), ("resnet_20", 2, 1)]
)
def test_layers_of_few_weights_are_sparse(monkeypatch, name, batch, width):
    apply, variables, x = of_the_house(name, batch, width=width)
    variables = pruned(variables, 0.05)
    ours, met = parts(monkeypatch, apply, variables, x, sparse=True)
    assert_close(ours, jax.jit(apply)(variables, x))
    nodes = [node for chain in met for node in chain.nodes]
    assert [node.kind for node in nodes].count("sparse") >= 3
    if name == "resnet_20":  # a residual is added by the layer, sparse or not
        layers = [node for node in nodes if node.kind in ("sparse", "convolve")]
        assert sum(len(node.inputs) == 2 for node in layers) == 7


@needs_onednn
def test_layers_of_many_weights_stay_dense(monkeypatch):
    apply, variables, x = of_the_house("vgg_11", 4, width=0.25)
    _, met = parts(monkeypatch, apply, variables, x, sparse=True)
    assert not any(node.kind == "sparse" for chain in met for node in chain.nodes[:-1])


@needs_onednn
@pytest.mark.parametrize("name", ["lenet_300_100", "vgg_11"])
def test_fewer_weights_at_some_of_the_same_places(name):
    apply, variables, x = of_the_house(name, 1 if name == "vgg_11" else 9, width=0.25)
    variables = pruned(variables, 0.1)
    made = predictor(apply, variables, x, sparse=True)
    for left in (0.98, 0.5, 0.0):
        fewer = pruned(variables, left)
        assert_close(made.apply(made.prepare(fewer), x), apply(fewer, x))


@needs_onednn
def test_a_sparse_residual_of_a_view_and_channels_that_vanish():
    x = normal(2, 3, 3, 5)
    variables = pruned(disturbed(Odd("a residual of a view").init(KEY, x)), 0.05)
    made = predictor(Odd("a residual of a view").apply, variables, x, sparse=True)
    ours = made.apply(made.prepare(variables), x)
    assert_close(ours, Odd("a residual of a view").apply(variables, x))

    def scaled(v, x):  # some outputs are times 0, so that their entries vanish
        made = x @ v["kernel"]
        return made * jnp.broadcast_to(v["scale"], made.shape)

    weights = {"kernel": normal(64, 48), "scale": (np.arange(48) % 3).astype(np.float32)}
    weights = pruned(weights, 0.1) | {"scale": weights["scale"]}
    weights["scale"][1] = np.inf
    rows = normal(40, 64)
    made = predictor(scaled, weights, rows, sparse=True)
    ours, theirs = made.apply(made.prepare(weights), rows), scaled(weights, rows)
    assert_close(ours[:, 2:], theirs[:, 2:])


@needs_onednn
def test_other_weights_at_the_same_places():
    apply, variables, x = of_the_house("lenet_300_100", 3, width=0.5)
    variables = pruned(variables, 0.1)
    made = predictor(apply, variables, x, sparse=True)
    other = jax.tree.map(lambda leaf: -2 * leaf, variables)
    assert_close(made.apply(made.prepare(other), x), apply(other, x))
    dense = jax.tree.map(lambda leaf: leaf + 1, variables)
    with pytest.raises(Exception, match="more entries that are not 0"):
        jax.block_until_ready(made.prepare(dense))


def test_a_sparse_predictor_needs_arrays():
    apply, variables, x = of_the_house("lenet_300_100", 2, width=0.1)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    with pytest.raises(ValueError, match="give it arrays"):
        predictor(apply, shapes, x, sparse=True)


def test_without_onednn_a_sparse_network_is_dense_and_says_so(monkeypatch, capsys):
    monkeypatch.setenv(library.SWITCH, "xla")
    decide_again()
    try:
        apply, variables, x = of_the_house("lenet_300_100", 2, width=0.1)
        run = compiled(apply, variables, sparse=True)
        assert_close(run(x), apply(variables, x), 1e-6)
        assert "computed dense by XLA here" in capsys.readouterr().err
    finally:
        monkeypatch.undo()
        decide_again()


def looped(variables, x):
    return jax.lax.map(lambda x: Small().apply(variables, x[None]), x)


def of_signals(variables, x):
    return nn.Conv(3, (5,)).apply(variables, x)


@pytest.mark.parametrize(("apply", "shape", "reason"), [
    (looped, (2, 8, 8, 5), "inside of a scan"),
    (of_signals, (2, 8, 5), "'kernel' is none of images|the convolution .* is none of images"),
])  # fmt: skip
def test_convolutions_whose_memory_is_not_known_are_refused(apply, shape, reason):
    x = normal(*shape)
    variables = Small().init(KEY, x) if apply is looped else nn.Conv(3, (5,)).init(KEY, x)
    assert predictor(apply, variables, x)
    with pytest.raises(ValueError, match=reason):
        predictor(apply, variables, x, compute_memory=10**9)


@needs_onednn
def test_a_compiled_network_takes_inputs_of_any_shape_also_within_another():
    apply, variables, x = of_the_house("lenet_300_100", 2, width=0.2)
    variables = pruned(variables, 0.1)
    run = compiled(lambda v, x, scale=1: scale * apply(v, x), variables, sparse=True)
    inside = jax.jit(lambda x: run(x) + 1)
    for one in (x, x[:1], np.concatenate([x] * 9)):
        assert_close(inside(one), apply(variables, one) + 1)
        assert_close(run(one), apply(variables, one))
        assert_close(run(one, scale=3), 3 * apply(variables, one))
