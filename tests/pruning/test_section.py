"""`pruning.section`: what the libraries refuse, in the words of a config."""

import jax
import numpy as np
import pytest

from groundwork.errors import UserError
from pruning import schedule
from pruning.section import PruneSpec
from tests.pruning.test_schedule import STOPS


def _spec(rate=0.5, scope="layerwise", kind="geometric", prunable=("*kernel",)):
    return PruneSpec(rate, scope, "magnitude", kind, prunable)


def _leaves(sizes):
    return {name: jax.ShapeDtypeStruct((size,), np.float32) for name, size in sizes.items()}


def _plan(spec, sizes, levels=12):
    return spec.plan(_leaves(sizes), levels, "levels=", "levels=0 for the dense network alone")


@pytest.mark.parametrize(("sizes", "rate", "scope", "kind", "message"), STOPS)
def test_levels_that_cannot_be_reached_are_refused_with_what_can(sizes, rate, scope, kind, message):
    spec = _spec(rate, scope, kind)
    with pytest.raises(UserError, match=f"^{message}.*: set levels=") as caught:
        _plan(spec, sizes)
    said = str(caught.value)
    assert "\n" not in said
    most = int(said.split("set levels=")[1].split()[0])
    other = "smaller" if "empty" in message else "larger"
    assert said.endswith(f"set levels={most} or fewer, or a {other} prune.rate")
    assert len(_plan(spec, sizes, most).kept) == most + 1


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({"*": 0.5, "c": 0.1}, "^prune.rate: .*'c'"),
        ({"a": 0.5}, "^prune.rate: .*'b'"),
        (0, "^level 1 would prune nothing.*; set prune.rate above 0, or levels=0 for the dense"),
        ({"*": 0.0}, "^level 1 would prune nothing"),
    ],
)
def test_rates_that_do_not_fit_are_refused_by_key(rate, message):
    with pytest.raises(UserError, match=message) as caught:
        _plan(_spec(rate), {"a": 4, "b": 4})
    assert "\n" not in str(caught.value)


def test_a_plan_is_that_of_the_schedule():
    leaves = {"a/kernel": 40, "b/kernel": 30}
    spec = _spec({"*": 0.2, "b": 0.1}, "global", "linear")
    expected = schedule.plan(_leaves(leaves), {"*": 0.2, "b": 0.1}, "global", 3, "linear")
    assert _plan(spec, leaves, 3) == expected


def test_the_leaves_that_may_be_pruned_are_those_of_the_patterns():
    params = {"fc": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}, "scale": np.zeros(())}
    assert list(_spec().leaves(params)) == ["fc/kernel"]
    assert list(_spec(prunable=("*bias", "scale")).leaves(params)) == ["fc/bias", "scale"]
    with pytest.raises(
        UserError, match=r"prune.prunable=\('\*weight',\) matches none of fc/bias, fc/kernel, scale"
    ):
        _spec(prunable=("*weight",)).leaves(params)
