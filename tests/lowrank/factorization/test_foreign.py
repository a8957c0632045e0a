"""`lowrank.factorize` on networks that other people would write, each in its own way."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lowrank
from groundwork import trees
from groundwork.traced import network, reach
from lowrank import factorization
from lowrank.choose import candidates
from lowrank.factorization import layers as factorize_layers
from lowrank.factorization import selfcheck
from lowrank.factorization.methods import METHODS
from tests.groundwork.traced.foreign import KEY, NETWORKS, normal

every = pytest.mark.parametrize("name", NETWORKS)


def _plan(reached, share):
    plan = {}
    for path, one in reached.items():
        if one.layer.groups == 1:
            full = METHODS[one.layer.kind]["svd"].full(one.kernel)
            plan[path] = {"method": "svd", "rank": max(1, round(share * full))}
    return plan


def _outputs(apply, variables, called):
    call, arrays = network.of_arrays(
        lambda v, args, kwargs: apply(v, *args, **kwargs), variables, called.args, called.kwargs
    )
    return [np.asarray(leaf, "f4") for leaf in jax.tree.leaves(jax.jit(call)(arrays))]


def _factorised(name, share):
    """A network, its layers, the plan, and what `factorize` gives."""
    called = NETWORKS[name]()
    reached, _ = reach.layers(called.model, called.variables, *called.args, **called.kwargs)
    plan = _plan(reached, share)
    return (
        called,
        reached,
        plan,
        *lowrank.factorize(called.model, called.variables, plan, called.args, **called.kwargs),
    )


def _compared(name, called, apply, changed, variables):
    tolerance = 2e-2 if name == "plain" else 2e-5  # bfloat16
    want = _outputs(network.apply_of(called.model), variables, called)
    for one, other in zip(_outputs(apply, changed, called), want, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * max(1, np.abs(other).max()))


@pytest.mark.parametrize("name", ["linen in training", "nnx", "equinox images", "plain"])
def test_at_full_rank_outputs_are_the_networks_own(name):
    called, _, _, apply, changed = _factorised(name, 1)
    _compared(name, called, apply, changed, called.variables)


@every
def test_at_low_rank_they_are_those_of_the_best_kernels(name):
    called, reached, plan, apply, changed = _factorised(name, 0.5)
    leaves = trees.flatten(network.params_of(called.variables))
    variables = called.variables
    for path, one in reached.items():
        if path not in plan:
            continue
        kernel = np.asarray(factorization.kernel(variables, one), np.float64)
        made = factorization.reconstruct(changed, path, plan[path])
        matrices = [np.reshape(k, (*kernel.shape[: len(one.stack)], -1, k.shape[-1]))
                    for k in (kernel, np.asarray(made, np.float64))]  # fmt: skip
        lost = np.linalg.svd(matrices[0], compute_uv=False)[..., plan[path]["rank"] :]
        error = np.linalg.norm(matrices[0] - matrices[1], axis=(-2, -1))
        np.testing.assert_allclose(error, np.linalg.norm(lost, axis=-1), rtol=2e-2)
        dtype = leaves[one.parameter].dtype
        variables = factorization.with_kernel(variables, one, made.astype(dtype))
    _compared(name, called, apply, changed, variables)


def test_shapes_are_those_of_the_factors():
    called, reached, plan, _, changed = _factorised("linen", 0.5)
    shapes = factorization.shapes(called.variables, plan, reached)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, changed)


def test_a_stack_of_kernels_is_decomposed_layer_by_layer():
    called = NETWORKS["linen, scanned"]()
    plan = {"dense": {"method": "svd", "rank": 3}}
    reached, _ = reach.layers(called.model, called.variables, *called.args)
    changed, worth = factorization.decompose(called.variables, plan, layers=reached)
    factors = changed["params"]["dense"]
    assert factors["left"]["kernel"].shape == (3, 8, 3)
    kernels = np.asarray(called.variables["params"]["dense"]["kernel"], np.float64)
    made = np.asarray(factors["left"]["kernel"] @ factors["right"]["kernel"])
    for kernel, low in zip(kernels, made, strict=True):
        sigma = np.linalg.svd(kernel, compute_uv=False)
        error = np.linalg.norm(kernel - low)
        np.testing.assert_allclose(error, np.linalg.norm(sigma[3:]), rtol=1e-5)
    whole = np.linalg.norm(kernels - made) / np.linalg.norm(kernels)
    np.testing.assert_allclose(worth["dense"].error, whole, rtol=1e-5)


class TestTheCheck:
    def _refused(self, monkeypatch, change):
        called = NETWORKS["haiku"]()
        override = factorization.network.override

        def wrong(model, plan, layers=None):
            apply = override(model, plan, layers)
            return lambda variables, *args: change(apply(variables, *args))

        monkeypatch.setattr(factorization.network, "override", wrong)
        plan = {"mlp/~/linear_0": {"method": "svd", "rank": 2}}
        lowrank.factorize(called.model, called.variables, plan, called.args)

    def test_refuses_other_outputs(self, monkeypatch):
        with pytest.raises(ValueError, match=r"^the factorised network computes something else .*"):
            self._refused(monkeypatch, lambda outputs: 1.05 * outputs)
        with pytest.raises(ValueError, match=r"differ by nan of their norm$"):
            self._refused(monkeypatch, lambda outputs: jnp.nan * outputs)

    def test_lets_pass_what_rounding_makes(self, monkeypatch):
        self._refused(monkeypatch, lambda outputs: (1 + 1e-4) * outputs)

    def test_is_passed_over_where_values_are_not_known(self):
        called = NETWORKS["haiku"]()
        plan = {"mlp/~/linear_0": {"method": "svd", "rank": 2}}

        @jax.jit
        def outputs(variables, x):
            apply, changed = lowrank.factorize(called.model, variables, plan, x)
            return apply(changed, x)

        apply, changed = lowrank.factorize(called.model, called.variables, plan, called.args)
        want = apply(changed, *called.args)
        np.testing.assert_allclose(outputs(called.variables, *called.args), want, atol=1e-5)

    def test_takes_shorter_floats_for_less_exact(self):
        own, other = ((lambda v, f=f: (f * v).astype(jnp.bfloat16)) for f in (1.0, 1.03))
        selfcheck.check((own, jnp.ones(9)), (other, jnp.ones(9)), (), {})
        with pytest.raises(ValueError, match=r"outputs differ by 0.03"):
            selfcheck.check((lambda v: v, jnp.ones(9)), (lambda v: 1.03 * v, jnp.ones(9)), (), {})


def test_a_kernel_of_other_axes_needs_an_example():
    model, variables, args, _ = NETWORKS["equinox"]()
    with pytest.raises(ValueError, match=r"^unknown layer 'layers/0'"):
        lowrank.factorize(model, variables, {"layers/0": {"method": "svd", "rank": 2}})
    model, variables, args, _ = NETWORKS["linen"]()
    plan = {"attention/out": {"method": "svd", "rank": 2}}
    with pytest.raises(ValueError, match="no method takes it, unless an example shows how it is"):
        lowrank.factorize(model, variables, plan)
    assert lowrank.factorize(model, variables, plan, args)


class Standardised(nn.Conv):
    """Its kernel is standardised before it is used."""

    def param(self, name, *args, **kwargs):
        param = super().param(name, *args, **kwargs)
        return param / jnp.std(param) if name == "kernel" else param


@pytest.mark.parametrize(
    ("model", "shape", "path"),
    [
        (Standardised(4, (3, 3)), (2, 6, 6, 3), ""),
        (nn.WeightNorm(nn.Dense(3)), (2, 6), "layer_instance"),
    ],
)
def test_kernels_that_are_changed_before_their_use_are_refused_with_and_without_example(
    model, shape, path
):
    x = normal(*shape)
    variables, plan = model.init(KEY, x), {path: {"method": "svd", "rank": 2}}
    refused = "cannot be computed in another way: it goes through"
    with pytest.raises(ValueError, match=refused):
        lowrank.factorize(model, variables, plan, x)
    with pytest.warns(UserWarning, match="^no example"):
        apply, changed = lowrank.factorize(model, variables, plan)
    with pytest.raises(ValueError, match=refused):
        apply(changed, x)


SVD = {"fc": {"method": "svd", "rank": 2}}


def _dense(params, x):
    return x @ params["fc"]["kernel"].astype(x.dtype)


@pytest.mark.parametrize(
    ("model", "params", "plan", "example", "message"),
    [
        (
            _dense,
            {"fc": {"kernel": jnp.ones((5, 5), int)}},
            SVD,
            normal(2, 5),
            "it must have floats",
        ),
        (
            _dense,
            {"fc": {"kernel": normal(5, 5)}},
            ["fc"],
            None,
            "a plan is path → method and rank",
        ),
        (None, {"fc": {"kernel": normal(5, 5)}}, SVD, None, "the model must be a function or have"),
        (_dense, None, SVD, None, "the variables have no arrays"),
        (
            _dense,
            {"fc": {"kernel": jax.ShapeDtypeStruct((5, 5), "float32")}},
            SVD,
            None,
            "the variables are shapes",
        ),
        (
            _dense,
            {"fc": {"kernel": normal(5, 5)}},
            SVD,
            normal(2, 4),
            "the network cannot be called with the example: dot_general requires",
        ),
    ],
)
def test_odd_arguments_are_refused_in_one_line(model, params, plan, example, message):
    with pytest.raises(ValueError, match=message) as refused:
        lowrank.factorize(model, params, plan, example)
    assert "\n" not in str(refused.value)


def test_an_example_of_shapes_checks_nothing_and_says_so():
    params = {"fc": {"kernel": normal(5, 5)}}
    with pytest.warns(UserWarning, match="^the example is of shapes: "):
        lowrank.factorize(_dense, params, SVD, jax.ShapeDtypeStruct((2, 5), "float32"))


def test_outputs_that_are_rounding_noise_are_weighed_with_the_others():
    def noisy(params, x):
        hidden = x @ params["fc"]["kernel"]
        return hidden, (hidden - hidden.mean(-1, keepdims=True)).mean(-1)

    assert lowrank.factorize(noisy, {"fc": {"kernel": normal(5, 5)}}, SVD, normal(8, 5))


def test_a_layer_that_is_shared_through_jit_is_not_decomposed_by_its_outputs():
    shared = jax.jit(lambda kernel, x: x @ kernel)

    def twice(params, x):
        return shared(params["fc"]["kernel"], jnp.tanh(shared(params["fc"]["kernel"], x)))

    plan = {"fc": {"method": "svd_outputs", "rank": 2}}
    with pytest.raises(ValueError, match=r"^layer 'fc' is shared, by 2 calls"):
        lowrank.factorize(twice, {"fc": {"kernel": normal(5, 5)}}, plan, normal(8, 5))


@pytest.mark.parametrize(
    "flat", [lambda x: x, lambda x: x.reshape(-1, 8), lambda x: x.swapaxes(0, 1)]
)
def test_costs_are_of_a_whole_example_wherever_its_axes_are(flat):
    model = lambda params, x: flat(x) @ params["fc"]["kernel"]  # noqa: E731
    layers, _ = factorization.decomposable(
        model, {"fc": {"kernel": normal(8, 8)}}, jax.ShapeDtypeStruct((1, 5, 8), "float32")
    )
    assert candidates.macs(layers["fc"], "dense", None) == 5 * 8 * 8
    assert candidates.macs(layers["fc"], "svd", 2) == 5 * 2 * (8 + 8)


def test_costs_of_a_stack_count_all_of_its_layers():
    called = NETWORKS["linen, scanned"]()
    example = (jax.ShapeDtypeStruct((1, 8), "float32"), None)
    layers, _ = factorization.decomposable(called.model, called.variables, example)
    assert candidates.macs(layers["dense"], "dense", None) == 3 * 8 * 8
    assert candidates.parameters(layers["dense"], "svd", 2) == 3 * 2 * (8 + 8)


def test_layers_of_a_stack_draw_numbers_of_their_own():
    kernel = jnp.tile(normal(3, 3, 4, 5)[None], (2, 1, 1, 1, 1))
    method = METHODS["Conv"]["cp"]
    factors, _ = factorize_layers.factors(method, kernel, 3, KEY)
    assert not np.allclose(*factors["first"]["kernel"])


def test_keywords_without_an_example_are_refused_and_inputs_is_its_former_name():
    params = {"fc": {"kernel": normal(5, 5)}}
    with pytest.raises(
        ValueError, match=r"^exampel: keywords of the network's call need an example"
    ):
        lowrank.factorize(_dense, params, SVD, exampel=normal(2, 5))
    assert lowrank.factorize(_dense, params, SVD, inputs=normal(2, 5))  # warnings are errors
