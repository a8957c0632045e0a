"""What `lowrank.factorize` refuses, in one line that names the layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lowrank
from tests.lowrank.factorization.networks import (
    IMAGES,
    KEY,
    SMALL,
    normal,
    small,
    unchecked,
)


class TestErrors:
    def _refused(self, plan, variables=None, example=None, model=SMALL):
        with pytest.raises(ValueError, match="layer") as refused:
            lowrank.factorize(model, variables or small(), plan, example)
        return str(refused.value)

    @pytest.mark.parametrize(
        ("path", "method", "rank", "message"),
        [
            ("c", "svd", 0, "layer 'c': rank 0 is outside 1…6, its full rank"),
            ("c", "svd", -1, "layer 'c': rank -1 is outside 1…6, its full rank"),
            ("c", "svd", 7, "layer 'c': rank 7 is outside 1…6, its full rank"),
            ("c", "cp", 19, "layer 'c': rank 19 is outside 1…18, its full rank"),
            ("c", "spatial", 7, "layer 'c': rank 7 is outside 1…6, its full rank"),
            ("c", "tucker", [3, 1], "layer 'c': rank 3 is outside 1…2, its full rank"),
            ("c", "tucker", [2, 0], "layer 'c': rank 0 is outside 1…6, its full rank"),
            ("out", "svd", 2.0, "layer 'out': the rank must be an integer, not 2.0"),
            ("out", "svd", True, "layer 'out': the rank must be an integer, not True"),
            ("out", "svd", "2", "layer 'out': the rank must be an integer, not '2'"),
            ("out", "svd", None, "layer 'out': the rank must be an integer, not None"),
            ("out", "svd", [2], "layer 'out': the rank must be an integer, not [2]"),
            (
                "c",
                "tucker",
                2,
                "layer 'c': the rank must be two integers, [inputs, outputs], not 2",
            ),
            (
                "c",
                "tucker",
                [2, 2, 2],
                "layer 'c': the rank must be two integers, [inputs, outputs], not [2, 2, 2]",
            ),
            (
                "c",
                "tucker",
                [2, True],
                "layer 'c': the rank must be two integers, [inputs, outputs], not [2, True]",
            ),
            (
                "out",
                "svdd",
                2,
                "unknown method of the Dense layer 'out' 'svdd'; did you mean 'svd'? "
                "(known: svd, svd_outputs)",
            ),
            (
                "out",
                "tucker",
                [1, 1],
                "unknown method of the Dense layer 'out' 'tucker' (known: svd, svd_outputs)",
            ),
            (
                "out",
                ["svd"],
                2,
                "unknown method of the Dense layer 'out' ['svd']; did you mean 'svd'? "
                "(known: svd, svd_outputs)",
            ),
            (
                "outt",
                "svd",
                2,
                "unknown layer 'outt'; did you mean 'out'? (known: c, d, out, twice)",
            ),
            ("out/kernel", "svd", 2, "unknown layer 'out/kernel' (known: c, d, out, twice)"),
            ("", "svd", 2, "unknown layer '' (known: c, d, out, twice)"),
            ("BatchNorm_0", "svd", 2, "unknown layer 'BatchNorm_0' (known: c, d, out, twice)"),
            ("out", "svd_outputs", 2, "layer 'out': svd_outputs needs inputs to look at"),
        ],
    )
    def test_of_an_entry(self, path, method, rank, message):
        assert self._refused({path: {"method": method, "rank": rank}}) == message

    def test_of_its_form(self):
        for entry, shown in (
            ({"method": "svd"}, "{'method': 'svd'}"),
            ({"rank": 2}, "{'rank': 2}"),
            ({}, "{}"),
            ({"method": "svd", "rank": 1, "ranks": 2}, "{'method': 'svd', 'rank': 1, 'ranks': 2}"),
            ({"method": "svd", 1: 2}, "{'method': 'svd', 1: 2}"),
            ("svd", "'svd'"),
            (["svd", 2], "['svd', 2]"),
            (None, "None"),
        ):
            want = f"layer 'out': the plan must say method and rank, not {shown}"
            assert self._refused({"out": entry}) == want

    def test_weights_that_are_not_finite_name_the_layer(self):
        for bad in (np.nan, np.inf):
            params = jax.tree.map(lambda leaf: leaf, small()["params"])
            params["d"]["kernel"] = params["d"]["kernel"].at[0, 1, 2, 3].set(bad)
            params["out"]["kernel"] = params["out"]["kernel"].at[1].set(bad)
            for path, message in (
                ("d", "layer 'd': 1 of 180 entries of the kernel are not finite"),
                ("out", "layer 'out': 4 of 20 entries of the matrix are not finite"),
            ):
                plan = {path: {"method": "svd", "rank": 2}}
                assert self._refused(plan, {"params": params}) == message

    def test_inputs_that_are_not_finite_or_none_name_the_layer(self):
        plan = {"d": {"method": "svd_outputs", "rank": 2}}
        message = self._refused(plan, example=normal(*IMAGES).at[0].set(jnp.nan))
        assert message.startswith("layer 'd': ")
        assert message.endswith(" entries of the inputs are not finite")
        assert self._refused(plan, example=jnp.zeros((0, *IMAGES[1:]))) == (
            "layer 'd': the inputs is empty: shape (0, 36)"
        )

    def test_kernels_of_other_orders(self):
        for shape in ((5,), (3, 2, 2), (1, 1, 1, 1, 1)):
            variables = {"params": {"v": {"kernel": jnp.ones(shape)}}}
            assert self._refused({"v": {"method": "svd", "rank": 1}}, variables) == (
                f"layer 'v' has a kernel of shape {shape}: no method takes it, unless an example "
                "shows how it is used"
            )

    def test_a_shared_layer_is_decomposed_by_its_weights_alone(self):
        x = normal(*IMAGES)
        assert self._refused({"twice": {"method": "svd_outputs", "rank": 2}}, example=x) == (
            "layer 'twice' is shared, by 2 calls: decompose it by its weights alone, as svd does"
        )
        apply, changed = lowrank.factorize(
            SMALL, small(), {"twice": {"method": "svd", "rank": 5}}, x
        )
        np.testing.assert_allclose(apply(changed, x), SMALL.apply(small(), x), atol=1e-5)

    def test_what_a_layer_is_given_must_be_seen(self):
        model = Scanned()
        variables = model.init(KEY, normal(2, 6))
        by_outputs = {"method": "svd_outputs", "rank": 2}
        assert self._refused({"v": by_outputs}, variables, normal(2, 6), model) == (
            "layer 'v': what it is given stays within a scan or a rematerialised part: decompose "
            "it by its weights alone, as svd does"
        )
        assert self._refused({"s": by_outputs}, variables, normal(2, 6), model) == (
            "layer 's' cannot be computed in another way: it is multiplied batch by batch"
        )

    @pytest.mark.parametrize(
        ("layer", "shape", "message"),
        [
            (
                nn.ConvTranspose(3, (2, 2), (2, 2), name="a"),
                (2, 5, 5, 4),
                "layer 'a' cannot be computed in another way: its convolution dilates the inputs",
            ),
            (
                nn.Conv(4, (2, 2), feature_group_count=2, name="a"),
                (2, 5, 5, 4),
                "layer 'a' has 2 groups: it is left alone",
            ),
        ],
        ids=["transpose", "groups"],
    )
    def test_when_applied(self, layer, shape, message):
        model, x = Holds(layer), normal(*shape)
        variables = model.init(KEY, x)
        plan = {"a": {"method": "svd", "rank": 2}}
        assert TestErrors()._refused(plan, variables, x, model) == message
        apply, changed = unchecked(model, variables, plan)
        with pytest.raises(ValueError, match="layer 'a' ") as refused:
            apply(changed, x)
        assert str(refused.value) == message


class Holds(nn.Module):
    layer: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.layer.clone(parent=self, name="a")(x)


class Scanned(nn.Module):
    """Layers whose inputs cannot be seen, or that cannot be reached."""

    @nn.compact
    def __call__(self, x):
        shared = {"variable_axes": {"params": None}, "split_rngs": {"params": False}}
        stacked = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x = nn.remat(nn.vmap(nn.Dense, **shared))(6, name="v")(x)
        return nn.vmap(nn.Dense, **stacked)(6, name="s")(x)


def test_ranks_may_be_numpys_integers():
    for path, method, rank, plain in (
        ("c", "svd", np.int64(2), 2),
        ("c", "tucker", np.array([2, 3]), [2, 3]),
        ("c", "tucker", (np.int32(2), np.int64(3)), [2, 3]),
    ):
        (_, one), (_, other) = (
            unchecked(SMALL, small(), {path: {"method": method, "rank": r}}) for r in (rank, plain)
        )
        jax.tree.map(np.testing.assert_array_equal, one, other)
