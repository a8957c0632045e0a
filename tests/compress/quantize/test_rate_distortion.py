"""Assignment by error and bits: the cheapest of all, fewer bytes the more a bit costs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress
from compress import quantize
from compress.coding import adaptive
from compress.quantize.rate_distortion import _means, _symbol_bits, assign
from tests.compress.references import exactly

VALUES = np.array([0.0, -1.0, 0.5, 2.0])


def _bytes(clusters):
    """Of the adaptive code; codebooks rise but for zero, which comes first."""
    codebook, indices = np.asarray(clusters.codebook), np.asarray(clusters.indices)
    below = int(np.sum(codebook < 0))
    ranks = np.where(indices == 0, below, indices - (indices <= below))
    return len(adaptive.encode(ranks, codebook.size, below))


@given(
    weights=st.lists(st.floats(-3, 3), min_size=1, max_size=4),
    rate=st.floats(0, 2),
    lengths=st.lists(st.floats(0, 5), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_assignment_is_the_cheapest_of_all(weights, rate, lengths, seed):
    """Among all 4^N assignments."""
    rng, weights = np.random.default_rng(seed), np.array(weights)
    importance, places = rng.random((2, weights.size))
    found = assign(weights, VALUES, np.array(lengths), rate, importance, places)

    def cost(indices):
        indices = np.array(indices)
        bits = np.array(lengths)[indices] + places * (indices > 0)
        return np.sum(importance * (weights - VALUES[indices]) ** 2 + rate * bits)

    least = min(map(cost, itertools.product(range(4), repeat=weights.size)))
    assert cost(found) == pytest.approx(least)


def test_rounds_by_hand():
    """−log₂ of frequencies among the kept, then means by importance."""
    lengths = _symbol_bits(np.array([0, 1, 1, 1, 2, 0]), 4)
    np.testing.assert_allclose(lengths, [0, np.log2(4.5 / 3), np.log2(4.5), np.log2(9)])
    means = _means(
        np.array([1.0, 2, 5, 9]), np.array([1, 1, 2, 0]), VALUES, np.array([1.0, 3, 1, 1])
    )
    np.testing.assert_allclose(means, [0, 1.75, 5, 2])


class TestKernels:
    weights = np.random.default_rng(0).normal(size=(60, 50)).astype("f4")
    mask = np.abs(weights) > 1

    def test_without_a_rate_nothing_but_the_error_counts(self):
        made = quantize.rate_distortion(self.weights, 3, 0.0, mask=self.mask)
        got, codebook = np.asarray(quantize.materialize(made)), np.asarray(made.codebook)
        nearest = codebook[np.argmin(np.abs(self.weights[..., None] - codebook), -1)]
        error = np.square(got - self.weights)[self.mask].mean()
        best = np.square(nearest - self.weights)[self.mask].mean()
        assert best <= error < 1.01 * best  # values have moved since weights were assigned
        assert not got[~self.mask].any()
        assert codebook[0] == 0
        assert (np.diff(codebook[1:]) > 0).all()

    def test_bytes_fall_and_errors_rise_with_the_rate(self):
        mean = np.square(self.weights[self.mask]).mean()
        made = [
            quantize.rate_distortion(self.weights, 3, rate * mean, mask=self.mask)
            for rate in (0, 0.02, 0.1, 0.3)
        ]
        sizes = [_bytes(clusters) for clusters in made]
        errors = [
            np.square(np.asarray(quantize.materialize(c)) - self.weights)[self.mask].sum()
            for c in made
        ]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == 4
        assert errors == sorted(errors)

    def test_it_beats_magnitude_pruning_at_equal_bytes(self):
        """In bits times squared error, where weights are pruned and then clustered."""
        mean = np.square(self.weights).mean()
        made = quantize.rate_distortion(self.weights, 3, 0.1 * mean)
        error = np.square(np.asarray(quantize.materialize(made)) - self.weights).sum()
        for share in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
            kept = np.abs(self.weights) > np.quantile(np.abs(self.weights), 1 - share)
            plain = quantize.kmeans(self.weights, 3, kept)
            other = np.square(np.asarray(quantize.materialize(plain)) - self.weights).sum()
            assert error < other or _bytes(made) < _bytes(plain)

    def test_what_is_important_keeps_its_value(self):
        importance = np.where(np.arange(50) < 25, 1.0, 0.01)[None] * np.ones((60, 1))
        made = quantize.rate_distortion(self.weights, 3, 0.1, importance)
        error = np.square(np.asarray(quantize.materialize(made)) - self.weights)
        assert error[:, :25].mean() < 0.2 * error[:, 25:].mean()
        kept = np.asarray(made.mask)
        assert kept[:, :25].mean() > kept[:, 25:].mean()

    def test_the_form_is_stored_and_trained_as_any_other(self, tmp_path):
        made = quantize.rate_distortion(self.weights, 3, 0.2, mask=self.mask)
        np.testing.assert_array_equal(made.mask, np.asarray(made.indices) > 0)
        stored = {"params": {"dense": {"kernel": made}}}
        compress.save(tmp_path / "a", lambda variables, x: x, stored)
        like = quantize.materialize(stored)
        _, loaded = compress.load(tmp_path / "a", lambda variables, x: x, like=like)
        np.testing.assert_array_equal(
            loaded["params"]["dense"]["kernel"], like["params"]["dense"]["kernel"]
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rate": -1.0}, "rate=-1.0 and rounds=4 must not be below 0"),
            ({"rate": float("nan")}, "rate=nan and rounds=4 must not be below 0"),
            ({"codebook": np.zeros(4)}, "8 finite values are needed, not shape (4,)"),
            ({"importance": np.ones(3)}, "importance must be (60, 50) numbers ≥ 0, not (3,)"),
        ],
    )
    def test_arguments_are_checked(self, change, message):
        given_ = {"rate": 0.1, "mask": self.mask, "codebook": np.arange(8.0), **change}
        with pytest.raises(ValueError, match=exactly(message)):
            quantize.rate_distortion(self.weights, 3, **given_)
