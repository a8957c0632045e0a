"""`compress.huffman`: there and back, the format as another decoder reads it, hostile data."""

import itertools
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding import fields, huffman
from tests.compress import references


def _geometric(count, share, alphabet, seed=0):
    drawn = np.random.default_rng(seed).geometric(share, count) - 1
    return np.minimum(drawn, alphabet - 1)


STREAMS = {
    "empty": [],
    "one symbol": [7],
    "the largest alone": [65_535] * 3,
    "all equal": [3] * 200_000,
    "two kinds": [0, 65_535, 0],
    "16 kinds": _geometric(1000, 0.4, 16),
    "65,536 kinds": np.random.default_rng(0).permutation(65_536),
    "skewed": np.repeat(np.arange(18), 2 ** np.arange(18)),
    "long words": np.repeat(np.arange(2**14 + 15), [1] * 2**14 + [2**14] * 15),
    "long words and an index": np.repeat(np.arange(2**15 + 8), [1] * 2**15 + [2**15] * 8),
    "the last without an index": _geometric(262_144, 0.1, 256),
    "the first with one": _geometric(262_145, 0.1, 256),
    "whole blocks": _geometric(65 * 4096, 0.4, 16),
    "blocks of one size": np.tile([5, 9], 140_000),
}


def _same(decoded, symbols):
    np.testing.assert_array_equal(decoded, np.asarray(symbols, np.int64))
    assert decoded.dtype == (np.uint16 if len(symbols) and max(symbols) > 255 else np.uint8)


@pytest.mark.parametrize("name", STREAMS)
def test_named_streams_come_back(name):
    _same(huffman.decode(huffman.encode(np.array(STREAMS[name], int))), STREAMS[name])


@given(
    symbols=st.lists(st.integers(0, 65_535), max_size=30)
    | st.lists(st.integers(0, 5), max_size=300)
    | st.lists(st.sampled_from([0, 255, 256, 65_535]), max_size=50)
)
def test_any_symbols_come_back_to_any_reader(symbols):
    data = huffman.encode(np.array(symbols, np.int64))
    _same(huffman.decode(data), symbols)
    decoded, lengths, _ = references.decode(data)
    assert decoded == symbols
    counts = np.bincount(symbols, minlength=1)
    if np.count_nonzero(counts) > 1:
        best = np.dot(references.heap_lengths(counts), counts)
        assert sum(counts[s] * n for s, n in lengths.items()) == best


@pytest.mark.parametrize("name", ["skewed", "the first with one", "whole blocks"])
def test_another_reader_finds_long_streams(name):
    decoded, _, index = references.decode(huffman.encode(np.array(STREAMS[name])))
    np.testing.assert_array_equal(decoded, STREAMS[name])
    assert len(index) == {"the first with one": 64, "whole blocks": 64}.get(name, 0)


def test_a_stream_by_hand():
    # 5 symbols, the largest 3; from 2 (00010): 0 is absent (1110 1), 1 has 2 bits (0),
    # 2 one less (101), 3 one more (100); words 2: 0, 1: 10, 3: 11
    data = bytes([5, 3, 0b00010_111, 0b0_1_0_101_10, 0b0_0000000, 0b0_10_0_11_0_0])
    symbols = [2, 1, 2, 3, 2]
    assert huffman.encode(symbols) == data
    _same(huffman.decode(data), symbols)


@pytest.mark.parametrize("dtype", [bool, "i1", "u1", "<i2", ">i4", "u8"])
def test_equal_symbols_give_equal_bytes_whatever_their_type(dtype):
    symbols = np.array([0, 1, 1, 0, 1, 0, 0, 0])
    assert huffman.encode(symbols.astype(dtype)) == huffman.encode(symbols)
    assert huffman.encode(np.repeat(symbols, 2)[::2].astype(dtype)) == huffman.encode(symbols)


