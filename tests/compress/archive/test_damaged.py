"""Damaged archives are refused in one line or are harmless, and are never slow or large."""

import copy
import os

import numpy as np
import pytest

import compress
from compress.coding import huffman
from groundwork import trees
from groundwork.errors import UserError
from tests.compress import archives
from tests.compress.references import exactly

MUTATIONS = int(os.environ.get("ARCHIVE_MUTATIONS", "1000"))  # for each of two archives


def _mutated(data, generator):
    """One random change, or a few."""
    data = bytearray(data)
    for _ in range(generator.integers(1, 4)):
        size = max(len(data), 1)
        at, other = (int(place) for place in generator.integers(0, size, 2))
        if generator.random() < 0.5:  # the head is short: half of all changes are there
            at = int(generator.integers(0, min(size, 400)))
        length = int(2 ** generator.uniform(0, 9))
        match generator.integers(0, 9):
            case 0:
                data[at : at + 1] = bytes([(data[at] if data else 0) ^ 1 << generator.integers(8)])
            case 1:
                data[at : at + 1] = generator.bytes(1)
            case 2:
                del data[at:]
            case 3:
                data += generator.bytes(length)
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = generator.bytes(length)
            case 6:
                data[at : at + length] = data[other : other + length]
            case 7:
                data[at : at + length] = bytes(length)
            case 8:  # a huge number, where one may stand
                data[at : at + 1] = archives.number(int(2 ** generator.uniform(7, 62)))
    return bytes(data)


def _places(value):
    """Every container within, and the keys to its values."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _rewritten(data, generator):
    """Another header, or another stream, with all lengths and checksums right."""
    head = archives.head(data)
    header, streams = copy.deepcopy(head.json), list(head.streams)
    values = [0, 1, -1, 2, 3, 16, 255, 2**31, 2**62, 10**400, 1.5, 1e308, True, None, "", "..", []]
    values += ["plain", "palette", "scaled", "float16", "int8", "float64", "resnet_20", {}, [[]]]
    for _ in range(generator.integers(1, 3)):
        places = list(_places(header))
        inside, key = places[generator.integers(len(places))]
        value = values[generator.integers(len(values))]
        match generator.integers(0, 5):
            case 0 | 1:
                inside[key] = value
            case 2:
                other, of = places[generator.integers(len(places))]
                inside[key] = copy.deepcopy(other[of])
            case 3:
                del inside[key]
            case 4:
                place = generator.integers(len(streams))
                symbols = generator.integers(0, 20, generator.integers(0, 9)).repeat(3)
                streams[place] = [
                    huffman.encode(symbols),
                    b"",
                    _mutated(streams[place], generator),
                    streams[generator.integers(len(streams))],
                    archives.number(int(2 ** generator.uniform(0, 62))) + b"\x05\x00",
                ][generator.integers(5)]
    return archives.forged(header, streams)


@pytest.mark.parametrize("whose", ["honest", "formed", "adaptive"])
def test_mutations_are_refused_or_harmless(whose, loaded, request):
    """Half have their checksums made right again; half of those change the header and streams."""
    data, variables = request.getfixturevalue(whose)
    expected = trees.flatten(variables)
    outcomes = {"refused": 0, "loaded": 0, "refused though sealed": 0, "loaded sealed": 0}
    mutations = MUTATIONS // 16 if whose == "adaptive" else MUTATIONS
    first = 64 if whose == "adaptive" else 0  # of few mutations, some that are read
    for number in range(first, first + mutations):
        generator = np.random.default_rng(number)
        sealed = bool(number % 2)
        changed = _rewritten(data, generator) if number % 4 == 3 else _mutated(data, generator)
        if number % 4 == 1:
            try:
                changed = archives.sealed(changed)
            except (IndexError, OverflowError):  # nothing is found to be sealed
                sealed = False
        outcome = loaded(changed)
        if isinstance(outcome, str):
            outcomes["refused though sealed" if sealed else "refused"] += 1
            continue
        outcomes["loaded sealed" if sealed else "loaded"] += 1
        arrays = trees.flatten(outcome)
        for name in arrays.keys() | (set() if sealed else expected.keys()):
            assert np.isfinite(arrays[name]).all()
            if not sealed:
                assert np.asarray(arrays[name]).tobytes() == expected[name].tobytes()
    print(outcomes)
    assert outcomes["refused"] > 0.4 * mutations
    few = mutations < MUTATIONS  # of the slow code, of which hardly one is deep enough to be read
    assert few or outcomes["loaded sealed"] > 0.01 * mutations
    assert outcomes["refused though sealed"] > 0.2 * mutations


def test_every_bit_of_the_head_and_some_of_the_rest(honest, loaded):
    data, _ = honest
    rest = np.random.default_rng(0).integers(0, 8 * len(data), 200)
    for bit in [*range(8 * 60), *rest.tolist()]:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert isinstance(loaded(bytes(changed)), str)


def test_every_length_is_too_short(honest, loaded):
    data, _ = honest
    for length in [*range(0, 500, 7), *range(500, len(data), 97), len(data) - 1]:
        assert isinstance(loaded(data[:length]), str)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"", "it does not begin as an archive does"),
        (lambda d: b"PK" + d[2:], "it does not begin as an archive does"),
        (lambda d: d[:4], "it is cut off; versions up to 2 are known here"),
        (lambda d: d[:4] + b"\x03" + d[5:], "it is of version 3; versions up to 2 are known here"),
        (lambda d: d[:60], "it is damaged: the header is cut off"),
        (lambda d: d[:-1], None),
        (lambda d: d + b"\0", None),
    ],
)
def test_files_that_are_not_whole(change, message, honest, loaded):
    data = change(honest[0])
    if message is None:
        total = sum(map(len, archives.head(honest[0]).streams))
        held = total + len(data) - len(honest[0])
        message = f"it is damaged: {held} bytes of streams, not {total}"
    assert loaded(data) == message


def test_no_file(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        message = f"cannot load {path}: there is no such file"
        with pytest.raises(UserError, match=exactly(message)):
            compress.load(path)
        with pytest.raises(UserError, match=exactly(message.replace("load", "read"))):
            compress.describe(path)
