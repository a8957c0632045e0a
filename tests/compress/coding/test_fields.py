"""`compress.coding.fields`: by hand, and there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding import fields
from tests.compress import references


def test_numbers_by_hand():
    assert fields.number(0) == b"\0"
    assert fields.number(127) == b"\x7f"
    assert fields.number(624_485) == b"\xe5\x8e\x26"  # Wikipedia's example of LEB128
    # 200 (LEB128), 3 bits each: 000 101 010, filled up
    assert fields.numbers(np.array([200, 205, 202])) == b"\xc8\x01\x03\x15\x00"
    assert fields.numbers(np.array([7, 7])) == b"\x07\x00"


@given(value=st.integers(0, 2**63 - 1), before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_a_number_comes_back(value, before, after):
    data = before + fields.number(value) + after
    number, end = fields.read_number(memoryview(data), len(before))
    assert (number, end) == (value, len(data) - len(after))


@given(
    values=st.lists(st.integers(0, 2**32 - 1) | st.integers(5000, 5100), min_size=1, max_size=20),
    after=st.binary(max_size=3),
)
def test_numbers_come_back(values, after):
    data = b"x" + fields.numbers(np.array(values)) + after
    numbers, end = fields.read_numbers(memoryview(data), 1, len(values))
    assert (numbers.tolist(), end) == (values, len(data) - len(after))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the data end within a number, after 0 bytes"),
        (b"\x80\x80", "the data end within a number, after 2 bytes"),
        (b"\x80\x00", "the number at byte 0 ends in a byte of 0"),
        (b"\xff" * 20, "the number at byte 0 is longer than 9 bytes"),
    ],
)
def test_bad_numbers_are_refused(data, message):
    with pytest.raises(ValueError, match=references.exactly(message)):
        fields.read_number(memoryview(data), 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x05", "the data end within 3 numbers, after 1 bytes"),
        (b"\x05\x03\x00", "the data end within 3 numbers, after 3 bytes"),
        (b"\x05\x21" + bytes(99), "numbers from 5 on of 33 bits: at most 2^32 and 32"),
        (
            fields.number(1 << 32) + bytes(9),
            "numbers from 4294967296 on of 0 bits: at most 2^32 and 32",
        ),
        (b"\x05\x03\x00\x01", "bits after 3 numbers are not 0"),
    ],
)
def test_bad_lists_of_numbers_are_refused(data, message):
    with pytest.raises(ValueError, match=references.exactly(message)):
        fields.read_numbers(memoryview(data), 0, 3)


def test_numbers_that_are_announced_take_no_memory():
    with pytest.raises(ValueError, match="within 4611686018427387904 numbers"):
        fields.read_numbers(memoryview(b"\x05\x20"), 0, 1 << 62)
