"""Networks that other people would write: quantised, saved, and read as the trees that they are."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress
import lowrank
from compress import quantize
from groundwork import trees
from groundwork.errors import UserError
from groundwork.traced import network, reach
from tests.groundwork.traced.foreign import KEY, NETWORKS, normal

every = pytest.mark.parametrize("name", [name for name in NETWORKS if name != "linen in training"])


def _quantised(called):
    """The variables with signs and a scale for all that has two axes, or for each slice of it."""
    reached, _ = reach.layers(called.model, called.variables, *called.args, **called.kwargs)
    stacks = {one.parameter: len(one.stack) for one in reached.values()}

    def stored(path, leaf):
        if not hasattr(leaf, "ndim") or leaf.ndim < 2:
            return leaf
        signs = lambda kernel: quantize.binary(kernel, None, True)  # noqa: E731
        return (jax.vmap(signs) if stacks.get(path) else signs)(leaf)

    params = trees.map_with_path(stored, network.params_of(called.variables))
    return network.with_params(called.variables, params)


def _outputs(apply, variables, called):
    return jax.tree.leaves(apply(variables, *called.args, **called.kwargs))


@every
def test_what_is_read_computes_the_same_bits(name, tmp_path):
    called = NETWORKS[name]()
    stored = _quantised(called)
    whole = quantize.materialize(stored)
    example = called.args if isinstance(called.model, nn.Module) else None
    compress.save(tmp_path / "a.cna", called.model, stored, example=example)
    apply, variables = compress.load(tmp_path / "a.cna", called.model, like=whole)
    assert jax.tree.structure(variables) == jax.tree.structure(whole)
    for one, other in zip(jax.tree.leaves(variables), jax.tree.leaves(whole), strict=True):
        assert one is other or one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    if name in ("haiku", "linen, scanned"):
        own = _outputs(network.apply_of(called.model), whole, called)
        jax.tree.map(np.testing.assert_array_equal, _outputs(apply, variables, called), own)
    weights = trees.flatten(network.params_of(whole))
    for path, leaf in weights.items():
        if getattr(leaf, "ndim", 0) == 2:
            assert len(np.unique(leaf)) <= 2, path


@pytest.mark.parametrize("name", ["nnx", "equinox", "haiku", "plain"])
def test_factors_of_a_function_are_saved_with_the_function_of_factorize(name, tmp_path):
    called = NETWORKS[name]()
    reached, _ = reach.layers(called.model, called.variables, *called.args, **called.kwargs)
    plan = {path: {"method": "svd", "rank": 2} for path in list(reached)[-1:]}
    apply, changed = lowrank.factorize(
        called.model, called.variables, plan, called.args, **called.kwargs
    )
    compress.save(tmp_path / "a.cna", apply, changed)
    again, variables = compress.load(tmp_path / "a.cna", apply, like=changed)
    own, read = _outputs(apply, changed, called), _outputs(again, variables, called)
    jax.tree.map(np.testing.assert_array_equal, read, own)


class TestRefused:
    @pytest.fixture
    def saved(self, tmp_path):
        called = NETWORKS["haiku"]()
        compress.save(tmp_path / "a.cna", called.model, called.variables)
        return tmp_path / "a.cna", called

    def test_another_tree(self, saved):
        path, called = saved
        other = dict(called.variables)
        other["mlp/~/linear_1"] = {**other["mlp/~/linear_1"], "w": jnp.ones((4, 3))}
        message = (
            r"not the arrays of like: params/mlp/~/linear_1/w is floats \(4, 2\) in the file, "
        )
        with pytest.raises(UserError, match=message + r"floats \(4, 3\) in like$"):
            compress.load(path, called.model, like=other)
        del other["mlp/~/linear_1"]
        with pytest.raises(
            UserError, match=r"linear_1/b is floats \(2,\) in the file, none in like"
        ):
            compress.load(path, called.model, like=other)

    def test_a_function_without_its_tree(self, saved):
        path, called = saved
        with pytest.raises(UserError, match="a function that is no Linen module needs like="):
            compress.load(path, called.model)

    def test_a_plan_beside_a_function(self, saved, tmp_path):
        _, called = saved
        plan = {"mlp/~/linear_0": {"method": "svd", "rank": 2}}
        with pytest.raises(UserError, match=r"save the function that lowrank.factorize returned"):
            compress.save(tmp_path / "b.cna", called.model, called.variables, plan)

    def test_a_module_that_is_called_otherwise(self, tmp_path):
        model, variables, _, _ = NETWORKS["linen, recurrent"]()
        with pytest.raises(UserError, match=r"^not the arrays of RNN: params/cell/i"):
            compress.save(tmp_path / "b.cna", model, variables, example=normal(2, 5, 4))
        model, variables, _, _ = NETWORKS["linen, scanned"]()
        with pytest.raises(UserError, match=r"ScanBlock.* cannot be called so: "):
            compress.save(tmp_path / "b.cna", model, variables, example=normal(2, 8))

    def test_the_key_of_a_dropout(self, tmp_path):
        with pytest.raises(UserError, match=r"^params/key is not an array of numbers"):
            compress.save(tmp_path / "b.cna", lambda v: v, {"key": KEY, "w": jnp.ones(3)})


def test_boxed_parameters_are_read_in_their_boxes(tmp_path):
    model = nn.Dense(3, kernel_init=nn.with_partitioning(nn.initializers.ones, ("x", "y")))
    x = normal(2, 4)
    variables = model.init(KEY, x)
    compress.save(tmp_path / "a.cna", model, variables, example=(4,))
    _, plain = compress.load(tmp_path / "a.cna", model)
    _, boxed = compress.load(tmp_path / "a.cna", model, like=variables)
    assert jax.tree.structure(boxed) == jax.tree.structure(variables)
    np.testing.assert_array_equal(plain["params"]["kernel"], boxed["params"]["kernel"].value)


def test_keywords_of_no_call_are_refused(tmp_path):
    model = nn.Dense(3)
    variables = model.init(KEY, normal(2, 4))
    message = "plna: keywords of a call need an example of arrays"
    for example in (None, (4,)):
        with pytest.raises(UserError, match=message):
            compress.save(tmp_path / "a.cna", model, variables, example=example, plna={})
    with pytest.raises(UserError, match=message):
        compress.save(tmp_path / "a.cna", lambda v, x: x, variables, plna={})
