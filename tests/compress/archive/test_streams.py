"""Arrays as streams and plain numbers: they come back bit for bit, by the smallest coding."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import compress
from compress import quantize
from compress.archive import entries, plain, reading, streams
from tests.compress import archives
from tests.compress.references import exactly

FLOATS = ("float16", "bfloat16", "float32", "float64")


def _back(coded):
    """What the coding gives, by way of the header's JSON."""
    entry = entries.from_json(coded.entry.to_json())
    assert entry == coded.entry
    joined = plain.unpack(plain.pack(coded.numbers), coded.numbers.size, entry.stored)
    assert streams.plain_count(entry, coded.streams) == joined.size
    return streams.decode(entry, coded.streams, joined)


def _same(decoded, array):
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    assert decoded.tobytes() == array.tobytes()


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


@pytest.mark.parametrize("dtype", entries.DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (5, 7), (2, 3, 2, 5)])
def test_plain_arrays_of_every_dtype(dtype, shape):
    array = (_normal(*shape) * 50).astype(jnp.dtype(dtype))
    _same(_back(streams.encode(array, array)), array)


@given(
    array=arrays.arrays(
        "f4",
        arrays.array_shapes(max_dims=4, max_side=6, min_side=0),
        elements=st.sampled_from([0.0, -0.0, 1e-45, 0.1, 0.5, -3e38, 1.5])
        | st.floats(allow_nan=False, allow_infinity=False, width=32),
    )
)
def test_any_floats(array):
    _same(_back(streams.encode(array, array)), array)


FORMS = {
    "clusters": lambda w: archives.shared(w, 3),
    "masked": lambda w: archives.shared(w, 3, np.abs(w) > 1.5),
    "all pruned": lambda w: archives.shared(w, 3, np.zeros(w.shape, bool)),
    "one kept": lambda w: archives.shared(w, 3, np.abs(w) == np.abs(w).max()),
    "16 bits": lambda w: archives.shared(w, 16),
    "symmetric": lambda w: quantize.uniform(w, 4),
    "affine": lambda w: quantize.uniform(w + 3, 8, symmetric=False),
    "affine by channel": lambda w: quantize.uniform(w + 3, 8, symmetric=False, axis=0),
    "16-bit affine": lambda w: quantize.uniform(w, 16, symmetric=False, axis=1),
    "pruned by channel": lambda w: quantize.uniform(np.where(w > 1.5, w, 0), 4, axis=-1),
    "ternary": quantize.ternary,
    "binary": quantize.binary,
    "binary by channel": lambda w: quantize.binary(w, scaled=True, axis=1),
}


def test_symbols_of_8_bits_where_that_of_zero_needs_16():
    values = np.where(np.arange(1200) % 10 == 3, np.arange(1200) % 200 - 300, 0)
    stored = quantize.Uniform(jnp.int16(values.reshape(30, 40)), jnp.float32(0.1), jnp.int16(0))
    coded = streams.encode(stored, np.asarray(quantize.materialize(stored)))
    assert (coded.entry.form, coded.entry.lowest) == ("scaled", -297)
    assert coded.entry.bits > 0
    _same(_back(coded), np.asarray(quantize.materialize(stored)))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("shape", [(30, 40), (3, 3, 8, 10)])
def test_every_stored_form(name, shape):
    stored = FORMS[name](_normal(*shape))
    array = np.asarray(quantize.materialize(stored))
    _same(_back(streams.encode(stored, array)), array)


def test_forms_after_fine_tuning():
    """Pruned weights stay zero whatever the codebook says; scales of any sign and size."""
    weights = _normal(30, 40)
    clusters = archives.shared(weights, 3, np.abs(weights) > 1)
    ternary, binary = quantize.ternary(weights), quantize.binary(weights, scaled=True, axis=1)
    uniform = quantize.uniform(weights, 4, axis=1)
    signed = jnp.float32(np.resize([-0.5, 1e-41, 1e-30, 0, 0.25], (1, 40)))
    for stored in (
        clusters._replace(codebook=clusters.codebook + 1),
        ternary._replace(positive=jnp.float32(-0.5), negative=jnp.float32(0)),
        binary._replace(scale=signed),
        uniform._replace(scale=signed),
        uniform._replace(scale=jnp.float32(2)),
    ):
        array = np.asarray(quantize.materialize(stored))
        _same(_back(streams.encode(stored, array)), array)


