"""Context-adaptive coding: exact, near the entropy, below it where entries are alike, and safe."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding import adaptive, huffman, likeness, places, planes, rans
from tests.compress import references
from tests.compress.references import exactly

GOLDEN = "010100ff01107e3077a31662543a348f0b3b71ccf7e0"


def _drawn(shape, density, levels, zero, seed=0):
    """Symbols, of which this share is not zero."""
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, levels, shape)
    return symbols if zero is None else np.where(rng.random(shape) < density, symbols, zero)


@st.composite
def arrays(draw):
    """Symbols, K and zero: of 0 to 4 axes, with rows of zeros, one symbol alone, or nothing."""
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=4)))
    levels = draw(st.sampled_from([1, 2, 3, 8, 15, 300]))
    zero = draw(st.none() | st.integers(0, levels - 1))
    symbols = _drawn(
        shape, draw(st.sampled_from([0, 0.1, 0.6, 1])), levels, zero, draw(st.integers(0, 99))
    )
    if zero is not None and symbols.ndim > 1 and draw(st.booleans()):
        symbols[::2] = zero
    return symbols, levels, zero


class TestRoundTrip:
    @given(arrays())
    def test_of_any_array_also_by_the_reference(self, given_):
        symbols, levels, zero = given_
        data = adaptive.encode(symbols, levels, zero)
        decoded = adaptive.decode(data, symbols.shape, levels, zero)
        np.testing.assert_array_equal(decoded, symbols.ravel())
        assert decoded.dtype == (np.uint8 if levels <= 256 else np.uint16)
        assert references.adaptive(data, symbols.shape, levels, zero) == symbols.ravel().tolist()

    @pytest.mark.parametrize(
        ("shape", "lag"), [((120, 30), 7), ((30, 120), 0), ((400, 3), 0), ((3, 3, 20, 17), 20)]
    )
    def test_of_lanes_and_lags_by_the_reference(self, shape, lag, monkeypatch):
        """Many lanes, a transposed matrix, and rows that are alike at a distance."""
        monkeypatch.setattr(adaptive, "_PLACES_A_LANE", 30)
        monkeypatch.setattr(adaptive, "_SYMBOLS_A_LANE", 30)
        symbols = _drawn(shape, 0.2, 9, 4)
        matrix = symbols.reshape(-1, shape[-1])
        for row in range(lag, len(matrix) if lag else 0):
            if row % 3:
                matrix[row] = matrix[row - lag]
        data = adaptive.encode(symbols, 9, 4)
        read = references.Reader(data)
        lanes, fewer, found = read.leb128(), read.leb128(), read.leb128()
        assert (lanes > 3, fewer > 0, found) == (True, True, lag)
        np.testing.assert_array_equal(adaptive.decode(data, shape, 9, 4), symbols.ravel())
        assert references.adaptive(data, shape, 9, 4) == symbols.ravel().tolist()

    @pytest.mark.parametrize(("shape", "every"), [((800, 1000), 400_000), ((600, 500), 2)])
    def test_of_arrays_that_take_far_fewer_bytes_than_expected(self, shape, every, monkeypatch):
        """There are then more lanes, so that a decoder may take its steps."""
        monkeypatch.setattr(adaptive, "FREE_STEPS", 600)
        symbols = np.where(np.arange(np.prod(shape)).reshape(shape) // 500 % every == 0, 1, 0)
        data = adaptive.encode(symbols, 2, 0)
        np.testing.assert_array_equal(adaptive.decode(data, shape, 2, 0), symbols.ravel())

    def test_equal_symbols_give_equal_bytes_whatever_their_type(self):
        symbols = _drawn((20, 30), 0.3, 8, 0)
        data = adaptive.encode(symbols, 8, 0)
        for dtype in ("u1", "i2", "u8"):
            assert adaptive.encode(symbols.astype(dtype), 8, 0) == data

    def test_bytes_stay_as_they_are(self):
        symbols = np.arange(60).reshape(6, 10) % 7 % 4
        assert adaptive.encode(symbols, 4, 1).hex() == GOLDEN


class TestSize:
    @pytest.mark.parametrize("density", [0.02, 0.05, 0.3])
    def test_of_memoryless_weights_is_within_a_percent_of_the_entropy(self, density):
        symbols = _drawn((500, 400), density, 8, 3)
        data = adaptive.encode(symbols, 8, 3)
        entropy = symbols.size * huffman.entropy(symbols.ravel()) / 8
        assert 0.995 * entropy < len(data) < 1.012 * entropy

    def test_of_uneven_rows_and_columns_is_far_below_it(self):
        """Half of the rows and columns have nearly nothing: as the border of images."""
        share = np.outer(np.arange(300) % 2, np.arange(200) % 2) * 0.4 + 0.002
        kept = np.random.default_rng(0).random((300, 200)) < share
        entropy = kept.size * huffman.entropy(kept.ravel().astype(int)) / 8
        best = -np.log2(np.where(kept, share, 1 - share)).sum() / 8
        size = len(adaptive.encode(kept, 2, 0))
        assert size < 0.7 * entropy
        assert size < 1.2 * best

    def test_of_rows_that_are_alike_is_below_it(self):
        rows = _drawn((14, 100), 0.1, 3, 1)
        symbols = np.tile(rows, (20, 1))
        symbols = np.where(np.random.default_rng(1).random(symbols.shape) < 0.9, symbols, 1)
        assert likeness.lag(symbols - 1) == 14
        entropy = symbols.size * huffman.entropy(symbols.ravel()) / 8
        assert len(adaptive.encode(symbols, 3, 1)) < 0.6 * entropy

    def test_lanes_cost_little(self, monkeypatch):
        symbols = _drawn((100, 400), 0.2, 8, 3)
        usual = len(adaptive.encode(symbols, 8, 3))
        monkeypatch.setattr(adaptive, "_lanes", lambda *_: (1, 1))
        assert usual < 1.006 * len(adaptive.encode(symbols, 8, 3))

    def test_is_promised_where_it_pays(self):
        dense = _drawn((60, 60), 1, 256, None)
        code = huffman.encode(dense.ravel())
        assert not adaptive.promises(dense, 256, None, len(code))
        uneven = np.where(np.arange(60)[:, None] < 10, dense % 4, 0)
        assert adaptive.promises(uneven, 4, 0, len(huffman.encode(uneven.ravel())))


def test_chances_are_those_of_the_code():
    """The bits of all places, by their chances, are those of a code of places alone."""
    kept = np.random.default_rng(0).random((200, 100)) < np.linspace(0, 0.3, 100)
    chances = adaptive.chances(kept.astype(int), kept)
    bits = -np.log2(np.where(kept, chances, 1 - chances)).sum()
    lanes = 20 * adaptive.encode(kept, 2, 0)[0]  # that hold no words, since there are none
    assert 8 * len(adaptive.encode(kept, 2, 0)) == pytest.approx(bits + lanes, rel=0.01)
    assert chances[:, 80:].mean() > 3 * chances[:, :20].mean()


class TestDamage:
    def test_any_change_is_refused_or_gives_symbols(self):
        symbols = _drawn((40, 30), 0.2, 8, 3)
        data, rng = adaptive.encode(symbols, 8, 3), np.random.default_rng(0)
        messages, refused = set(), 0
        for number in range(160):
            changed = bytearray(data)
            match number % 4:
                case 0:
                    changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
                case 1:
                    del changed[rng.integers(len(data)) :]
                case 2:
                    changed += rng.bytes(rng.integers(1, 4))
                case 3:
                    changed[: rng.integers(1, 6)] = rng.bytes(rng.integers(0, 6))
            try:
                decoded = adaptive.decode(bytes(changed), (40, 30), 8, 3)
            except ValueError as error:
                refused += 1
                messages.add(str(error))
            else:
                assert decoded.size == 1200
                assert decoded.max() < 8
        assert refused > 120
        assert all(map(str.isprintable, messages))

    @pytest.mark.parametrize(
        ("data", "shape", "levels", "message"),
        [
            (b"", (3,), 3, "the data end within a number, after 0 bytes"),
            (b"\0\1\0\0", (3,), 3, "0 lanes are not within 1…65536"),
            (b"\1\2\0\0", (3,), 3, "2 of 1 lanes and a lag of 0 do not fit"),
            (b"\1\1\1\0", (3, 3), 3, "1 of 1 lanes and a lag of 1 do not fit"),
            (b"\1\1\3\0", (3, 3), 3, "1 of 1 lanes and a lag of 3 do not fit"),
            (b"\1\1\0\0", (3,), 3, "the data end within the states"),
            (b"\1\1\0\x80\2", (3,), 3, "an inertia of 256 is not below 256"),
            (b"\1\1\0\0" + bytes(2), (3,), 3, "the data end within the states"),
            (b"\1\1\0\0" + bytes(4), (3,), 3, "the data end within a word"),
            (b"\1\1\0\0" + b"\0\0\x0f", (3,), 3, "bits after the states are not 0"),
            (b"\1\1\0\0" + bytes(3), (3,), 3, "the data end before the last symbol"),
            (b"\1\1\0\0" + bytes(3), (1 << 16, 16), 3, "7 bytes take 1048576 steps: at most 4208"),
            (b"\1\1\0\0" + bytes(3), (3,), 0, "0 symbols, 1 that of zero, are not within 1…65536"),
        ],
    )
    def test_forged_data_are_refused(self, data, shape, levels, message):
        with pytest.raises(ValueError, match=exactly(message)):
            adaptive.decode(data, shape, levels, 1)

    def test_nothing_is_allocated_for_empty_arrays_of_any_shape(self):
        assert adaptive.decode(b"\1\1\0\0" + bytes(3), (0, 1 << 39), 3, 1).size == 0

    def test_another_number_of_symbols_is_refused(self):
        symbols = np.full((20, 20), 5)  # size 4, of 3 binary digits, as 3 is
        data = adaptive.encode(symbols, 6, 0)
        with pytest.raises(ValueError, match=exactly("a symbol is beyond the 5 possible ones")):
            adaptive.decode(data, (20, 20), 5, 0)

    def test_what_is_encoded_is_checked(self):
        for symbols, message in (
            ([3], "symbols 3…3 are not within 0…2"),
            ([0.5], "symbols are float64, not integers"),
        ):
            with pytest.raises(ValueError, match=exactly(message)):
                adaptive.encode(symbols, 3, 0)


def test_lanes_that_end_hold_words():
    rng = np.random.default_rng(0)
    bits, chances = rng.random((300, 9)) < 0.2, rng.integers(1, 65536, (300, 9))
    writer = rans.Writer(9)
    for step in range(300):
        lanes = 9 if step < 50 else 2
        if step == 50:
            writer.narrow(2)
        writer.code(chances[step, :lanes], bits[step, :lanes])
    data = writer.bytes()
    reader = rans.Reader(memoryview(data), 9)
    for step in range(300):
        lanes = 9 if step < 50 else 2
        if step == 50:
            reader.narrow(2)
        np.testing.assert_array_equal(reader.code(chances[step, :lanes]), bits[step, :lanes])
    reader.end()
    with pytest.raises(ValueError, match=exactly("the data do not end with the last symbol")):
        rans.Reader(memoryview(data), 9).end()


def test_factors_never_overflow():
    """Two of them, and odds of 2^24, go into 64 bits however long an array is."""
    counts = np.array([1 << 50, 1 << 16, 0])
    factors = places._factors(counts, np.array([1, 1 << 16, 1 << 16]))
    assert factors.tolist() == [1 << 28, 1 << 12, 1]
    assert (factors * factors >= 0).all()


def test_a_factor_follows_its_column():
    """By hand: the odds begin with 1 : 9, and all factors with 1."""
    likely = places.Likeness(0, 1, 1)
    seen = places.code(rans.Writer(3), np.zeros((2, 3), bool), True, 1, likely)
    odds = (1 << 16) // 9
    assert seen[0].tolist() == [(odds << 16) // (odds + 65536)] * 3
    assert (seen[1] < seen[0]).all()
    assert planes.Sizes(3, 4).bits == 5  # a sign, whether m + 1 has 2 and 3 digits, and two digits
