"""`compress.coding.sparse` against the paper's figure, a plain loop, and there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding import sparse
from tests.compress import references


def test_figure_2_of_the_paper():
    # arXiv:1510.00149: indices 1, 4, 15 in 3 bits; a filler zero, for 11 exceeds 8 = 2^3:
    # differences 1, 3, 8, 3. Ours are less 1, and the first counts from -1.
    mask = np.zeros(16, bool)
    mask[[1, 4, 15]] = True
    gaps, kept = sparse.gaps(mask, 3)
    assert gaps.tolist() == [1, 2, 7, 2]
    assert kept.tolist() == [True, True, False, True]
    assert sparse.positions(gaps, 3, 16).tolist() == [1, 4, 12, 15]


def _loop(mask, bits):
    gaps, kept, skipped = [], [], 0
    for entry in mask:
        if entry or skipped == 2**bits - 1:
            gaps.append(skipped)
            kept.append(bool(entry))
            skipped = 0
        else:
            skipped += 1
    while kept and not kept[-1]:
        gaps.pop()
        kept.pop()
    return gaps, kept


@given(
    mask=st.lists(st.booleans(), max_size=60)
    | st.lists(st.sampled_from([False] * 20 + [True]), max_size=300),
    bits=st.integers(1, 16),
)
def test_gaps_of_a_plain_loop_and_back(mask, bits):
    mask = np.array(mask, bool)
    gaps, kept = sparse.gaps(mask, bits)
    assert (gaps.tolist(), kept.tolist()) == _loop(mask, bits)
    assert gaps.dtype == (np.uint8 if bits <= 8 else np.uint16)
    at = sparse.positions(gaps, bits, mask.size)
    np.testing.assert_array_equal(at[kept], np.flatnonzero(mask))
    assert not mask[at[~kept]].any()


def test_the_longest_gap_and_one_more():
    for bits in (1, 5, 8, 9, 16):
        span = 2**bits
        for skipped, want in (
            (span - 1, [span - 1]),
            (span, [span - 1, 0]),
            (2 * span, [span - 1, span - 1, 0]),
        ):
            mask = np.append(np.zeros(skipped, bool), True)
            assert sparse.gaps(mask, bits).gaps.tolist() == want


def test_a_tensor_is_read_in_c_order():
    mask = np.zeros((2, 3, 4), bool)
    mask[1, 0, 2] = True
    gaps, kept = sparse.gaps(np.asfortranarray(mask), sparse.DENSE_BITS)
    assert (gaps.tolist(), kept.tolist()) == ([14], [True])


@pytest.mark.parametrize(
    ("mask", "bits", "message"),
    [
        ([0, 1], 5, "the mask is int64, not bool"),
        ([True], 0, "0 bits are outside 1…16"),
        ([True], 17, "17 bits are outside 1…16"),
    ],
)
def test_bad_masks_are_refused(mask, bits, message):
    with pytest.raises(ValueError, match=references.exactly(message)):
        sparse.gaps(mask, bits)


@pytest.mark.parametrize(
    ("gaps", "bits", "size", "message"),
    [
        ([[1]], 3, 9, "gaps are int64 (1, 1), not integers on one axis"),
        ([0.5], 3, 9, "gaps are float64 (1,), not integers on one axis"),
        ([3, 8], 3, 99, "gaps 3…8 are not within 0…7"),
        ([-1], 3, 99, "gaps -1…-1 are not within 0…7"),
        ([3, 5], 3, 9, "the last entry lies at 9, beyond 9 positions"),
        ([3], 99, 9, "99 bits are outside 1…16"),
    ],
)
def test_bad_gaps_are_refused(gaps, bits, size, message):
    with pytest.raises(ValueError, match=references.exactly(message)):
        sparse.positions(gaps, bits, size)


def test_the_last_position_is_within():
    assert sparse.positions([3, 5], 3, 10).tolist() == [3, 9]
    assert sparse.positions([], 3, 0).tolist() == []
