"""`lowrank.choose.ranks` against a descent of the free energy, and a trial of every choice."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from lowrank.choose import ranks
from lowrank.choose.ranks import Candidate


class TestEnergy:
    def test_by_hand(self):
        sigma = [1, 3, 2, 0]  # energies 9, 4, 1, 0 of 14
        for share, rank in ((0.01, 1), (9 / 14, 1), (0.65, 2), (13 / 14, 2), (0.93, 3), (1, 3)):
            assert ranks.energy(sigma, share) == rank

    def test_a_matrix_is_its_singular_values(self):
        matrix = np.random.default_rng(0).normal(size=(8, 5))
        sigma = np.linalg.svd(matrix, compute_uv=False)
        for share in (0.1, 0.5, 0.9, 0.999):
            rank = ranks.energy(matrix, share)
            assert rank == ranks.energy(matrix.T, share) == ranks.energy(sigma, share)
            assert np.sum(sigma[:rank] ** 2) >= share * np.sum(sigma**2)
            assert np.sum(sigma[: rank - 1] ** 2) < share * np.sum(sigma**2)

    def test_zero_needs_one(self):
        assert ranks.energy(np.zeros((3, 4)), 0.9) == 1

    def test_bad_input_is_refused(self):
        for share in (0, -0.1, 1.1, np.nan):
            with pytest.raises(ValueError, match="outside"):
                ranks.energy([1.0], share)
        with pytest.raises(ValueError, match="1 entries are not finite"):
            ranks.energy([1.0, np.nan], 0.5)
        with pytest.raises(ValueError, match="shape"):
            ranks.energy(np.zeros((2, 2, 2)), 0.5)


def _signal(shape, rank, noise, seed):
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(n, max(rank, 1))))[0][:, :rank] for n in shape)
    strength = np.sqrt(max(shape)) * np.linspace(6, 3, rank)
    return (u * strength) @ v.T + noise * rng.normal(size=shape)


def _component(gamma, variance, short, long):
    """Least of twice the free energy of one component, over posterior and prior; 0 = dropped.

    The means a, b and variances s, t of a normal posterior on the columns of A [M] and B [L];
    the priors' variances at their optimum, (a² + M s) / M and (b² + L t) / L.
    Source: the free energy of a factorised normal posterior (Nakajima et al. 2013), by hand.
    """

    def energy(x):
        a, b, s, t = np.exp(np.clip(x, -40, 40))
        return (
            long * np.log1p(a**2 / (long * s))
            + short * np.log1p(b**2 / (short * t))
            + ((a**2 + long * s) * (b**2 + short * t) - 2 * a * b * gamma) / variance
        )

    least = 0.0  # at variances that go to 0
    for share in (0.3, 0.9):
        size = np.sqrt(gamma * share)
        spread = variance / size**2
        start = np.log([size, size, spread, spread])
        result = optimize.minimize(energy, start, method="BFGS", options={"gtol": 1e-7})
        least = min(least, result.fun)
    return least


def _vbmf_by_descent(matrix):
    """(rank, noise variance) of the least free energy on a fine grid of noise variances."""
    short, long = sorted(matrix.shape)
    gammas = np.linalg.svd(matrix, compute_uv=False)

    def total(log_variance):
        variance = np.exp(log_variance)
        parts = np.array([_component(g, variance, short, long) for g in gammas])
        constant = short * long * log_variance + np.sum(gammas**2) / variance
        return constant + parts.sum(), int(np.sum(parts < -1e-6))

    mean = np.sum(gammas**2) / (short * long)
    grid = np.log(mean) + np.linspace(np.log(0.02), 0, 16)
    best = grid[np.argmin([total(at)[0] for at in grid])]
    step = grid[1] - grid[0]
    refined = optimize.minimize_scalar(
        lambda at: total(at)[0], bounds=(best - step, best + step), method="bounded"
    )
    return total(refined.x)[1], np.exp(refined.x)


class TestVBMF:
    @pytest.mark.parametrize(
        ("shape", "rank", "noise"), [((8, 12), 2, 1.0), ((6, 6), 1, 1.0), ((12, 5), 0, 0.1)]
    )
    def test_rank_and_noise_are_those_of_a_descent_of_the_free_energy(self, shape, rank, noise):
        matrix = _signal(shape, rank, noise, 1)
        want, variance = _vbmf_by_descent(matrix)
        assert ranks.vbmf(matrix) == want
        short, long = sorted(shape)
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2 / long
        alpha = short / long
        threshold = ranks._threshold(alpha)
        noise = ranks._noise_variance(squares, alpha, threshold)
        np.testing.assert_allclose(noise, variance, rtol=1e-3)

    def test_a_component_is_kept_where_the_descent_keeps_it(self):
        """The threshold alone, at known noise: just above it is kept, just below dropped."""
        for short, long in ((6, 6), (4, 12)):
            threshold = ranks._threshold(short / long)
            for factor, kept in ((1.02, True), (0.98, False)):
                gamma = np.sqrt(factor * threshold * long * 0.5)
                assert (_component(gamma, 0.5, short, long) < -1e-4) == kept

    def test_the_threshold_of_a_square_matrix(self):
        # φ(τ) = 0 at 2.5129 (Nakajima et al. 2015)
        np.testing.assert_allclose(ranks._threshold(1.0), 3.5129 * (1 + 1 / 2.5129), rtol=1e-4)

    @pytest.mark.parametrize("rank", [0, 1, 5, 12])
    def test_planted_ranks_are_found_in_either_orientation_and_at_any_scale(self, rank):
        matrix = _signal((40, 100), rank, 1.0, rank)
        for turned in (matrix, matrix.T, 1e-6 * matrix, 1e6 * matrix, matrix.astype("f4")):
            assert ranks.vbmf(turned) == rank

    def test_without_noise_it_is_the_rank(self):
        assert ranks.vbmf(_signal((20, 30), 4, 0, 0)) == 4
        assert ranks.vbmf(np.zeros((3, 4))) == 0

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="needs a matrix"):
            ranks.vbmf(np.zeros(3))
        with pytest.raises(ValueError, match="not finite"):
            ranks.vbmf(np.full((3, 4), np.inf))
        with pytest.raises(ValueError, match="shape"):
            ranks.vbmf(np.zeros((0, 4)))


class TestChoose:
    @given(
        table=st.lists(
            st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), min_size=1, max_size=4),
            min_size=1,
            max_size=4,
        ),
        room=st.integers(0, 60),
        weighted=st.booleans(),
    )
    def test_no_choice_within_the_budget_has_a_smaller_error(self, table, room, weighted):
        candidates = {
            f"layer{i}": [Candidate("svd", k, cost, e / 8) for k, (cost, e) in enumerate(row)]
            for i, row in enumerate(table)
        }
        weights = {"layer0": 4.0} if weighted else {}
        budget = room + sum(min(c.cost for c in row) for row in candidates.values())
        chosen = ranks.choose(candidates, budget, weights)
        assert list(chosen) == list(candidates)
        assert all(chosen[name] in row for name, row in candidates.items())
        every = (
            dict(zip(candidates, row, strict=True))
            for row in itertools.product(*candidates.values())
        )
        totals = [_total(one, weights) for one in every]
        least = min((loss, cost) for loss, cost in totals if cost <= budget)
        assert _total(chosen, weights) == least

    def test_bad_input_is_refused(self):
        good = Candidate("svd", 1, 5, 0.5)
        for candidates, weights, message in (
            ({"a": []}, {}, "'a' has no options"),
            ({"a": [good._replace(error=np.nan)]}, {}, "'a': .* the error must be finite"),
            ({"a": [good._replace(cost=-1)]}, {}, "'a': .* the cost must be an integer"),
            ({"a": [good]}, {"b": 1.0}, "'b'"),
            ({"a": [good]}, {"a": -1.0}, "outside"),
            ({"a": [good._replace(cost=1500)]}, {}, "budget 10 is below 1,500, the cost of"),
        ):
            with pytest.raises(ValueError, match=message):
                ranks.choose(candidates, 10, weights)


def _total(chosen, weights):
    """Σ weight × error², and the cost."""
    return (
        sum(weights.get(name, 1) * c.error**2 for name, c in chosen.items()),
        sum(c.cost for c in chosen.values()),
    )