def test_words_beyond_16_bits_only_where_they_save_something():
    rising = np.repeat(np.arange(18), 2 ** np.arange(18))  # 18 kinds: 17 bits, two of them once
    _, lengths, _ = references.decode(huffman.encode(rising))
    assert max(lengths.values()) == 16
    best = np.dot(references.heap_lengths(np.bincount(rising)), np.bincount(rising))
    spent = sum(lengths[s] << s for s in lengths)
    assert best < spent <= 1.0001 * best
    for name in ("long words", "long words and an index"):
        _, lengths, _ = references.decode(huffman.encode(STREAMS[name]))
        assert max(lengths.values()) == 18


class TestSize:
    @given(symbols=st.lists(st.integers(0, 9), min_size=1, max_size=200))
    def test_words_take_less_than_a_bit_a_symbol_above_the_entropy(self, symbols):
        size = huffman.size(np.array(symbols))
        assert size.symbols == len(symbols)
        assert size.total_bytes == len(huffman.encode(np.array(symbols)))
        assert size.entropy_bits <= size.code_bits + 1e-9
        assert size.code_bits < size.entropy_bits + len(symbols)
        assert size.total_bytes - size.code_bits / 8 < 12 + len(set(symbols))

    def test_entropy_by_hand(self):
        assert huffman.entropy([]) == 0
        assert huffman.entropy([4, 4, 4]) == 0
        assert huffman.entropy([0, 1, 2, 2]) == 1.5
        np.testing.assert_allclose(huffman.entropy(np.arange(65_536)), 16)
        assert huffman.size([0, 1, 2, 2]) == (4, 6.0, 6, 5)

    @pytest.mark.parametrize(
        ("symbols", "most"),
        [
            (np.full(1 << 20, 9), 5),
            (_geometric(1000, 0.4, 16), 12),
            (_geometric(1000, 0.2, 32), 20),
            (_geometric(1000, 0.02, 256), 90),
            (np.arange(65_536), 11),
        ],
    )
    def test_what_stands_before_the_words_is_small(self, symbols, most):
        size = huffman.size(symbols)
        assert size.total_bytes - -(-size.code_bits // 8) <= most

    def test_the_index_takes_a_thousandth(self):
        symbols = _geometric(1 << 20, 0.4, 16)
        size = huffman.size(symbols)
        assert size.total_bytes - size.code_bits / 8 < 0.0012 * size.total_bytes


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ([[1, 2]], "symbols have shape (1, 2), not one axis"),
        (3, "symbols have shape (), not one axis"),
        ([1.0, 2.0], "symbols are float64, not integers"),
        (["a"], "symbols are <U1, not integers"),
        ([4, -1], "symbols -1…4 are not within 0…65535"),
        ([4, 65_536], "symbols 4…65536 are not within 0…65535"),
    ],
)
def test_bad_symbols_are_refused(symbols, message):
    for function in (huffman.encode, huffman.entropy, huffman.size):
        with pytest.raises(ValueError, match=references.exactly(message)):
            function(symbols)


