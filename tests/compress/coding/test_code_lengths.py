"""`compress.coding.code_lengths` against the textbook's heap, all codes there are, and RFC 1951."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding import code_lengths
from tests.compress import references

COUNTS = st.lists(st.integers(0, 50) | st.integers(0, 10**6), min_size=2, max_size=40).filter(
    lambda counts: sum(c > 0 for c in counts) > 1
)


def _kraft(lengths):
    used = lengths[lengths > 0].tolist()
    return sum(2 ** (max(used) - n) for n in used) / 2 ** max(used)


@given(counts=COUNTS)
def test_as_good_as_the_textbook_where_no_limit_binds(counts):
    lengths = code_lengths.code_lengths(np.array(counts), 40)
    assert lengths @ counts == np.dot(references.heap_lengths(counts), counts)
    assert _kraft(lengths) == 1
    assert ((lengths > 0) == (np.array(counts) > 0)).all()


@given(
    counts=st.lists(st.integers(1, 30) | st.integers(1, 3000), min_size=2, max_size=6),
    limit=st.integers(1, 4),
)
def test_no_code_under_the_limit_spends_fewer_bits(counts, limit):
    if len(counts) > 2**limit:
        with pytest.raises(ValueError, match=f"at most {limit} bits has {len(counts)} words"):
            code_lengths.code_lengths(np.array(counts), limit)
        return
    lengths = code_lengths.code_lengths(np.array(counts), limit)
    assert lengths.max() <= limit
    assert lengths @ counts == references.least_bits(counts, limit)


def test_a_limit_that_binds_is_kept_and_the_code_is_full():
    counts = [1, 1]
    while len(counts) < 40:
        counts.append(counts[-1] + counts[-2])  # the deepest tree
    assert max(references.heap_lengths(counts)) == 39
    for limit in (6, 24):
        lengths = code_lengths.code_lengths(np.array(counts), limit)
        assert lengths.max() == limit
        assert _kraft(lengths) == 1
        assert (np.diff(lengths) <= 0).all()  # the rarer, the longer


def test_as_many_symbols_as_there_are_words():
    lengths = code_lengths.code_lengths(np.arange(1, 65_537), 16)
    assert (lengths == 16).all()


def test_what_does_not_occur_or_occurs_alone_has_no_word():
    for counts in ([], [0, 0], [0, 7, 0]):
        lengths = code_lengths.code_lengths(np.array(counts, int))
        assert lengths.tolist() == [0] * len(counts)
    assert code_lengths.code_lengths(np.array([0, 7, 0, 1])).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("counts", "limit", "message"),
    [
        (np.ones(3), 4, "counts are float64 (3,), not integers on one axis"),
        (np.ones((3, 2), int), 4, "counts are int64 (3, 2), not integers on one axis"),
        (np.array([3, -1]), 4, "counts must not be below 0; the least is -1"),
        (np.ones(9, int), 3, "no code of at most 3 bits has 9 words"),
        (np.ones(9, int), 0, "no code of at most 0 bits has 9 words"),
        (np.full(2, 1 << 60), 9, "counts add up to 2^56 or more"),
    ],
)
def test_bad_counts_are_refused(counts, limit, message):
    with pytest.raises(ValueError, match=references.exactly(message)):
        code_lengths.code_lengths(counts, limit)


def test_canonical_words_of_rfc_1951():
    code = code_lengths.canonical(np.array([3, 3, 3, 3, 3, 2, 4, 4]))  # its section 3.2.2
    words = [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]
    assert code.words.tolist() == words
    assert code.order.tolist() == [5, 0, 1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 2, 0], "code lengths fill 3 of 4 strings of 2 bits"),
        ([1, 1, 2], "code lengths fill 5 of 4 strings of 2 bits"),
        ([0, 1], "code lengths fill 1 of 2 strings of 1 bits"),
    ],
)
def test_lengths_that_are_no_complete_code_are_refused(lengths, message):
    with pytest.raises(ValueError, match=references.exactly(message)):
        code_lengths.canonical(np.array(lengths))


def _bits(string):
    string = string.replace(" ", "")
    string += "0" * (-len(string) % 8)
    return int(string, 2).to_bytes(len(string) // 8, "big")


def test_packed_lengths_by_hand():
    lengths = [0, 0, 0, 3, 4, 3, 3, *[9] * 10, 9, 0, 7]
    #        from 3   3 absent    3 +1   -1   3  +6            9: 10 more     absent   -2
    expected = "00011  1110 011  0  100  101  0  1111 0 00101  110 011  1110 1  1111 1 1"
    packed = code_lengths.pack(np.array(lengths))
    assert packed == _bits(expected)
    unpacked, used = code_lengths.unpack(memoryview(packed + b"\xff"), len(lengths))
    assert (unpacked.tolist(), used) == (lengths, len(packed))


@given(
    runs=st.lists(st.tuples(st.integers(0, 24), st.integers(1, 12)), max_size=20),
    last=st.integers(1, 24),
)
def test_packed_lengths_come_back(runs, last):
    lengths = [value for value, run in runs for _ in range(run)] + [last]
    packed = code_lengths.pack(np.array(lengths))
    unpacked, used = code_lengths.unpack(memoryview(packed), len(lengths))
    assert (unpacked.tolist(), used) == (lengths, len(packed))
    assert len(packed) <= 1 + 14 * len(lengths) / 8 + 1


def test_the_dearest_lengths_come_back():
    lengths = np.tile([1, 24], 500)  # 14 bits each
    packed = code_lengths.pack(lengths)
    np.testing.assert_array_equal(code_lengths.unpack(memoryview(packed), 1000)[0], lengths)
    assert len(packed) > 1740


@pytest.mark.parametrize(
    ("bits", "alphabet", "message"),
    [
        ("00000 1000", 2, "code lengths start from 0, outside 1…24"),
        ("11111 0", 2, "code lengths start from 31, outside 1…24"),
        ("11000 0 100", 2, "code length 25 of symbol 1 is outside 1…24"),
        ("00001 0 101", 2, "code length 0 of symbol 1 is outside 1…24"),
        ("00001 1110 00100", 2, "code lengths do not end with symbol 1"),
        ("00001 0 1110 1", 2, "code lengths do not end with symbol 1"),
        ("00001 110 1", 2, "code lengths do not end with symbol 1"),
        ("00001 0 0 1", 2, "bits after the code lengths are not 0"),
        ("00001 0 1", 9, "the data end within the code lengths"),
        ("00001 1110", 9, "the data end within the code lengths, or a run exceeds 2^18"),
    ],
)
def test_packed_lengths_that_say_nothing_are_refused(bits, alphabet, message):
    data = _bits(bits)[: -(-len(bits.replace(" ", "")) // 8)]
    with pytest.raises(ValueError, match=references.exactly(message)):
        code_lengths.unpack(memoryview(data), alphabet)
