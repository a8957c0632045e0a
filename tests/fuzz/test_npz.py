"""Damaged and forged .npz files: the arrays that were written, or one line; and little memory."""

import io
import re
import tracemalloc
import warnings
import zipfile

import jax
import numpy as np
import pytest

from groundwork import trees
from groundwork.data import own
from groundwork.runs import trained
from tests.fuzz import mutations
from tests.fuzz.cases import generators

RNG = np.random.default_rng(0)
ZIP = (b"PK\1\2", b"PK\3\4", b"PK\5\6")
HOSTILE = [  # pieces of a header → what may stand there
    (
        rb"'<[fi][48]'",
        [b"'>f8'", b"'|O'", b"'<f16'", b"'<U9'", b"'<f3'", b"[('a', '<f8')]", b"'<i4'"],
    ),
    (
        rb"\(\d.*?\)",
        [b"(1099511627776,)", b"(-3,)", b"(0, 99999999999)", b"(3", b"(2, 3, 2)", b"()"],
    ),
    (rb"False|True", [b"True", b"False", b"1", b"None"]),
    (rb"'shape'", [b"'descr'", b"'shap'", b"shape"]),
    (rb"\{", [b"{{", b"", b"(" * 300, b"{'x': 0, ", b"0if 1else {"]),
]
NETWORK = {
    "params/fc/kernel": RNG.normal(size=(4, 3)).astype(np.float32),
    "params/fc/bias": np.asfortranarray(RNG.normal(size=(2, 3))),
    "params/out/kernel": RNG.normal(size=()).astype(">f8"),
    "batch_stats/mean": np.zeros((0, 3), np.float16),
}
DATA = {
    "x_train": RNG.integers(0, 256, (6, 2, 2), np.uint8),
    "y_train": np.arange(6) % 3,
    "x_test": RNG.integers(0, 256, (2, 2, 2), np.uint8),
    "y_test": np.arange(2),
}


def read_network(path):
    return trees.flatten(trained.load(path, ""))


def read_expected_network(path):
    """As a run reads it, which knows the shapes."""
    tree: dict = {}
    for name, array in NETWORK.items():
        *parents, last = name.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = jax.ShapeDtypeStruct(array.shape, np.float32)
    return trees.flatten(trained.load(path, "", tree))


def read_data(path):
    given = own.read_npz("mine", str(path), {}, 0)
    pairs = {"train": given.train, "test": given.test}
    return {f"{x}_{split}": pair[at] for split, pair in pairs.items() for at, x in enumerate("xy")}


READERS = ((read_network, NETWORK), (read_expected_network, NETWORK), (read_data, DATA))


def forged(content, rng):
    """An archive whose checksums are right, and one of whose arrays is not as NumPy writes it."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        chosen = rng.integers(len(old.namelist()))
        for number, name in enumerate(old.namelist()):
            member = old.read(name)
            if number == chosen:
                pattern, pieces = HOSTILE[rng.integers(len(HOSTILE))]
                piece = pieces[rng.integers(len(pieces))]
                member = re.sub(pattern, piece, member, count=1)
                if rng.random() < 0.3:
                    member = mutations.changed(member, rng)
            new.writestr(name, member, int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])))
    return made.getvalue()


def by_numpy(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def test_a_changed_file_is_read_as_it_was_or_refused_in_one_line(tmp_path):
    path, read_as_they_were = tmp_path / "a.npz", 0
    tracemalloc.start()
    try:
        for case, rng in enumerate(generators(360)):
            read, arrays = READERS[case % 3]
            honest = io.BytesIO()
            (np.savez, np.savez_compressed)[case // 3 % 2](honest, **arrays)
            kind, content = case // 6 % 3, honest.getvalue()
            if kind == 0:
                content = mutations.changed(content, rng)
            elif kind == 1:
                content = mutations.field(content, rng, ZIP, 42)
            else:
                content = forged(content, rng)
            path.write_bytes(content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            found = mutations.read_or_refused(read, path)
            if found is not None:
                wanted = by_numpy(path) if kind == 2 else arrays
                mutations.assert_equal(found, {name: wanted[name] for name in arrays})
                read_as_they_were += 1
            assert tracemalloc.get_traced_memory()[1] - before < 2 * len(content) + 2**20, case
    finally:
        tracemalloc.stop()
    assert read_as_they_were


@pytest.mark.parametrize(("read", "arrays"), READERS)
def test_an_honest_file_is_read(tmp_path, read, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    mutations.assert_equal(read(tmp_path / "a.npz"), arrays)
