"""Candidates' errors and costs, against the decompositions and layers themselves."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import keys
from groundwork.traced import override
from groundwork.traced.macs import multiply_adds
from groundwork.traced.products import Layer
from groundwork.traced.reach import Reached
from lowrank.choose import approximation, candidates, ranks
from lowrank.choose.candidates import DENSE
from lowrank.decompositions import cp
from lowrank.factorization import layers
from lowrank.factorization.layers import METHODS

KERNEL = (3, 2, 4, 6)


def conv(kernel=KERNEL, groups=1, calls=1, size=7):
    layer = Layer("conv", "Conv", (2, 1), "SAME", (1, 1), groups)
    return Reached(layer, kernel, ((1, size, size, kernel[2] * groups),) * calls)


def dense(shape=(9, 5)):
    layer = conv().layer._replace(path="fc", kind="Dense")
    return Reached(layer, shape, ((1, shape[0]),))


def kernels(shape, replicates=2):
    draw = np.random.default_rng(1)
    return draw.standard_normal((replicates, *shape)).astype(np.float32)


def actual(reached, stack, name, rank, inputs=None):
    """Root mean square over replicates of a method's own errors."""
    method = METHODS[reached.layer.kind][name]
    key = keys.stream(jax.random.key(0), "candidates")
    errors = []
    for r, kernel in enumerate(stack):
        seen = None if inputs is None else inputs[r]
        errors.append(float(method.decompose(jnp.asarray(kernel), rank, key, seen).error))
    return math.sqrt(np.mean(np.square(errors)))


@pytest.mark.parametrize("name", ["svd", "spatial"])
def test_errors_of_closed_forms_are_those_of_the_decompositions(name):
    reached, stack = conv(), kernels(KERNEL, 3)
    for option in candidates.of_layer(
        reached, stack, (name,), lambda *_: 0 if _[1] != DENSE else 1
    ):
        if option.method != DENSE:
            expected = actual(reached, stack, name, option.rank)
            assert option.error == pytest.approx(expected, abs=1e-5)


def test_errors_of_tucker_are_those_of_the_truncated_hosvd_and_never_below_hooi():
    reached, stack = conv(), kernels(KERNEL)
    options = candidates.of_layer(reached, stack, ("tucker",), lambda *_: _[1] == DENSE)
    assert {option.rank for option in options[1:]} == {
        (a, b) for a in range(1, 5) for b in range(1, 7)
    }
    for option in options[1::4]:  # each rank is compiled
        best = actual(reached, stack, "tucker", option.rank)
        assert best - 1e-5 <= option.error <= 1.2 * best + 1e-5
    assert options[-1].error == pytest.approx(0, abs=1e-3)


def test_errors_of_cp_and_of_outputs_are_those_of_the_decompositions():
    reached, stack = dense((6, 4)), kernels((6, 4))
    inputs = np.random.default_rng(2).standard_normal((2, 30, 6)).astype(np.float32)
    options = candidates.of_layer(
        reached, stack, ("svd_outputs",), lambda *_: _[1] == DENSE, inputs
    )
    for option in options[1:]:
        expected = actual(reached, stack, "svd_outputs", option.rank, inputs)
        assert option.error == pytest.approx(expected, abs=1e-5)
    reached, stack = conv((2, 2, 3, 2)), kernels((2, 2, 3, 2))
    for option in candidates.of_layer(reached, stack, ("cp",), lambda *_: _[1] == DENSE)[1:]:
        search = functools.partial(cp.decompose, restarts=1, sweeps=approximation.CP_SWEEPS)
        key = keys.stream(jax.random.key(0), "candidates")
        errors = [float(search(key, jnp.asarray(kernel), option.rank).error) for kernel in stack]
        assert option.error == pytest.approx(math.sqrt(np.mean(np.square(errors))), abs=1e-4)


@pytest.mark.parametrize(
    ("method", "rank", "macs", "parameters"),
    [  # 7×7 at stride 2, 1: 4×7 outputs; 4 → 6 channels, window 3×2
        (DENSE, None, 28 * 6 * 24, 144),
        ("svd", 2, 28 * 6 * 8 + 28 * 12, 48 + 12),
        ("spatial", 2, 28 * 3 * 8 + 28 * 2 * 12, 24 + 24),
        ("tucker", (2, 3), 49 * 8 + 28 * 6 * 6 + 28 * 18, 8 + 36 + 18),
        ("cp", 2, 49 * 8 + 28 * 3 * 2 + 28 * 2 * 2 + 28 * 12, 8 + 6 + 4 + 12),
    ],
)
def test_costs_are_counted_by_hand(method, rank, macs, parameters):
    assert candidates.macs(conv(), method, rank) == macs
    assert candidates.macs(conv(calls=3), method, rank) == 3 * macs
    assert candidates.parameters(conv(calls=3), method, rank) == parameters


