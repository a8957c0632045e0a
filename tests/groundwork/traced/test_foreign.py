"""Networks that anybody wrote: what is reached in them, and computed otherwise."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees
from groundwork.traced import network, reach, storage
from groundwork.traced.override import Override, compute, override
from groundwork.traced.products import as_kernel, from_kernel
from tests.groundwork.traced.foreign import KEY, LAYERS, NETWORKS, normal

every = pytest.mark.parametrize("name", NETWORKS)


def _close(one, other, tolerance=2e-6):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a, "f4"), np.asarray(b, "f4")
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max()))


def _svd(kernel):
    """The factors of full rank, slice by slice, by numpy."""
    lead = kernel.shape[: kernel.ndim - 2] if kernel.ndim == 3 else ()
    matrix = np.asarray(kernel, np.float64).reshape(*lead, -1, kernel.shape[-1])
    left, sigma, right = np.linalg.svd(matrix, full_matrices=False)
    left = (left * sigma[..., None, :]).reshape(*kernel.shape[:-1], -1)
    return {"left": jnp.asarray(left, kernel.dtype), "right": jnp.asarray(right, kernel.dtype)}


def _low_rank(layer, stored, inputs):
    outputs = compute(layer, stored["left"].astype(inputs.dtype), inputs)
    return outputs @ stored["right"].astype(outputs.dtype)


def _factorised(called, paths):
    """The network with all layers at full rank in factors, and its variables."""
    params, overrides = network.params_of(called.variables), {}
    kernels = trees.flatten(params)
    for path, one in paths.items():
        stored = _svd(as_kernel(one.layer, kernels[one.parameter]))
        params = storage.put(params, one.parameter, stored)
        shape = one.shape
        overrides[path] = Override(
            _low_rank, ("left", "right"), lambda _, shape=shape: shape, one.parameter
        )
    return override(called.model, overrides), network.with_params(called.variables, params)


@every
def test_all_kernels_are_reached_as_their_layers_have_them(name):
    called = NETWORKS[name]()
    reached, refused = reach.layers(called.model, called.variables, *called.args, **called.kwargs)
    assert {
        path: one.kernel[-len(LAYERS[name][path]) :] for path, one in reached.items()
    } == LAYERS[name]
    assert refused == {}


def test_a_stack_of_kernels_in_a_scan_is_said_to_be_one():
    model, variables, args, _ = NETWORKS["linen, scanned"]()
    one = reach.layers(model, variables, *args)[0]["dense"]
    assert one[1:] == ((8, 8), ((2, 8),), "dense/kernel", (3,), 3, True)
    assert one.shape == (3, 8, 8)


@every
def test_kernels_go_back_to_the_networks_own_axes(name):
    model, variables, args, kwargs = NETWORKS[name]()
    kernels = trees.flatten(network.params_of(variables))
    for one in reach.layers(model, variables, *args, **kwargs)[0].values():
        kernel = kernels[one.parameter]
        assert one.shape == kernel.shape
        back = from_kernel(one.layer, as_kernel(one.layer, kernel))
        np.testing.assert_array_equal(back, kernel)


@every
def test_an_override_that_changes_nothing_gives_the_same(name):
    model, variables, args, kwargs = NETWORKS[name]()
    same = override(model, dict.fromkeys(LAYERS[name], Override(compute)))
    outputs = same(variables, *args, **kwargs)
    want = network.apply_of(model)(variables, *args, **kwargs)
    assert jax.tree.structure(outputs) == jax.tree.structure(want)
    _close(outputs, want, 1e-6)


@every
def test_at_full_rank_the_network_is_the_same(name):
    called = NETWORKS[name]()
    reached, _ = reach.layers(called.model, called.variables, *called.args, **called.kwargs)
    whole = {path: one for path, one in reached.items() if one.layer.groups == 1}
    apply, variables = _factorised(called, whole)
    want = network.apply_of(called.model)(called.variables, *called.args, **called.kwargs)
    tolerance = 1e-2 if name == "plain" else 5e-6  # bfloat16
    _close(apply(variables, *called.args, **called.kwargs), want, tolerance)


def test_gradients_pass_through_scans_and_rematerialised_layers():
    model, variables, args, _ = NETWORKS["linen, scanned"]()

    def loss(apply):
        return jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(apply(v, *args)[0]))))

    _close(
        loss(override(model, {"dense": Override(compute)}))(variables), loss(model.apply)(variables)
    )


class Standardised(nn.Conv):
    """Its kernel is standardised before it is used."""

    def param(self, name, *args, **kwargs):
        param = super().param(name, *args, **kwargs)
        if name != "kernel":
            return param
        axes = {"axis": (0, 1, 2), "keepdims": True}
        return (param - param.mean(**axes)) / (param.std(**axes) + 1e-5)


class Tied(nn.Module):
    """One matrix embeds tokens and reads them out."""

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(7, 4, name="embed")
        return embed.attend(nn.Dense(4, name="dense")(embed(tokens)))


class Regular(nn.Module):
    """A kernel that is also looked at beside its product."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(3, name="a")
        return layer(x) + jnp.sum(jnp.square(layer.variables["params"]["kernel"]))


