"""Files of arrays: read exactly, or refused by what they declare, before memory is given."""

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from groundwork.numerics import npz

ARRAYS = {
    "floats": np.arange(12.0).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big-endian": np.arange(5).astype(">i4"),
    "a number": np.float16(1.5),
    "nothing": np.zeros((0, 5), np.uint8),
    "truth": np.array([[True], [False]]),
}
MIB = 1 << 20


def npy(array):
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asanyarray(array))
    return content.getvalue()


def header(**changes):
    """An array of three floats, whose header says something else."""
    fields = {"descr": "<f4", "fortran_order": False, "shape": (3,), **changes}
    text = (str(fields) + "\n").encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(12)


def archive(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def refused(path, **options):
    with pytest.raises(ValueError, match=r".") as caught:
        npz.read(path, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_back_exactly_in_the_machines_order_of_bytes(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = npz.read(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype.isnative
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array, strict=False)
    assert npz.read(tmp_path / "a.npz", ("truth", "not there")).keys() == {"truth"}


def test_one_array_of_a_file_is_read_back(tmp_path):
    for array in ARRAYS.values():
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(npz.read_one(tmp_path / "a.npy"), array)


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr':'<f4','fortran_order':False,'shape':(3,)}",
        b'{"shape": (3L,), "fortran_order": False, "descr": "<f4",}   ',
    ],
)
def test_headers_of_other_writers_are_read(tmp_path, text):
    content = (
        b"\x93NUMPY\2\0" + struct.pack("<I", len(text)) + text + npy(np.float32([1, 2, 3]))[-12:]
    )
    found = npz.read(archive(tmp_path / "a.npz", [("x.npy", content)]))
    np.testing.assert_array_equal(found["x"], [1, 2, 3])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no array", "x is no array"),
        (b"", "x is cut off"),
        (npy(np.ones(3)) + b"x", "x is damaged: it has 153 bytes, and its header says 152"),
        (npy(np.ones(3))[:-1], "x is damaged: it has 151 bytes"),
        (header(shape=(2**40,)), "x is damaged: .* its header says 4398046511"),
        (header(shape=(0, 2**60)), "x has the shape .*, which no memory holds"),
        (header(shape=(0, 10**30)), "x has a shape that is none"),
        (header(shape=(-3,)), r"x has a shape that is none: \(-3"),
        (header(shape=(3,) + (1,) * 40), "x has a shape that is none"),
        (header(shape=3), "x has a damaged header"),
        (header(fortran_order=0), "x has a damaged header"),
        (header(more=1), "x has a damaged header"),
        (header(descr="<f3"), "it is damaged"),
        (header(descr="|O"), r"x holds no numbers, but objects or records \('\|O'\)"),
        (header(descr=[("a", "<f4")]), "x holds no numbers, but objects or records"),
        (npy(np.ones(2, complex)), "x holds no numbers"),
        (npy(np.array(["a"])), "x holds no numbers"),
        (npy(np.array([True]))[:-1] + b"\2", "x has truth values that are neither 0 nor 1"),
        (b"\x93NUMPY\1\0\xff\xff" + bytes(70_000), "x has a header of 65535 bytes"),
    ],
)
def test_members_that_are_no_arrays_of_numbers_are_refused(tmp_path, content, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        npz.read(archive(tmp_path / "a.npz", [("x.npy", content)]))
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"^it (is|has|holds) "):
        npz.read_one(tmp_path / "x.npy")


def test_what_is_wrong_with_an_archive_is_said(tmp_path):
    path, good = tmp_path / "a.npz", npy(np.ones(3))
    for method, number in ((zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)):
        said = refused(archive(path, [("x.npy", good)], method))
        assert f"x is packed by method {number}" in said
    assert refused(archive(path, [("x.npy", good), ("x", good)])) == "it has x twice"
    assert "has the name 'x\\ny'" in refused(archive(path, [("x\ny.npy", good)]))
    content = archive(path, [("x.npy", good), ("y.npy", good)]).read_bytes()
    directory = content.index(b"PK\1\2")
    for at, value, said in [
        (directory + 8, b"\1", "x is encrypted"),
        (directory + 32, b"\x33", "it is damaged: it has 1 members, and its end says 2"),
        (60, b"\x07", "it is damaged"),
        (len(content) - 22, b"Q", "it is damaged, or no archive of arrays"),
    ]:
        path.write_bytes(content[:at] + value + content[at + 1 :])
        assert said in refused(path)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == refused(tmp_path) == "it is no file"
    assert refused(tmp_path / "none") == "it cannot be opened: No such file or directory"


def peak(function):
    """The most memory that a call takes, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_files_that_inflate_beyond_all_data_are_refused_by_what_they_claim(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(40 * MIB, np.uint8))
    assert path.stat().st_size < MIB
    assert peak(lambda: refused(path)) < MIB
    assert "claim to hold 41943168: write the file with numpy.savez" in refused(path)


def test_files_that_lie_about_their_size_inflate_no_further_than_they_say(tmp_path):
    path = tmp_path / "a.npz"
    claimed = header()
    archive(path, [("x.npy", claimed + bytes(40 * MIB))], zipfile.ZIP_DEFLATED)
    content, sizes = path.read_bytes(), struct.pack("<I", len(claimed) + 40 * MIB)
    path.write_bytes(content.replace(sizes, struct.pack("<I", len(claimed))))
    assert peak(lambda: refused(path)) < MIB
    assert "it is damaged" in refused(path)


def test_the_caller_sees_the_headers_before_an_array_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(8 * MIB, np.uint8))

    def check(headers):
        assert headers["x"].shape == (8 * MIB,)
        raise RuntimeError("as it likes")

    def read():
        with pytest.raises(RuntimeError, match="as it likes"):
            npz.read(tmp_path / "a.npz", check=check)

    assert peak(read) < MIB


def test_reading_takes_the_memory_of_the_arrays(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(MIB), y=np.zeros(MIB, ">f8"))
    assert peak(lambda: npz.read(tmp_path / "a.npz")) < 17 * MIB


def test_a_directory_of_nothing_but_members_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    entry = b"PK\1\2" + bytes(24) + b"\1" + bytes(17) + b"x"
    count = npz.DIRECTORY // len(entry) + 1
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0, 0, count * len(entry), 0, 0)
    path.write_bytes(entry * count + end)
    assert refused(path) == "its directory of members is too long"