@pytest.mark.parametrize("kind", METHODS)
def test_shapes_are_those_of_the_decompositions(kind):
    reached = {"Dense": dense(), "Conv": conv()}[kind]
    (kernel,) = kernels(reached.kernel, 1)
    inputs = jnp.ones((40, math.prod(reached.kernel[:-1])))
    for method in METHODS[kind].values():
        rank = (2, 3) if isinstance(method.full(reached.kernel), tuple) else 3
        decomposed = method.decompose(jnp.asarray(kernel), rank, jax.random.key(0), inputs)
        assert tuple(part.shape for part in decomposed.kernels) == method.shapes(
            reached.kernel, rank
        )


def test_the_layer_as_it_is_comes_first_and_the_rest_costs_less():
    reached = conv()
    options = candidates.of_layer(reached, kernels(KERNEL), ("svd", "tucker"), candidates.macs)
    assert options[0] == ranks.Candidate(DENSE, 0, candidates.macs(reached, DENSE, None), 0.0)
    assert {option.method for option in options} == {DENSE, "svd", "tucker"}
    assert all(option.cost < options[0].cost for option in options[1:])
    square = candidates.of_layer(dense((4, 4)), kernels((4, 4)), ("svd",), candidates.macs)
    assert [option.rank for option in square] == [0, 1]  # rank 2 costs as much as the layer
    params = jax.ShapeDtypeStruct(KERNEL, jnp.float32)
    image = jax.ShapeDtypeStruct((1, 7, 7, 4), jnp.float32)
    compute = lambda p, x: override.compute(reached.layer, p, x)  # noqa: E731
    assert options[0].cost == multiply_adds(compute, params, image)


def test_groups_are_left_alone_and_of_pointwise_kernels_only_svd_is_asked():
    stack = kernels((3, 3, 1, 8))
    assert (
        len(candidates.of_layer(conv((3, 3, 1, 8), groups=8), stack, ("svd",), candidates.macs))
        == 1
    )
    names = tuple(METHODS["Conv"])
    assert [n for n in names if candidates.applies(conv((1, 1, 4, 6)), n)] == ["svd", "svd_outputs"]
    assert [n for n in names if candidates.applies(dense(), n)] == ["svd", "svd_outputs"]


def test_ladders_go_from_one_to_the_full_rank():
    assert candidates.ladder(1) == [1]
    assert candidates.ladder(5) == [1, 2, 3, 4, 5]
    long = candidates.ladder(500)
    assert long[0] == 1
    assert long[-1] == 500
    assert len(long) == candidates.RANKS
    assert all(1.4 < more / less < 2.1 for less, more in itertools.pairwise(long))
    assert len(candidates.ladder(candidates.RANKS + 1)) <= candidates.RANKS
    assert candidates.ladder((2, 3)) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]


def test_a_kernel_of_zeros_has_no_error_at_any_rank():
    stack = kernels(KERNEL)
    stack[1] = 0
    for name in ("svd", "spatial", "tucker"):
        options = candidates.of_layer(conv(), stack, (name,), lambda *_: _[1] == DENSE)
        for option in options[1:]:
            expected = actual(conv(), stack, name, option.rank)
            assert option.error == pytest.approx(expected, rel=0.2, abs=1e-5)


def test_candidates_of_cp_end_where_a_sweep_would_take_too_long(monkeypatch):
    monkeypatch.setattr(candidates, "CP_RANK", 2)
    monkeypatch.setitem(candidates.ERRORS, "cp", lambda kernels, ranks, inputs: [0.5] * len(ranks))
    options = candidates.of_layer(conv(), kernels(KERNEL), ("cp",), lambda *_: _[1] == DENSE)
    assert [option.rank for option in options] == [0, 1, 2]


def test_a_rule_sees_every_replicates_matrices_and_its_mean_counts():
    stack = kernels(KERNEL, 3)
    seen = []

    def rule(matrix):
        seen.append(matrix.shape)
        return len(seen) ** 2

    assert approximation.rank_by_rule(stack, "tucker", rule) == (5, 26)  # 14 / 3, 77 / 3
    assert seen == [(4, 36)] * 3 + [(6, 24)] * 3
    assert approximation.rank_by_rule(stack, "svd", lambda matrix: 0) == 1
    assert approximation.rank_by_rule(stack, "spatial", lambda matrix: matrix.shape[0]) == 12


def test_a_layers_stages_compute_what_its_kernel_would():
    reached = conv()
    (kernel,) = kernels(KERNEL, 1)
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 4))
    for name, method in METHODS["Conv"].items():
        inputs = layers.rows(reached.layer, KERNEL, x)
        factors, _ = layers.factors(
            method, jnp.asarray(kernel), method.full(KERNEL), jax.random.key(0), inputs
        )
        got = layers.compute(method, reached.layer, factors, x)
        want = override.compute(reached.layer, jnp.asarray(kernel), x)
        np.testing.assert_allclose(got, want, atol=2e-4, err_msg=name)
