"""`compress.coding.bitstream`: both ways of reading, words of all lengths, every seam."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding import bitstream, code_lengths
from tests.compress import references

LENGTHS = {
    "up to 8 bits": [2, 1, 3, 4, 5, 6, 7, 8, 8],  # items of 8 words
    "up to 16 bits": [*range(16, 0, -1), 16],  # items of 4
    "up to 24 bits": [*range(1, 25), 24],  # items of 2; beyond the table
    "300 words of 24 bits": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, *[21] * 219, *[24] * 296],
    "one bit": [1, 1],
    "16 bits each": [16] * 65_536,
}


def _written(name, count, seed=0):
    """Symbols drawn evenly, so that long words are many."""
    code = code_lengths.canonical(np.array(LENGTHS[name]))
    symbols = np.random.default_rng(seed).integers(0, code.lengths.size, count)
    bits = int(code.lengths[symbols].sum())
    data, starts = bitstream.write(symbols, code, bits)
    table = bitstream.table(code, np.uint16)
    return symbols, memoryview(data), starts, table, bits, code


@pytest.mark.parametrize("name", LENGTHS)
def test_words_stand_one_after_another(name):
    symbols, data, starts, _, bits, code = _written(name, 9001)
    words = [f"{code.words[s]:0{code.lengths[s]}b}" for s in symbols]
    string = "".join(words)
    assert "".join(f"{byte:08b}" for byte in data) == string + "0" * (-bits % 8)
    at = np.cumsum([0, *map(len, words)])
    assert starts.tolist() == at[: len(symbols) : 4096].tolist()


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("count", [1, 7, 4095, 4096, 4097, 40_000])
def test_both_ways_of_reading_find_them(name, count):
    symbols, data, starts, table, bits, _ = _written(name, count)
    for decoded, end in (
        bitstream.follow(data, table, count),
        bitstream.read(data, table, starts, count),
    ):
        np.testing.assert_array_equal(decoded, symbols)
        assert (end, decoded.dtype) == (bits, np.uint16)


def test_blocks_grow_with_the_symbols(monkeypatch):
    for count in (1, 2**23, 2**23 + 1, 10**7, 2**24, 2**24 + 1, 10**9):
        assert bitstream.block(count) == references.block(count)
    assert [bitstream.block(n) for n in (2**23, 2**23 + 1)] == [4096, 8192]
    monkeypatch.setattr(bitstream, "BLOCKS", 3)
    symbols, data, starts, table, bits, code = _written("up to 24 bits", 20 * 4096 + 5)
    at = np.cumsum([0, *code.lengths[symbols]])
    assert starts.tolist() == at[[0, 8 * 4096, 16 * 4096]].tolist()
    decoded, end = bitstream.read(data, table, starts, symbols.size)
    np.testing.assert_array_equal(decoded, symbols)
    assert end == bits


@given(count=st.integers(1, 300), seed=st.integers(0, 9), piece=st.integers(1, 3))
def test_words_across_the_seams_of_pieces(count, seed, piece):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bitstream, "_PIECE", piece)  # of 32 bits
        symbols, data, _, table, bits, _ = _written("up to 24 bits", count, seed)
        decoded, end = bitstream.follow(data, table, count)
    np.testing.assert_array_equal(decoded, symbols)
    assert end == bits


@pytest.mark.parametrize("block", [1, 4, 7])
def test_a_block_that_begins_elsewhere_is_refused(block):
    symbols, data, starts, table, *_ = _written("16 bits each", 8 * 4096)
    starts[block] += 1
    message = f"block {block - 1} does not end where the next begins"
    with pytest.raises(ValueError, match=references.exactly(message)):
        bitstream.read(data, table, starts, symbols.size)


def test_data_that_end_early_are_refused():
    symbols, data, _, table, *_ = _written("16 bits each", 100)
    with pytest.raises(ValueError, match=references.exactly("data end after 60 of 100 symbols")):
        bitstream.follow(data[:120], table, symbols.size)
