"""Forged archives, whose checksums are right, are refused in one line, quickly and cheaply."""

import copy
import json
import sys

import numpy as np
import pytest

import compress
from compress.coding import huffman
from groundwork.errors import UserError
from tests.compress import archives


def _edit(name, **changes):
    def edit(header, streams):
        header["arrays"][f"params/{name}"].update(changes)

    return edit


def _rename(old, new):
    def edit(header, streams):
        header["arrays"] = {
            (new if name == f"params/{old}" else name): entry
            for name, entry in header["arrays"].items()
        }

    return edit


def _set(**changes):
    return lambda header, streams: header.update(changes)


def _stream(place, data):
    def edit(header, streams):
        streams[place] = data(streams[place]) if callable(data) else data

    return edit


def _wide(width):
    """All shapes as a network of this width has them."""

    def edit(header, streams):
        header["model"]["width"] = width
        hidden = (round(300 * width), round(100 * width))
        for name, shape in {
            "fc1/bias": hidden[:1],
            "fc1/kernel": (784, hidden[0]),
            "fc2/bias": hidden[1:],
            "fc2/kernel": hidden,
            "output/kernel": (hidden[1], 10),
        }.items():
            header["arrays"][f"params/{name}"]["shape"] = list(shape)

    return edit


BOMB = archives.number(2**62) + b"\x03\x00"
ONE = archives.number(784 * 60) + b"\x03\x00"  # as many as there are
HUGE = 1 << 39
# streams: fc1's codebook, index, weights; fc2's scales, weights; output's codebook, weights; biases
FORGED = {
    "one-symbol bomb": (
        _stream(2, BOMB),
        r"params/fc1/kernel: 4611686018427387904 groups of symbols",
    ),
    "bomb of gaps": (_stream(1, BOMB), "params/fc1/kernel: 4611686018427387904 symbols"),
    "bomb of scaled symbols": (_stream(4, BOMB), "params/fc2/kernel: 4611686018427387904 groups"),
    "bomb of plain numbers": (_stream(7, b"\x03" + BOMB[:3] * 3), "the data"),
    "gaps beyond the array": (_stream(1, ONE), "params/fc1/kernel: the last entry lies"),
    "more gaps than weights": (
        _stream(1, huffman.encode(np.arange(9) % 3)),
        "params/fc1/kernel: ",
    ),
    "huge shape": (_edit("fc1/kernel", shape=[784, HUGE]), f"{784 * HUGE + 1490} entries in"),
    "many axes": (_edit("fc1/kernel", shape=[1] * 33), "params/fc1/kernel: its shape is invalid"),
    "negative shape": (_edit("fc1/kernel", shape=[-784, -60]), "params/fc1/kernel: its shape is"),
    "shape of floats": (_edit("fc1/kernel", shape=[784.0, 60]), "params/fc1/kernel: its shape is"),
    "another shape": (_edit("fc1/kernel", shape=[60, 784]), "not the arrays of LeNet300100: para"),
    "empty and huge": (_edit("fc1/kernel", shape=[0, HUGE, HUGE]), "not the arrays of LeNet30010"),
    "huge width": (_wide(1e6), "30000236600000010 entries in"),
    "twice the width": (_wide(0.4), "90 numbers, not 170"),
    "infinite width": (_set(model={"name": "lenet_5", "width": 1e999, "dtype": "float32"}), "its "),
    "width of 10^300": (
        _set(model={"name": "lenet_300_100", "width": 1e300, "dtype": "float32"}),
        "its network is too wide",
    ),
    "width of text": (_set(model={"name": "lenet_5", "width": "1", "dtype": "float32"}), "its mod"),
    "no such network": (
        _set(model={"name": "lenet_6", "width": 1.0, "dtype": "float32"}),
        "unknown model 'lenet_6'; did you mean 'lenet_5'?",
    ),
    "another network": (
        _set(model={"name": "resnet_20", "width": 1.0, "dtype": "float32"}),
        "ResNet20 cannot take examples of shape (784,): images of",
    ),
    "model that names code": (
        _set(model={"__reduce__": "os.system"}),
        "its model is not a section",
    ),
    "setting of another kind": (
        _set(
            model={
                "name": "efficientnet_lite0_small",
                "width": 1.0,
                "dtype": "float32",
                "kwargs": {"activation": ["relu"]},
            }
        ),
        "its network has a setting of another kind",
    ),
    "depth that takes long": (
        _set(
            model={
                "name": "efficientnet_lite0_small",
                "width": 1.0,
                "dtype": "float32",
                "kwargs": {"depth": 9.0},  # 144 blocks
            }
        ),
        "its network has a setting of another kind, or too large a one",
    ),
    "setting that is unknown": (
        _set(model={"name": "lenet_5", "width": 1.0, "dtype": "float32", "kwargs": {"depth": 2}}),
        "model.kwargs: lenet_5 has no setting 'depth'",
    ),
    "no example, another network": (
        lambda h, s: (_wide(0.2)(h, s), h.pop("example"), h["model"].update(width=0.3)),
        "not the arrays of LeNet300100",
    ),
    "huge classes": (_set(classes=10**9), "its number of classes is invalid"),
    "other classes": (_set(classes=11), "not the arrays of LeNet300100: params/output/bias"),
    "huge example": (_set(example=[2**20] * 8), "not the arrays of LeNet300100: params/fc1/kernel"),
    "example of text": (_set(example="784"), "its example is not a shape"),
    "plan of a list": (_set(plan=[1]), "its plan is invalid"),
    "plan without layer": (_set(plan={"x": {"method": "svd", "rank": 3}}), "unknown layer 'x'"),
    "plan without method": (_set(plan={"fc1": {"method": "eval", "rank": 3}}), "its plan has no"),
    "plan of huge rank": (_set(plan={"fc1": {"method": "svd", "rank": 10**9}}), "layer 'fc1': ran"),
    "plan for whole layers": (
        _set(plan={"fc1": {"method": "svd", "rank": 3}}),
        "not the arrays of",
    ),
    "a key more": (_set(code="import os"), "its header has 'code', which is not known here"),
    "no arrays": (_set(arrays=[]), "its header has no arrays"),
    "no array": (_set(arrays={}), "it has no params"),
    "path of a file": (
        _rename("fc1/bias", "/etc/passwd"),
        "'/etc/passwd' is not the path of an array",
    ),
    "path upwards": (
        _rename("fc1/bias", "params/../../x"),
        "not the arrays of LeNet300100: params/..",
    ),
    "empty name": (_rename("fc1/bias", "params//x"), "'params//x' is not the path of an array"),
    "name of two lines": (
        _rename("fc1/bias", "params/a\nb"),
        r"'params/a\nb' is not the path of an",
    ),
    "deep name": (_rename("fc1/bias", "params" + "/x" * 64), "'params/x/x/x"),
    "array in an array": (_rename("fc1/bias", "params/fc1/kernel/x"), "'params/fc1/kernel/x' lies"),
    "dtype that is none": (_edit("fc1/kernel", dtype="object"), "params/fc1/kernel: its dtype or"),
    "dtype of integers": (_edit("fc1/kernel", dtype="int32"), "not the arrays of LeNet300100: par"),
    "scaled integers": (_edit("fc2/kernel", dtype="int32"), "params/fc2/kernel: int32 is not sca"),
    "held in more bits": (_edit("fc1/bias", held="float64"), "params/fc1/bias: float32 is not he"),
    "no such form": (_edit("fc1/kernel", form="pickle"), "params/fc1/kernel: its dtype or form"),
    "a key in an entry": (_edit("fc1/kernel", eval="1"), "params/fc1/kernel: it is not an entry"),
    "bits of text": (_edit("fc1/kernel", bits="5"), "params/fc1/kernel: bits is a str"),
    "true bits": (_edit("fc1/kernel", bits=True), "params/fc1/kernel: bits is a bool"),
    "many bits": (_edit("fc1/kernel", bits=17), "params/fc1/kernel: bits is not within 0…16"),
    "large groups": (_edit("fc1/kernel", group=16), "params/fc1/kernel: "),
    "huge groups": (_edit("fc1/kernel", group=10**9), "params/fc1/kernel: group is not within"),
    "no levels": (_edit("fc2/kernel", levels=0), "params/fc2/kernel: levels is not within"),
    "few levels": (_edit("fc2/kernel", levels=2), "params/fc2/kernel: "),
    "another axis": (_edit("fc2/kernel", axis=0), "params/fc2/kernel: 20 scales, not 60"),
    "no axis": (_edit("fc2/kernel", axis=-1), "params/fc2/kernel: 20 scales, not 1"),
    "axis beyond": (_edit("fc2/kernel", axis=2), "params/fc2/kernel: axis is not within -1…1"),
    "scale not a number": (
        _stream(3, lambda s: np.float32([np.nan]).tobytes() + s[4:]),
        "params/fc2/kernel: a number is not finite",
    ),
    "infinite codebook": (
        _stream(0, lambda s: np.float32([np.inf]).tobytes() + s[4:]),
        "params/fc1/kernel: a number is not finite",
    ),
    "products not finite": (
        _stream(3, lambda s: np.full(20, 3e38, "f4").tobytes()),
        "params/fc2/kernel: its numbers are not finite",
    ),
    "part of a scale": (
        _stream(3, lambda s: s[:-1]),
        "params/fc2/kernel: 79 bytes are not float32",
    ),
    "empty codebook": (_stream(0, b""), "params/fc1/kernel: symbol"),
    "empty weights": (_stream(2, b""), "params/fc1/kernel: the data end within a number"),
    "no weights": (_stream(2, b"\x00"), "params/fc1/kernel: 0 groups of symbols"),
    "symbols beyond": (_stream(0, lambda s: s[:8]), "params/fc1/kernel: symbol"),
    "too many streams": (lambda h, s: s.append(b""), "it has 9 streams: too many"),
    "too few streams": (lambda h, s: s.pop(), "it has 7 streams: too few"),
    "plain of more": (_edit("fc1/bias", shape=[61]), "not the arrays of LeNet300100: params/fc1/"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_archives_are_refused(name, honest, loaded):
    edit, message = FORGED[name]
    head = archives.head(honest[0])
    header, streams = copy.deepcopy(head.json), list(head.streams)
    edit(header, streams)
    outcome = loaded(archives.forged(header, streams))
    assert isinstance(outcome, str)
    assert outcome.startswith(message)


# streams: fc1's codebook and weights; fc2's scales and weights; …
ADAPTIVE = {
    "of version 1": (None, "params/fc1/kernel: version 1 has no adaptive coding"),
    "cut off": (
        _stream(1, lambda s: s[:-8]),
        "params/fc1/kernel: the data end before the last sym",
    ),
    "too long": (_stream(1, lambda s: s + bytes(2)), "params/fc1/kernel: the data do not end with"),
    "empty": (_stream(1, b""), "params/fc1/kernel: the data end within a number"),
    "no lanes": (_stream(1, b"\0" * 9), "params/fc1/kernel: 0 lanes are not within"),
    "many lanes": (
        _stream(1, archives.number(2**60) + b"\1\0\0"),
        "params/fc1/kernel: 1152921504606846976 lanes",
    ),
    "another shape": (
        _edit("fc1/kernel", shape=[100, 300]),
        "not the arrays of LeNet300100: params/fc1/kernel",
    ),
    "gaps of 5 bits": (_edit("fc1/kernel", bits=5), "params/fc1/kernel: bits is not within 0…1"),
    "no zero": (_edit("fc1/kernel", bits=0), "params/fc1/kernel: "),
    "no codebook": (_stream(0, b""), "params/fc1/kernel: "),
    "plain and adaptive": (_edit("fc1/bias", group=0), "params/fc1/bias: group is not within 1…1"),
}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_forged_adaptive_codes_are_refused(name, adaptive, loaded):
    edit, message = ADAPTIVE[name]
    head = archives.head(adaptive[0])
    header, streams = copy.deepcopy(head.json), list(head.streams)
    if edit is not None:
        edit(header, streams)
    outcome = loaded(archives.forged(header, streams, version=2 - (edit is None)))
    assert isinstance(outcome, str)
    assert outcome.startswith(message)


def test_many_short_adaptive_codes_are_refused_which_would_take_long(adaptive, loaded):
    header = copy.deepcopy(archives.head(adaptive[0]).json)
    entry = {"shape": [4000], "form": "palette", "group": 0}
    header["arrays"] = {f"params/a{i}": entry for i in range(200)}
    data = archives.forged(header, [b"", b"\1\1\0\0" + bytes(3)] * 200)
    most = 64 + len(data) // 256
    assert loaded(data).startswith(f"200 adaptive codes in {len(data)} bytes: at most {most}")


@pytest.mark.parametrize("place", [1, 2, 4])
def test_bombs_are_not_described(place, honest, tmp_path):
    head = archives.head(honest[0])
    streams = list(head.streams)
    streams[place] = BOMB
    (tmp_path / "a").write_bytes(archives.forged(head.json, streams))
    with pytest.raises(UserError, match=r"^cannot read .*: 4611686018427387904 symbols are decl"):
        compress.describe(tmp_path / "a")


def _headers(header):
    text = json.dumps(header)
    numbers = np.random.default_rng(0).integers(1e6, size=20_000)
    deep = "".join(f'["{number}",' for number in numbers)
    yield "deep", deep.encode(), "its header is not readable: "
    yield (
        "deep in place",
        text.replace("{", '{"x":' + deep, 1).encode(),
        "its header is not",
    )
    yield "no object", b"[]", "its header is not readable: no JSON object"
    yield "no text", b"\xff\xfe{}", "its header is not readable: "
    yield "two", text.encode() + b"{}", "its header is not readable: Extra data"
    yield (
        "name twice",
        text.replace('{"model"', '{"arrays": {}, "model"', 1).encode(),
        ("its header is not readable: a name occurs twice"),
    )
    yield (
        "no number",
        text.replace("0.2", "NaN", 1).encode(),
        ("its header is not readable: NaN is not a JSON number"),
    )
    yield "long number", text.replace("784", "9" * 5000, 1).encode(), "its header is not readable: "
    yield (
        "bomb",
        b'{"arrays":' + b" " * 3_000_000 + b"{}}",
        "a header of 3000013 bytes is not within",
    )


def test_forged_headers_are_refused(honest, loaded):
    head = archives.head(honest[0])
    for name, text, message in _headers(head.json):
        outcome = loaded(archives.forged(text, head.streams))
        assert isinstance(outcome, str), name
        assert outcome.startswith(message), name
    for size in (0, 1, 5, 1 << 19, 1 << 62):
        outcome = loaded(archives.forged(head.json, head.streams, size))
        assert outcome.startswith((f"a header of {size} bytes", "its header is not readable"))


def test_a_header_imports_and_calls_nothing(honest, loaded, tmp_path, monkeypatch):
    """`model.name` of a config may be `package.module:function`; that of a file may not."""
    (tmp_path / "lurking_module.py").write_text(
        "def build():\n    raise AssertionError('called')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    head = archives.head(honest[0])
    header = copy.deepcopy(head.json)
    header["model"]["name"] = "lurking_module:build"
    outcome = loaded(archives.forged(header, head.streams))
    assert outcome == "its model names code: give the module, load(path, model)"
    assert "lurking_module" not in sys.modules