HAND = bytes([5, 3, 0b00010_111, 0b0_1_0_101_10, 0b0_0000000, 0b0_10_0_11_0_0])
BITS = huffman.encode(STREAMS["blocks of one size"])  # 1 bit each: 68 blocks of 4096, and 1472
LONG = huffman.encode(np.arange(280_000) % 4)  # 2 bits each


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the data end within a number, after 0 bytes"),
        (b"\0\0", "the data should end with byte 1, not 2"),
        (b"\5\3\0\0", "the data should end with byte 3, not 4"),
        (b"\5", "the data end within a number, after 1 bytes"),
        (b"\5\3", "the data end within the code lengths"),
        (fields.number(9) + fields.number(65_536), "largest symbol 65536 is not below 65536"),
        (HAND[:5], "data end after 0 of 5 symbols"),
        (HAND + b"\0", "5 symbols take 7 bits, the data hold 16"),
        (b"\x08" + HAND[1:], "8 symbols take 10 bits, the data hold 8"),
        (b"\x01" + HAND[1:5] + b"\x01", "bits after the last symbol are not 0"),
        (HAND[:1] + b"\4" + HAND[2:], "code lengths fill 5 of 4 strings of 2 bits"),
        (fields.number(300) + HAND[1:], "300 symbols are declared in 7 bytes"),
        (BITS[:-99], "280000 symbols are declared in 34911 bytes"),
        (LONG[:-1], "280000 symbols take 560000 bits, the data hold 559992"),
        (LONG[:-999], "the last block begins at bit 557056 of 552008"),
        (LONG[:8] + b"\x21" + LONG[9:], "numbers from 8192 on of 33 bits"),
    ],
)
def test_bad_data_are_refused(data, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        huffman.decode(data)
    assert "\n" not in str(refused.value)


class TestBombs:
    def test_more_symbols_than_accepted(self):
        data = huffman.encode([1, 2, 3, 3])
        assert huffman.decode(data, max_symbols=4).size == 4
        message = "4 symbols are declared, at most 3 accepted (max_symbols)"
        with pytest.raises(ValueError, match=references.exactly(message)):
            huffman.decode(data, max_symbols=3)

    @pytest.mark.parametrize("count", [(1 << 27) + 1, 1 << 40, (1 << 63) - 1])
    def test_one_kind_of_symbol_ever_so_often(self, count):
        data = fields.number(count) + b"\1\0"
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"{count} symbols are declared, at most {1 << 27}"):
            huffman.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
        tracemalloc.stop()
        if count == (1 << 27) + 1:
            assert huffman.decode(data, max_symbols=count)[[0, -1]].tolist() == [1, 1]

    @pytest.mark.parametrize("count", [1 << 26, 1 << 60])
    def test_two_kinds_in_few_bytes(self, count):
        data = fields.number(count) + huffman.encode([0, 1, 1])[1:]
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"{count} symbols are declared in"):
            huffman.decode(data, max_symbols=1 << 62)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
        tracemalloc.stop()


def _mutated(data, rng):
    """Bits flipped, a byte set, a part cut out, repeated or put in; or cut short."""
    data, kind = bytearray(data), rng.integers(6)
    at = int(rng.integers(min(len(data), 40 if rng.integers(2) else len(data))))
    if kind == 0:
        data[at] ^= 1 << rng.integers(8)
    elif kind == 1:
        data[at] = rng.integers(256)
    elif kind == 2:
        del data[at : at + int(rng.integers(1, 5))]
    elif kind == 3:
        data[at:at] = rng.bytes(int(rng.integers(1, 5)))
    elif kind == 4:
        data[at:at] = data[at : at + 8]
    else:
        del data[at:]
    return bytes(data)


def _refusal(data, most):
    """The message, or nothing where symbols came back."""
    try:
        symbols = huffman.decode(data, max_symbols=most)
    except ValueError as error:
        return str(error)
    assert symbols.ndim == 1
    assert symbols.size <= most
    assert symbols.dtype in (np.uint8, np.uint16)
    return ""


@pytest.mark.parametrize(
    ("name", "times"),
    [("all equal", 300), ("16 kinds", 2000), ("long words", 60), ("the first with one", 40)],
)
def test_mutated_data_are_refused_or_give_symbols(name, times):
    data, rng = huffman.encode(np.array(STREAMS[name])), np.random.default_rng(1)
    refused, most = 0, 1 << 20
    tracemalloc.start()
    for _ in range(times):
        mutated = _mutated(data, rng)
        for _ in range(int(rng.integers(3))):
            mutated = _mutated(mutated, rng) if mutated else b""
        message = _refusal(mutated, most)
        assert len(message) < 120
        assert "\n" not in message
        refused += bool(message)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    assert refused > times / 4


def test_random_bytes_are_refused_or_give_symbols():
    rng = np.random.default_rng(2)
    for size in itertools.chain.from_iterable([range(40)] * 50):
        _refusal(rng.bytes(size), 1000)


def test_every_cut_is_refused():
    data = huffman.encode(STREAMS["16 kinds"])
    for end in range(len(data)):
        with pytest.raises(ValueError, match=r"end|hold|declared"):
            huffman.decode(data[:end])
