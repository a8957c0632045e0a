"""Files of safetensors: as the package of that name has them, or refused in one line."""

import json
import os
import struct
import tracemalloc

import hypothesis
import hypothesis.extra.numpy as drawn_arrays
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors import numpy as peer

from groundwork.numerics import safetensors
from tests.fuzz import mutations
from tests.fuzz.cases import generators

MIB = 1 << 20
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=20)
SHAPES = drawn_arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = st.tuples(st.sampled_from(list(safetensors.DTYPES.values())), SHAPES, st.integers(0, 999))
GOOD = {
    "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
    "b": {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]},
    "__metadata__": {"format": "pt"},
}


def filled(dtype, shape, seed):
    """An array of any bits, NaNs of all kinds among them."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(rng.bytes(size), np.uint8).view(dtype).reshape(shape)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@hypothesis.settings(max_examples=40, deadline=None, database=None, derandomize=True)
@hypothesis.given(st.dictionaries(NAMES, ARRAYS, max_size=5))
def test_bits_are_those_of_the_package_both_ways(tmp_path_factory, drawn):
    path = tmp_path_factory.getbasetemp() / "a.safetensors"
    arrays = {name: filled(*one) for name, one in drawn.items()}
    safetensors.write(path, arrays)
    assert_same(peer.load_file(path), arrays)
    assert_same(safetensors.read(path), arrays)
    peer.save_file(arrays, path, metadata={"format": "pt"})
    assert_same(safetensors.read(path), arrays)


def test_any_order_of_memory_and_of_bytes_is_written(tmp_path):
    path, columns = tmp_path / "a.safetensors", np.asfortranarray(np.arange(6.0).reshape(2, 3))
    safetensors.write(path, {"columns": columns, "big": np.arange(5).astype(">i4")})
    found = peer.load_file(path)
    np.testing.assert_array_equal(found["columns"], columns)
    np.testing.assert_array_equal(found["big"], np.arange(5, dtype=np.int32))
    assert path.stat().st_size % 4 == 0


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("x", np.zeros(1, complex), "x is of complex128, which a file of safetensors has not"),
        ("x", np.array(["a"]), "x is of <U1"),
        ("", np.zeros(1), "one of its arrays has the name ''"),
        ("x\ny", np.zeros(1), r"one of its arrays has the name 'x\\ny'"),
        ("__metadata__", np.zeros(1), "one of its arrays has the name '__metadata__'"),
    ],
)
def test_what_no_file_can_have_is_not_written(tmp_path, name, array, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        safetensors.write(tmp_path / "a", {name: array})
    assert not list(tmp_path.iterdir())


def file_of(path, header, data=bytes(11), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def refused(path):
    with pytest.raises(ValueError, match=r".") as caught:
        safetensors.read(path)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 400
    return said


def edited(name="a", **changes):
    return {**GOOD, name: {**GOOD[name], **changes}}


FORGED = {
    "gap": (edited("b", data_offsets=[9, 12]), "it is damaged: b leaves a gap to what is before"),
    "gap at the start": (
        {"a": {**GOOD["a"], "data_offsets": [3, 11]}},
        "it is damaged: a leaves a gap",
    ),
    "overlap": (edited("b", data_offsets=[7, 10]), "it is damaged: b overlaps the array before it"),
    "same place": ({**GOOD, "c": GOOD["b"]}, "it is damaged: c overlaps"),
    "too short": ({"a": GOOD["a"]}, "it is cut off, or damaged: its arrays need 8 bytes, and it"),
    "too long": (edited("b", shape=[4], data_offsets=[8, 12]), "it is cut off, or damaged: its a"),
    "backwards": (edited(data_offsets=[8, 0]), "a is damaged: its shape and type need 8 bytes"),
    "negative": (edited(data_offsets=[-8, 0]), "a has data_offsets that are none"),
    "one offset": (edited(data_offsets=[8]), "a has data_offsets that are none"),
    "offsets of text": (edited(data_offsets=["0", "8"]), "a has data_offsets that are none"),
    "offsets of floats": (edited(data_offsets=[0.0, 8.0]), "a has data_offsets that are none"),
    "huge offsets": (edited(data_offsets=[0, 10**30]), "a has data_offsets that are none"),
    "another shape": (edited(shape=[3, 1]), "a is damaged: its shape and type need 12 bytes"),
    "smaller shape": (edited(shape=[1, 1]), "a is damaged: its shape and type need 4 bytes"),
    "negative shape": (edited(shape=[-2, -1]), "a has a shape that is none"),
    "true shape": (edited(shape=[2, True]), "a has a shape that is none"),
    "shape of text": (edited(shape="2"), "a has a shape that is none"),
    "many axes": (edited(shape=[2] + [1] * 40), "a has a shape that is none"),
    "huge shape": (edited(shape=[2**62, 2**62]), "a has a shape that no memory holds"),
    "empty and huge": (edited(shape=[0, 2**62]), "a has a shape that no memory holds"),
    "another type": (edited(dtype="F64"), "a is damaged: its shape and type need 16 bytes"),
    "unknown type": (edited(dtype="F8_E4M3"), "a has the type 'F8_E4M3', which is not read here"),
    "type of a list": (edited(dtype=["F32"]), "a has the type"),
    "a key more": (edited(code="1"), "a has not just a dtype, a shape and data_offsets"),
    "no entry": ({**GOOD, "a": 5}, "a has not just a dtype"),
    "metadata of numbers": ({**GOOD, "__metadata__": {"x": 1}}, "its __metadata__ is no table of"),
    "metadata of text": ({**GOOD, "__metadata__": "x"}, "its __metadata__ is no table"),
    "name of two lines": ({"a\nb": GOOD["a"]}, r"one of its arrays has the name 'a\nb'"),
    "long name": ({"a" * 501: GOOD["a"]}, "one of its arrays has the name 'aaa"),
    "name twice": (
        json.dumps(GOOD).replace('"b"', '"a"').encode(),
        "its header is not readable: a name occurs twice",
    ),
    "key twice": (
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}',
        "its header is not readable: a name occurs twice",
    ),
    "NaN": (b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', "its header is not read"),
    "long number": (b'{"a":' + b"9" * 5000 + b"}", "its header is not readable: "),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "its header is nested too deeply"),
    "no UTF-8": (b'{"\xff\xfe":1}', "its header is not readable: "),
    "half a letter": (b'{"\\ud800":' + json.dumps(GOOD["a"]).encode() + b"}", "one of its arrays"),
    "two objects": (b"{}{}", "its header is not readable: Extra data"),
    "list": (b"[]", "it is no file of safetensors: its header is no JSON object"),
    "nothing": (b"", "it is no file of safetensors: its header is no JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_headers_are_refused(tmp_path, name):
    header, said = FORGED[name]
    assert refused(file_of(tmp_path / "a", header)).startswith(said)


def test_truth_is_0_or_1(tmp_path):
    header = {"t": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}
    np.testing.assert_array_equal(
        safetensors.read(file_of(tmp_path / "a", header, b"\1\0"))["t"], [True, False]
    )
    assert "neither 0 nor 1" in refused(file_of(tmp_path / "a", header, b"\1\2"))


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path):
    whole = file_of(tmp_path / "a", GOOD).read_bytes()
    assert safetensors.read(tmp_path / "a")["b"].tolist() == [0, 0, 0]
    for length in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:length])
        assert "cut off" in refused(tmp_path / "a")
    (tmp_path / "a").write_bytes(whole + b"x")
    assert "need 11 bytes, and it has 12" in refused(tmp_path / "a")


def test_headers_longer_than_files_or_than_any_use_are_refused_by_their_number(tmp_path):
    tracemalloc.start()
    try:
        for length in (500, 2**31, 2**63, 2**64 - 1):
            said = refused(file_of(tmp_path / "a", GOOD, length=length))
            assert f"its header would have {length} bytes" in said
        long = b'{"a":' + b" " * safetensors.LONGEST + b"{}}"
        (tmp_path / "a").write_bytes(struct.pack("<Q", len(long)) + long)
        tracemalloc.reset_peak()
        assert "at most 1048576 are read" in refused(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == refused(tmp_path) == "it is no file"
    assert refused(tmp_path / "none") == "it cannot be opened: No such file or directory"


def test_the_caller_sees_the_headers_before_an_array_is_read(tmp_path):
    safetensors.write(tmp_path / "a", {"x": np.zeros(8 * MIB, np.uint8)})

    def check(headers):
        assert (headers["x"].shape, headers["x"].dtype) == ((8 * MIB,), np.uint8)
        raise RuntimeError("as it likes")

    tracemalloc.start()
    try:
        with pytest.raises(RuntimeError, match="as it likes"):
            safetensors.read(tmp_path / "a", check)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_changed_file_is_read_as_the_package_reads_it_or_refused(tmp_path):
    path = tmp_path / "a"
    arrays = {"x": np.arange(6, dtype=np.float32), "bf": np.asarray(jnp.ones(3, jnp.bfloat16))}
    safetensors.write(path, arrays)
    content, outcomes = path.read_bytes(), []
    for rng in generators(300):
        path.write_bytes(mutations.changed(content, rng))
        try:
            found = safetensors.read(path)
        except ValueError as error:
            outcomes.append(str(error))
        else:
            assert_same(found, peer.load_file(path))
            outcomes.append("")
    assert all(said.isprintable() for said in outcomes)
    assert 0 < outcomes.count("") < 150