def _branching(params, x):
    return jax.lax.cond(x.sum() > 0, lambda k: x @ k, lambda k: x @ -k, params["kernel"])


REFUSED = {
    "weight standardisation": (
        Standardised(4, (3, 3)),
        (2, 6, 6, 3),
        "kernel",
        "goes through reduce_sum",
    ),
    "spectral norm": (
        nn.SpectralNorm(nn.Dense(3)),
        (2, 6),
        "layer_instance/kernel",
        "goes through ",
    ),
    "weight norm": (
        nn.WeightNorm(nn.Dense(3)),
        (2, 6),
        "layer_instance/kernel",
        "goes through mul",
    ),
    "used twice": (Regular(), (2, 6), "a/kernel", "goes through square"),
    "one dimension": (nn.Conv(3, (2,)), (2, 6, 4), "kernel", "its convolution is not two-dim"),
    "transposed": (
        nn.ConvTranspose(3, (2, 2), (2, 2)),
        (2, 4, 4, 3),
        "kernel",
        "dilates the inputs",
    ),
    "local": (nn.ConvLocal(3, (2, 2)), (2, 4, 4, 3), "kernel", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_a_kernel_before_its_use_is_refused_with_the_reason(name):
    model, shape, path, reason = REFUSED[name]
    x, options = normal(*shape), {"update_stats": False} if name == "spectral norm" else {}
    variables = model.init(KEY, x, **options)
    reached, refused = reach.layers(model, variables, x, **options)
    assert reached == {}
    assert reason in refused[path]
    layer = network.layer_path(path)
    with pytest.raises(ValueError, match="cannot be computed in another way"):
        override(model, {layer: Override(compute)})(variables, x, **options)


def test_tied_embeddings_are_refused_and_their_network_is_reached_otherwise():
    model, tokens = Tied(), jnp.arange(6).reshape(2, 3)
    variables = model.init(KEY, tokens)
    reached, refused = reach.layers(model, variables, tokens)
    assert list(reached) == ["dense"]
    assert refused == {"embed/embedding": "it goes through gather"}


def test_a_kernel_in_a_branch_is_refused():
    params = {"kernel": normal(6, 3)}
    reached, refused = reach.layers(_branching, params, normal(2, 6))
    assert (reached, refused) == ({}, {"kernel": "it enters a cond"})


def test_inputs_are_those_of_each_call_and_none_of_enclosed_parts():
    model, variables, args, kwargs = NETWORKS["linen"]()
    seen = reach.inputs_of(model, variables, ("head", "circular"), *args, **kwargs)
    bias = variables["params"]["head"]["bias"][None]
    outputs = seen["head"][0] @ variables["params"]["head"]["kernel"] + bias
    np.testing.assert_allclose(outputs, model.apply(variables, *args), rtol=1e-5)
    assert [x.shape for x in seen["circular"]] == [(2, 10, 10, 3)]  # padded by the network
    assert reach.inputs_of(model, variables, ("rematerialised",), *args) == {"rematerialised": []}
    model, variables, args, _ = NETWORKS["linen, scanned"]()
    assert reach.inputs_of(model, variables, ("dense",), *args) == {"dense": []}


def test_a_path_of_no_layer_is_refused_with_a_similar_one():
    model, variables, args, _ = NETWORKS["linen"]()
    with pytest.raises(ValueError, match="unknown layer 'heed'; did you mean 'head'"):
        override(model, {"heed": Override(compute)})(variables, *args)


KERNEL = {"fc": {"kernel": normal(5, 5), "bias": jnp.ones(5)}}


@jax.jit
def _shared(kernel, x):
    return x @ kernel


def test_a_function_that_is_compiled_once_and_called_twice_is_two_calls():
    def twice(params, x):
        return _shared(params["fc"]["kernel"], jnp.tanh(_shared(params["fc"]["kernel"], x)))

    reached, _ = reach.layers(twice, KERNEL, normal(2, 5))
    assert reached["fc"].inputs == ((2, 5), (2, 5))
    seen = reach.inputs_of(twice, KERNEL, ("fc",), normal(2, 5))["fc"]
    assert len(seen) == 2


RETURNED = {
    "by a rematerialised part": lambda params, x: jax.checkpoint(lambda k, x: (x @ k, k))(
        params["fc"]["kernel"], x
    )[1],
    "by a scan": lambda params, x: jax.lax.scan(
        lambda c, _: (c @ params["fc"]["kernel"], params["fc"]["kernel"]), x, None, 2
    )[1],
}


@pytest.mark.parametrize("name", RETURNED)
def test_a_kernel_that_a_part_returns_is_refused(name):
    reached, refused = reach.layers(RETURNED[name], KERNEL, normal(2, 5))
    reason = "a scan or a rematerialised part returns it"
    assert (reached, refused) == ({}, {"fc/kernel": reason})


def test_a_network_that_returns_a_kernel_cannot_have_factors_in_its_place():
    def network_of(params, x):
        return x @ params["fc"]["kernel"], params["fc"]["kernel"]

    factors = {"left": normal(5, 2), "right": normal(2, 5)}
    params = {"fc": {**factors, "bias": jnp.ones(5)}}
    apply = override(network_of, {"fc": Override(_low_rank, tuple(factors), lambda _: (5, 5))})
    with pytest.raises(ValueError, match=r"^'fc/kernel' is returned: nothing can take its place$"):
        apply(params, normal(2, 5))


def test_factors_of_a_kernel_that_is_used_transposed_need_an_example():
    factors = {"left": normal(5, 2), "right": normal(2, 5)}
    apply = override(
        lambda params, x: (params["fc"]["kernel"] @ x.T).T,
        {"fc": Override(_low_rank, tuple(factors), lambda _: (5, 5))},
    )
    with pytest.raises(ValueError, match=r"its kernel has other axes: give an example$"):
        apply({"fc": factors}, normal(2, 5))


def test_a_layer_of_two_weights_is_refused():
    params = {"g": {"kernel": normal(5, 5), "weight": normal(5, 5)}}
    reached, refused = reach.layers(
        lambda params, x: x @ params["g"]["kernel"] @ params["g"]["weight"], params, normal(2, 5)
    )
    reason = "its layer multiplies by another parameter, too"
    assert (reached, set(refused.values())) == ({}, {reason})


def test_a_stage_takes_no_others_name():
    params = {"fc": {"kernel": normal(5, 5), "left": jnp.ones(5)}}
    with pytest.raises(ValueError, match="'fc/kernel' cannot be stored as left: its layer has one"):
        storage.put(params, "fc/kernel", {"left": normal(5, 2), "right": normal(2, 5)})


def test_products_keep_the_dtype_that_their_author_asked_for():
    def longer(params, x):
        kernel = params["fc"]["kernel"].astype(jnp.bfloat16)
        return jnp.matmul(x.astype(jnp.bfloat16), kernel, preferred_element_type=jnp.float32)

    x = normal(64, 5)
    same = override(longer, {"fc": Override(compute)})(KERNEL, x)
    assert same.dtype == jnp.float32
    np.testing.assert_array_equal(same, longer(KERNEL, x))


def test_weak_types_stay():
    def scaled(params, x):
        return (x @ params["fc"]["kernel"]).astype(jnp.bfloat16) * params["scale"]

    params = {**KERNEL, "scale": jnp.asarray(2.0)}
    outputs = override(scaled, {"fc": Override(compute)})(params, normal(2, 5))
    assert outputs.dtype == scaled(params, normal(2, 5)).dtype == jnp.bfloat16