class TestTheSmallestCoding:
    def _cost(self, stored):
        array = np.asarray(quantize.materialize(stored))
        return streams.encode(stored, array)

    def test_of_few_weights_names_their_places(self):
        weights = _normal(100, 100)
        coded = self._cost(archives.shared(weights, 4, np.abs(weights) > 2))  # 4.6 %
        assert coded.entry.form == "palette"
        assert coded.entry.bits > 0
        assert coded.cost < 10_000 * (0.046 * 3.9 + 0.27) / 8 + 150  # entropies of both

    def test_of_many_weights_does_not(self):
        weights = _normal(100, 100)
        coded = self._cost(archives.shared(weights, 2))
        assert coded.entry.bits == 0
        assert coded.cost < 10_000 * 2 / 8 + 50

    def test_of_scales_by_channel(self):
        coded = self._cost(quantize.uniform(_normal(100, 100), 4, axis=1))
        assert (coded.entry.form, coded.entry.axis, coded.entry.bits) == ("scaled", 1, 0)
        assert coded.cost < 10_000 * 4 / 8 + 500

    def test_of_skewed_symbols_takes_less_than_a_bit_each(self):
        """20 % of one and 80 % of the other have an entropy of 0.72 bits."""
        signs = np.where(np.random.default_rng(0).random((200, 200)) < 0.2, -1, 1)
        coded = self._cost(quantize.Binary(jnp.int8(signs), jnp.float32(0.5)))
        assert coded.entry.adaptive
        assert 0.72 * 40_000 / 8 < coded.cost < 0.735 * 40_000 / 8

    def test_of_many_short_arrays_is_not_adaptive(self, tmp_path, monkeypatch):
        """A decoder would take long for more of them than this."""
        monkeypatch.setattr(reading, "SPARE_ADAPTIVE", 2)
        signs = np.where(np.arange(3600).reshape(60, 60) % 60 < 9, np.float32(1), np.float32(-1))
        arrays = {f"a{i}": signs for i in range(4)}
        compress.save(tmp_path / "a", lambda variables, x: x, {"params": arrays})
        found = reading.parse((tmp_path / "a").read_bytes()).arrays.values()
        assert [entry.adaptive for entry in found] == [True, True, False, False]

    def test_of_floats_that_fit_in_half(self):
        coded = self._cost(_normal(50).astype("f2").astype("f4"))
        assert (coded.entry.held, coded.numbers.nbytes) == ("float16", 100)
        assert streams.encode(x := np.float32([2.0**100, 3]), x).entry.held == "bfloat16"

    def test_of_pruned_floats(self):
        weights = np.where((weights := _normal(100, 100)) > 2, weights, np.float32(0))
        coded = self._cost(weights)
        assert coded.entry.form == "plain"
        assert coded.cost < 1500


def test_plain_numbers_by_hand():
    values = np.float32([1, -2, 1, 0.5])  # 3f800000 c0000000 3f800000 3f000000
    assert plain.pack(values) == (
        b"\x04\x3f\xc0\x3f\x3f"  # signs and exponents, as they are: a code would take 5 bytes
        b"\x04\x80\x00\x80\x00" + 2 * b"\x03\x04\x00\x00"  # four zeros: symbol 0 alone
    )
    assert plain.to_bytes(np.uint16([1, 258])) == b"\x01\x00\x02\x01"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the data end within a number, after 0 bytes"),
        (b"\x02\x00", "the data end within 2 numbers"),
        (b"\x03\x00\x00\x00", "the data end within 2 numbers"),
        (b"\x02\x00\x00\x01\x00", "0 numbers, not 2"),
        (b"\x02\x7c\x00\x02\x00\x00", "a number is not finite"),
        (b"\x02\x00\x00\x02\x00\x00\x00", "the data should end with byte 6, not 7"),
    ],
)
def test_plain_numbers_that_are_none_are_refused(data, message):
    with pytest.raises(ValueError, match=exactly(message)):
        plain.unpack(data, 2, "float16")


def test_a_bool_is_one_of_two():
    with pytest.raises(ValueError, match=exactly("a bool is neither 0 nor 1")):
        plain.read(b"\x02", "bool")
