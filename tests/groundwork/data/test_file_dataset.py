import contextlib
import io
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from groundwork.data import dataset as data_lib
from groundwork.data import file_dataset, loader
from groundwork.errors import UserError
from tests.conftest import ROOT

TFDS = ROOT / "tests/fixtures/tfds"
VERSION = "tiny_digits/1.0.0"


def spec_of(folder=TFDS, **section):
    base = dict(name="tiny_digits", source="tfds", dir=str(folder), stream=True)
    return data_lib.DataSpec(**{**base, **section})


def refused(folder=TFDS, **section):
    """The one line that opening or reading every example is refused with."""
    with pytest.raises(UserError) as caught:
        read(file_dataset.open_files(spec_of(folder, **section)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(opened):
    """Images and labels of the three splits."""
    splits = [[s[i] for i in range(len(s))] for s in (opened.train, opened.validation, opened.test)]
    return [([r["image"] for r in rows], [r["label"] for r in rows]) for rows in splits]


@pytest.fixture
def copy(tmp_path):
    """A copy of the set to change: its folder, and the folder of its version."""
    shutil.copytree(TFDS, tmp_path / "tfds")
    return tmp_path / "tfds", tmp_path / "tfds" / VERSION


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_image(version, dimensions, dtype="uint8"):
    def change(features):
        image = features["featuresDict"]["features"]["image"]["image"]
        image.update(shape={"dimensions": dimensions}, dtype=dtype)

    edit(version / "features.json", change)


def example(content, label):
    """A record as TFDS stores it."""
    made = tf_example_pb2.Example()
    made.features.feature["image"].bytes_list.value.append(content)
    made.features.feature["label"].int64_list.value.append(label)
    return made.SerializeToString()


@pytest.fixture
def write(copy):
    """Write images (PIL's) as JPEG into the set, with images of any size: its folder."""
    folder, version = copy

    def make(images, labels=None, dimensions=("-1", "-1", "3")):
        edit_image(version, list(dimensions))
        for split in ("train", "test"):
            name = f"tiny_digits-{split}.array_record-00000-of-00001"
            writer = ArrayRecordWriter(str(version / name), "group_size:1")
            for i, image in enumerate(images):
                content = io.BytesIO()
                image.save(content, "JPEG", quality=95)
                writer.write(example(content.getvalue(), labels[i] if labels else i % 10))
            writer.close()

        def count(info):
            for split in info["splits"]:
                split["shardLengths"] = [str(len(images))]

        edit(version / "dataset_info.json", count)
        return folder

    return make


def plain(size, colour, mode="RGB"):
    """An image of (width, height) in one colour."""
    return Image.new(mode, size, colour)


# what is opened


@pytest.mark.parametrize("held", [0, 13])
def test_a_stream_has_what_loading_the_same_set_whole_has(held):
    section = dict(name="tiny_digits", source="tfds", dir=str(TFDS), validation_examples=held)
    whole = data_lib.load({**section, "split_seed": 3})
    opened = file_dataset.open_files(spec_of(validation_examples=held, split_seed=3))
    assert (opened.name, opened.classes, opened.shape) == ("tiny_digits", 10, whole.shape)
    for (images, labels), split in zip(read(opened), whole[1:4], strict=True):
        assert len(labels) == len(split.labels)
        for i, image in enumerate(images):
            assert image.dtype == np.uint8
            np.testing.assert_array_equal(image, split.inputs[i])
            assert labels[i] == split.labels[i]
    np.testing.assert_allclose(opened.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(opened.std, whole.std, rtol=1e-6)
    assert opened.mean.dtype == opened.std.dtype == np.float32
    assert jnp.zeros((2, 8, 8, 1)).ndim == opened.mean.ndim == opened.std.ndim


def test_another_split_may_be_the_test_set():
    opened = file_dataset.open_files(spec_of(test_split="train"))
    assert len(opened.test) == 60


def test_the_folder_is_by_default_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(TFDS))
    assert len(file_dataset.open_files(spec_of("")).train) == 60


def test_images_of_all_sizes_and_kinds_are_decoded_to_colour(write):
    folder = write(
        [plain((20, 30), (200, 10, 90)), plain((9, 8), 77, "L"), plain((8, 8), 0, "CMYK")]
    )
    opened = file_dataset.open_files(spec_of(folder, image_size=8))
    assert opened.shape == (8, 8, 3)
    images, labels = read(opened)[0]
    assert [image.shape for image in images] == [(30, 20, 3), (8, 9, 3), (8, 8, 3)]
    np.testing.assert_allclose(images[0][4, 4].astype(int), [200, 10, 90], atol=3)
    np.testing.assert_array_equal(images[1], np.full((8, 9, 3), 77))
    np.testing.assert_array_equal(images[2], np.full((8, 8, 3), 255))
    assert labels == [0, 1, 2]


def test_images_of_one_unwritten_size_need_no_image_size(write):
    opened = file_dataset.open_files(spec_of(write([plain((5, 4), 9, "L")] * 3)))
    assert opened.shape == (4, 5, 3)
    assert len(read(opened)[0][0]) == 3


def test_workers_read_the_set_as_this_process_does_and_say_nothing(capfd):
    made = []
    for workers in (0, 1):
        spec = spec_of(workers=workers, augment="crop_flip", validation_examples=5)
        common = dict(batch_size=8, parts=1, part=0)
        ahead = loader.train_batches(file_dataset.open_files(spec), spec, [4], 2, **common)
        with contextlib.closing(ahead):
            made.append([next(ahead) for _ in range(10)])
    for ours, theirs in zip(*made, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    assert capfd.readouterr() == ("", "")


# moments


def test_the_configs_moments_are_taken_as_they_are(write):
    folder = write([plain((5, 4), (1, 2, 3))])
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    opened = file_dataset.open_files(spec_of(folder, mean=mean, std=std))
    np.testing.assert_array_equal(opened.mean, np.float32(mean).reshape(1, 1, 1, 3))
    np.testing.assert_array_equal(opened.std, np.float32(std).reshape(1, 1, 1, 3))


def test_without_standardisation_there_is_nothing_to_subtract():
    opened = file_dataset.open_files(spec_of(standardize=False))
    assert (opened.mean.item(), opened.std.item()) == (0, 1)


def test_moments_are_those_of_a_sample_always_the_same(monkeypatch):
    whole = file_dataset.open_files(spec_of())
    monkeypatch.setattr(file_dataset, "MOMENT_EXAMPLES", 20)
    some, again = (file_dataset.open_files(spec_of()) for _ in range(2))
    assert (some.mean, some.std) == (again.mean, again.std)
    assert some.mean != whole.mean
    np.testing.assert_allclose(some.mean, whole.mean, rtol=0.1)
    np.testing.assert_allclose(some.std, whole.std, rtol=0.1)


def test_moments_are_a_channels_own_and_held_out_images_have_no_part(write):
    rng = np.random.default_rng(0)
    greys = rng.integers(0, 256, 40)
    folder = write([plain((8, 8), (int(g), 40, 255 - int(g))) for g in greys])
    opened = file_dataset.open_files(spec_of(folder, validation_examples=10))
    images = np.stack(read(opened)[0][0]) / 255
    np.testing.assert_allclose(opened.mean.ravel(), images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(opened.std.ravel()[::2], images.std((0, 1, 2))[::2], rtol=1e-5)


def test_a_constant_channel_has_a_deviation_of_1(write):
    opened = file_dataset.open_files(spec_of(write([plain((7, 9), 77, "L")] * 30)))
    np.testing.assert_allclose(opened.mean, np.full((1, 1, 1, 3), 77 / 255), rtol=1e-6)
    np.testing.assert_array_equal(opened.std, np.ones((1, 1, 1, 3)))


def test_moments_are_of_the_images_as_they_are_evaluated(write):
    striped = Image.new("RGB", (8, 32))  # black, but for the middle quarter
    striped.paste((255, 255, 255), (0, 12, 8, 20))
    folder = write([striped] * 3)
    opened = file_dataset.open_files(spec_of(folder, image_size=8))
    np.testing.assert_allclose(opened.mean, np.ones((1, 1, 1, 3)), atol=0.02)


@pytest.mark.parametrize("numbers", [(0.5,), (0.5, 0.5)])
def test_as_many_moments_as_channels_are_demanded(write, numbers):
    said = refused(write([plain((5, 4), 9, "L")]), mean=numbers, std=numbers)
    assert "data.mean" in said
    assert f"{len(numbers)} numbers" in said
    assert "3 channels" in said


# digest


def test_the_digest_is_of_the_data_not_of_where_they_are(copy):
    here = file_dataset.open_files(spec_of()).digest
    assert file_dataset.open_files(spec_of(copy[0], image_size=4, workers=2)).digest == here


@pytest.mark.parametrize("change", ["train", "test", "examples", "version"])
def test_the_digest_changes_with_the_data(copy, change, monkeypatch):
    monkeypatch.setattr(file_dataset, "_check_labels", lambda *_: None)  # the file is damaged
    folder, version = copy
    before = file_dataset.open_files(spec_of(folder, standardize=False)).digest
    info = version / "dataset_info.json"
    if change == "examples":
        edit(info, lambda content: content["splits"][0].update(shardLengths=["59"]))
    elif change == "version":
        edit(info, lambda content: content.update(version="1.0.1"))
        version.rename(version.with_name("1.0.1"))
    else:
        with open(version / f"tiny_digits-{change}.array_record-00000-of-00001", "ab") as file:
            file.write(bytes(1))
    assert file_dataset.open_files(spec_of(folder, standardize=False)).digest != before


# what is refused


def test_a_set_that_is_not_prepared_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = refused(tmp_path, name="cifar10")
    assert "cifar10 is not prepared" in said
    assert "requirements-tfds.txt" in said


def test_a_set_in_another_format_is_named_with_the_right_one(copy):
    edit(copy[1] / "dataset_info.json", lambda info: info.update(fileFormat="tfrecord"))
    said = refused(copy[0])
    assert "tfrecord" in said
    assert "array_record" in said


def test_a_split_that_is_not_there_is_named_with_those_that_are():
    said = refused(test_split="validation")
    assert "no split 'validation'" in said
    assert "['train', 'test']" in said


@pytest.mark.parametrize("held", [-1, 60, 61])
def test_a_validation_split_that_leaves_nothing_is_refused(held):
    assert f"data.validation_examples={held}" in refused(validation_examples=held)


def test_images_of_differing_sizes_need_image_size(write):
    folder = write([plain((5, 4), 9, "L"), plain((5, 4), 9, "L"), plain((4, 5), 9, "L")])
    said = refused(folder)
    assert "example 2 of train of tiny_digits has (5, 4) pixels, others (4, 5)" in said
    assert "data.image_size" in said
    file_dataset.open_files(spec_of(folder, image_size=4))


@pytest.mark.parametrize(
    ("dimensions", "dtype"),
    [(["8", "8", "4"], "uint8"), (["8", "8", "1"], "uint16"), (["8", "8", "1"], "float32")],
)
def test_images_that_are_neither_grey_nor_rgb_bytes_are_refused(copy, dimensions, dtype):
    edit_image(copy[1], dimensions, dtype)
    said = refused(copy[0])
    assert "tiny_digits" in said
    assert dtype in said
    assert "uint8 with 1 or 3 channels" in said


def test_a_split_without_labels_is_named_with_what_to_do(write):
    said = refused(write([plain((5, 4), 9, "L")] * 2, labels=[3, -1]))
    assert "example 1 of test of tiny_digits has label -1, expected 0 to 9" in said
    assert "data.test_split" in said


@pytest.mark.parametrize("size", [0, 2**30])
def test_a_test_label_out_of_range_is_found_when_the_set_is_opened(write, size, monkeypatch):
    """In a large split all labels of a sample are."""
    monkeypatch.setattr(file_dataset, "LABELS_BYTES", size)
    folder = write([plain((5, 4), 9, "L")] * 700, labels=[0] * 699 + [10])
    with pytest.raises(UserError, match="example 699 of test of tiny_digits has label 10"):
        file_dataset.open_files(spec_of(folder, standardize=False))


# the same set in memory


def refused_whole(folder, **section):
    with pytest.raises(UserError) as caught:
        data_lib.load(dict(name="tiny_digits", source="tfds", dir=str(folder), **section))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_in_memory_another_split_may_be_the_test_set():
    section = dict(name="tiny_digits", source="tfds", dir=str(TFDS), test_split="train")
    whole = data_lib.load(section)
    np.testing.assert_array_equal(whole.test.inputs, whole.train.inputs)


def test_in_memory_images_of_differing_sizes_are_named_with_what_to_do(write):
    said = refused_whole(write([plain((5, 4), 9, "L"), plain((4, 5), 9, "L")]))
    assert "example 1 of train of tiny_digits" in said
    assert "has (5, 4) pixels, others (4, 5): set data.stream=true and data.image_size" in said


@pytest.mark.parametrize(
    ("dimensions", "dtype", "do"),
    [
        (["8", "8", "4"], "uint8", "as RGB or grey images, or give all channels with data.source"),
        (["8", "8", "1"], "uint16", "with 8 bits, or give their numbers as they are with data.so"),
    ],
)
def test_in_memory_images_that_are_neither_grey_nor_rgb_bytes_are_refused(
    copy, dimensions, dtype, do
):
    edit_image(copy[1], dimensions, dtype)
    said = refused_whole(copy[0])
    assert f"type {dtype}" in said
    assert do in said


def test_in_memory_a_damaged_image_is_named(write, monkeypatch):
    save = Image.Image.save

    def cut(image, content, *args, **kwargs):
        save(image, content, *args, **kwargs)
        if image.getpixel((0, 0)) == 7:
            content.truncate(200)

    monkeypatch.setattr(Image.Image, "save", cut)
    said = refused_whole(write([plain((30, 30), grey, "L") for grey in (9, 9, 7, 9)]))
    assert "example 2 of train of tiny_digits" in said
    assert "damaged; get it again" in said


def test_in_memory_a_test_label_out_of_range_is_named(write):
    said = refused_whole(write([plain((5, 4), 9, "L")] * 2, labels=[3, 10]))
    assert "has label 10, expected 0 to 9" in said
    assert "example 1 of" in said


def test_labels_that_are_no_classes_are_refused(copy):
    scalar = {
        "pythonClassName": "tensorflow_datasets.core.features.scalar.Scalar",
        "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"},
    }
    edit(
        copy[1] / "features.json",
        lambda features: features["featuresDict"]["features"].update(label=scalar),
    )
    assert "labels of tiny_digits are not classes" in refused(copy[0])


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "zeros inside", "no image"])
def test_damaged_files_are_named(copy, write, damage):
    folder, version = copy
    path = version / "tiny_digits-train.array_record-00000-of-00001"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "zeros inside":
        path.write_bytes(content[:5000] + bytes(100) + content[5100:])
    else:
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for _ in range(60):
            writer.write(example(b"no image", 0))
        writer.close()
    said = refused(folder, standardize=False)
    assert "tiny_digits" in said
    assert "cannot be read" in said


def test_several_labels_of_an_image_are_refused(copy):
    def several(features):
        one = features["featuresDict"]["features"]
        one["label"] = {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "sequence": {"feature": one["label"], "length": "-1"},
        }

    edit(copy[1] / "features.json", several)
    assert "labels of tiny_digits are not classes" in refused(copy[0])
