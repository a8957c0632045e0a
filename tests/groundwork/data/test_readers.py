"""Digits, MNIST-1D and prepared sets of TFDS: what they are, and what is refused."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.machinery import PathFinder

import numpy as np
import pytest

from groundwork.data import readers
from groundwork.errors import UserError
from tests.conftest import ROOT
from tests.groundwork.data.reading import refused

TFDS = ROOT / "tests/fixtures/tfds"


# digits


def _digits():
    from sklearn.datasets import load_digits  # seconds, which other workers need not spend

    return load_digits()


def test_digits_are_scikit_learns():
    (train, train_labels), (test, test_labels), classes = readers.read_digits("digits", "")
    digits = _digits()
    assert classes == 10
    assert (train.shape, test.shape) == ((1500, 8, 8, 1), (297, 8, 8, 1))
    assert train.dtype == np.uint8
    images = np.concatenate([train, test])[..., 0]
    assert images.max() == 255
    # grey 0..16 became 0..255: nearest byte, and nothing is lost on the way
    np.testing.assert_allclose(images, digits.images / 16 * 255, rtol=0, atol=0.5)
    np.testing.assert_array_equal(np.round(images / 255 * 16), digits.images)
    np.testing.assert_array_equal(np.concatenate([train_labels, test_labels]), digits.target)


@pytest.mark.parametrize("source", ["digits", "mnist1d"])
def test_a_source_of_one_data_set_knows_no_other(source):
    with pytest.raises(UserError, match=f"'{source}s'.*did you mean '{source}'"):
        readers.SOURCES[source](source + "s", "")


# mnist1d


@pytest.fixture(scope="module")
def mnist1d():
    """What we read, what the package makes, and numpy's global state before and after."""
    from mnist1d.data import get_dataset_args, make_dataset

    at_first = np.random.get_state()
    np.random.seed(7)
    before = np.random.get_state()
    read = readers.read_mnist1d("mnist1d", "")
    after = np.random.get_state()
    made = make_dataset(get_dataset_args())
    np.random.set_state(at_first)
    return read, made, before, after


def test_mnist1d_is_what_its_package_makes(mnist1d):
    ((train, train_labels), (test, test_labels), classes), made, *_ = mnist1d
    assert classes == 10
    assert (train.shape, test.shape) == ((4000, 40), (1000, 40))
    assert train.dtype == test.dtype == np.float32
    np.testing.assert_array_equal(train, made["x"].astype(np.float32))
    np.testing.assert_array_equal(test, made["x_test"].astype(np.float32))
    np.testing.assert_array_equal(train_labels, made["y"])
    np.testing.assert_array_equal(test_labels, made["y_test"])


def test_mnist1d_leaves_numpys_global_random_state_as_it_was(mnist1d):
    _, _, before, after = mnist1d
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


# tfds


@pytest.fixture
def no_tensorflow(monkeypatch):
    """As where tensorflow is not installed."""

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            found = PathFinder.find_spec(name, path, target)
            return None if name.partition(".")[0] == "tensorflow" else found

    others = [finder for finder in sys.meta_path if finder is not PathFinder]
    monkeypatch.setattr(sys, "meta_path", [*others, Finder])


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was used: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


READ_TFDS = """
import socket, sys
def refuse(*args): raise AssertionError(f"network: {args}")
socket.socket.connect = socket.getaddrinfo = refuse
import numpy as np
from groundwork.data import readers
train, test, classes = readers.read_tfds("tiny_digits", sys.argv[1])
assert "tensorflow" not in sys.modules
np.savez(sys.argv[2], *train, *test, classes)
"""


def test_a_prepared_tfds_set_is_read_without_tensorflow(tmp_path):
    # a tensorflow that dies loudly when imported, in place of the real one if there is one
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow/__init__.py").write_text("import os\nos._exit(77)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", READ_TFDS, str(TFDS), str(tmp_path / "read.npz")],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    train, train_labels, test, test_labels, classes = np.load(tmp_path / "read.npz").values()
    digits = _digits()
    assert classes == 10
    assert train.dtype == np.uint8
    np.testing.assert_array_equal(train[..., 0], digits.images[:60] * 15)
    np.testing.assert_array_equal(test[..., 0], digits.images[60:90] * 15)
    np.testing.assert_array_equal(train_labels, digits.target[:60])
    np.testing.assert_array_equal(test_labels, digits.target[60:90])


def test_the_tfds_folder_is_by_default_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(TFDS))
    (images, _), _, _ = readers.read_tfds("tiny_digits", "")
    assert images.shape == (60, 8, 8, 1)


@pytest.mark.parametrize(
    ("name", "near"),
    [("fashion_mnits", "fashion_mnist"), ("cifar_10", "cifar10"), ("tiny_digit", "tiny_digits")],
)
def test_an_unknown_tfds_name_suggests_the_near_one(name, near):
    said = refused(TFDS, name, readers.read_tfds)
    assert name in said
    assert f"did you mean '{near}'?" in said


FOREIGN = ["coco/2017", "huggingface:mnist"]  # the first imports tensorflow, the second `datasets`
UNBUILDABLE = ["", "a b", "../mnist", "tiny_digits:2.0.0", "mnist/no_such_config", "kmnist:9.9.9"]


@pytest.mark.parametrize("name", [*UNBUILDABLE, *FOREIGN])
@pytest.mark.usefixtures("no_tensorflow")
def test_a_tfds_name_that_cannot_be_built_is_named(name):
    assert repr(name) in refused(TFDS, name, readers.read_tfds)


@pytest.mark.usefixtures("no_network", "no_tensorflow")
def test_an_unprepared_tfds_set_says_how_to_get_it_and_downloads_nothing(tmp_path):
    readers.read_tfds("tiny_digits", str(TFDS))  # imports are not what is timed
    start = time.perf_counter()
    said = refused(tmp_path, "fashion_mnist", readers.read_tfds)
    assert time.perf_counter() - start < 5
    assert "fashion_mnist" in said
    assert str(tmp_path) in said
    assert "pip install -r requirements-tfds.txt" in said
    assert "apt-get install dataset-fashion-mnist" in said
    assert "--config.data.source=idx" in said
    assert "--config.data.dir=/usr/share/datasets/fashion-mnist" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.usefixtures("no_network", "no_tensorflow")
def test_an_unprepared_set_is_not_answered_with_fashion_mnists_package(tmp_path, name):
    said = refused(tmp_path, name, readers.read_tfds)
    assert "pip install -r requirements-tfds.txt" in said
    assert "dataset-fashion-mnist" not in said


def test_a_failed_preparation_gives_its_reason_and_asks_for_array_record(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    formats = []

    def fail(builder, **kwargs):
        formats.append(builder.info.file_format.value)
        raise ConnectionError("no route\n  to host")

    monkeypatch.setattr(readers.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    said = refused(tmp_path, "mnist", readers.read_tfds)
    assert "mnist" in said
    assert "no route to host" in said
    assert formats == ["array_record"]


@pytest.fixture
def copy(tmp_path):
    """A copy of the TFDS fixture to damage: its folder, and the folder of its version."""
    shutil.copytree(TFDS, tmp_path / "tfds")
    return tmp_path / "tfds", tmp_path / "tfds/tiny_digits/1.0.0"


def edit_info(version, **changes):
    path = version / "dataset_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_set_prepared_in_another_format_is_named_with_the_right_one(copy):
    edit_info(copy[1], fileFormat="tfrecord")
    said = refused(copy[0], "tiny_digits", readers.read_tfds)
    assert str(copy[1]) in said
    assert "tfrecord" in said
    assert "array_record" in said


def test_a_set_without_a_test_split_is_refused(copy):
    info = json.loads((copy[1] / "dataset_info.json").read_text())
    edit_info(copy[1], splits=info["splits"][:1])
    said = refused(copy[0], "tiny_digits", readers.read_tfds)
    assert "tiny_digits" in said
    assert "test" in said


@pytest.mark.parametrize("part", ["image", "label"])
def test_a_set_without_images_or_labels_is_refused(copy, part):
    path = copy[1] / "features.json"
    features = json.loads(path.read_text())
    inner = features["featuresDict"]["features"]
    inner["other"] = inner.pop(part)
    path.write_text(json.dumps(features))
    said = refused(copy[0], "tiny_digits", readers.read_tfds)
    assert "tiny_digits" in said
    assert part in said


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "zeros inside"])
def test_a_damaged_array_record_file_is_named(copy, damage):
    path = copy[1] / "tiny_digits-train.array_record-00000-of-00001"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:5000] + bytes(100) + content[5100:])
    assert str(copy[1]) in refused(copy[0], "tiny_digits", readers.read_tfds)
