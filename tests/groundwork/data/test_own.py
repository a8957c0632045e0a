"""Data of a user's own: a function, files of arrays, folders of images, a Hugging Face set."""

import os
import struct
import sys
import tracemalloc
import zlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from tests import packages

SECTION = dict(name="mine", source="", validation_examples=0, split_seed=0, standardize=True)


def load(source, **section):
    return data_lib.load({**SECTION, "source": source, **section})


@pytest.fixture
def returning(tmp_path, monkeypatch):
    """Make something the result of `theirs.data:load`, and load it."""

    def call(result, **section):
        packages.write(tmp_path, monkeypatch, data="def load(**kwargs): return result(kwargs)")
        import theirs.data

        theirs.data.result = result if callable(result) else lambda kwargs: result
        return load("theirs.data:load", **section)

    return call


def both(inputs, targets, **more):
    return {"train": (inputs, targets), "test": (inputs, targets), **more}


FLOATS = np.arange(12.0).reshape(6, 2)


class TestFunction:
    def test_targets_of_floats_stay_floats_of_32_bits(self, returning):
        dataset = returning(both(FLOATS, FLOATS / 4))
        assert dataset.classes == 0
        assert dataset.name == "theirs.data:load"
        assert dataset.train.labels.dtype == np.float32
        inputs, labels = data_lib.first_examples(dataset, 3)
        np.testing.assert_array_equal(labels, FLOATS[:3] / 4)
        expected = (FLOATS - FLOATS.mean(0)) / FLOATS.std(0)
        np.testing.assert_allclose(inputs, expected[:3], atol=1e-6)
        assert dataset.example == jax.ShapeDtypeStruct((1, 2), jnp.float32)
        assert dataset.target == jax.ShapeDtypeStruct((1, 2), jnp.float32)

    def test_tokens_stay_integers_and_labels_of_tokens_may_be_negative(self, returning):
        tokens = np.arange(12).reshape(6, 2)
        dataset = returning(both(tokens, tokens - 3, classes=9))
        inputs, labels = data_lib.first_examples(dataset, 6)
        assert inputs.dtype == labels.dtype == jnp.int32
        np.testing.assert_array_equal(inputs, tokens)
        np.testing.assert_array_equal(labels, tokens - 3)
        assert dataset.classes == 9
        assert dataset.example.dtype == jnp.int32

    def test_a_tree_is_standardised_leaf_by_leaf_and_held_out_row_by_row(self, returning):
        images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
        inputs = {"image": images, "text": np.arange(6)[:, None]}
        dataset = returning(both(inputs, np.arange(6) % 3), validation_examples=2)
        assert dataset.examples == {"train": 4, "validation": 2, "test": 6}
        held = dataset.validation
        np.testing.assert_array_equal(images[held.inputs["text"][:, 0]], held.inputs["image"])
        np.testing.assert_array_equal(held.inputs["text"][:, 0] % 3, held.labels)
        seen, _ = data_lib.first_examples(dataset, 4)
        np.testing.assert_array_equal(seen["text"], dataset.train.inputs["text"])
        assert abs(float(seen["image"].mean())) < 1e-6
        assert dataset.classes == 3
        assert dataset.shape == {"image": (2, 2, 1), "text": (1,)}

    def test_a_validation_split_is_taken_as_it_is(self, returning):
        dataset = returning(both(FLOATS, FLOATS, validation=(FLOATS[:2], FLOATS[:2])))
        np.testing.assert_array_equal(dataset.validation.inputs, FLOATS[:2])
        with pytest.raises(UserError, match=r"of its own: set data.validation_examples=0"):
            returning(both(FLOATS, FLOATS, validation=(FLOATS, FLOATS)), validation_examples=1)

    def test_it_is_called_with_the_configs_arguments(self, returning):
        seen = []
        returning(lambda kwargs: seen.append(kwargs) or both(FLOATS, FLOATS), kwargs={"a": [1, 2]})
        assert seen == [{"a": (1, 2)}]

    def test_equal_data_have_equal_digests(self, returning):
        one, two = (returning(both(FLOATS, FLOATS)) for _ in range(2))
        other = returning(both(FLOATS, FLOATS + 1))
        assert data_lib.digest(one) == data_lib.digest(two) != data_lib.digest(other)

    @pytest.mark.parametrize(
        ("result", "match"),
        [
            ([1], "must return {'train': .*not <class 'list'>"),
            ({"train": (FLOATS, FLOATS)}, r"must return .*not a mapping with \['train'\]"),
            (both(FLOATS, FLOATS, valid=(FLOATS, FLOATS)), "returns 'valid'"),
            (both(FLOATS, FLOATS, classes=2.5), r"classes=2.5 must be an integer from 1"),
            ({"train": FLOATS, "test": (FLOATS, FLOATS)}, r"train must be \(inputs, targets\)"),
            (both(FLOATS, FLOATS[:4]), "has 6 images but 4 labels"),
            (both({"a": FLOATS, "b": FLOATS[:4]}, FLOATS), "inputs/a has 6, inputs/b has 4"),
            (both(FLOATS[:0], FLOATS[:0]), "there are no examples"),
            (both(FLOATS * np.nan, FLOATS), "inputs of .*12 numbers are not finite"),
            (both(np.array(["a", "b"]), FLOATS[:2]), "inputs of .* are of <U1: numbers"),
            (both(np.array([{}, 1]), FLOATS[:2]), "inputs of .* are of object: numbers"),
            (both(FLOATS, 3.0), "a single number"),
            (both({}, FLOATS), "the inputs have no arrays"),
            (both(FLOATS, np.array([0, 1, 2, 3, 4, -1])), "label -1 of example 5"),
            (both(FLOATS, np.arange(6), classes=5), "label 5 of example 5 .* expected 0 to 4"),
            (both(FLOATS, np.arange(6) + 2**40), "needs 64 bits"),
            (
                {"train": (FLOATS, np.zeros(6, int)), "test": (FLOATS, np.ones(6, int))},
                "label 1 of example 0 .* expected 0 to 0",
            ),
            (
                {"train": (FLOATS, FLOATS), "test": (FLOATS[:, :1], FLOATS)},
                r"training examples of shape \(2,\) but test examples of shape \(1,\)",
            ),
            (
                {"train": (FLOATS, FLOATS), "test": (FLOATS.astype(int), FLOATS)},
                "has float32 in train but int32 in test",
            ),
            (
                {"train": (FLOATS, FLOATS), "test": ({"a": FLOATS}, FLOATS)},
                "test has other arrays than train",
            ),
        ],
    )
    def test_anything_else_is_refused_in_one_line(self, returning, result, match):
        with pytest.raises(UserError, match=match) as caught:
            returning(result)
        assert "\n" not in str(caught.value)

    def test_a_function_that_fails_or_is_not_there_is_named(self, returning):
        with pytest.raises(UserError, match=r"^data.source=\S+: ZeroDivisionError: division"):
            returning(lambda kwargs: 1 / 0)
        with pytest.raises(UserError, match=r"theirs.data has no 'lod'; did you mean 'load'"):
            load("theirs.data:lod")


ARRAYS = dict(x_train=FLOATS, y_train=np.arange(6), x_test=FLOATS[:2], y_test=np.arange(2))


class TestNpz:
    def test_a_file_and_a_folder_have_the_same_arrays(self, tmp_path):
        np.savez(tmp_path / "a.npz", **ARRAYS, x_validation=FLOATS, y_validation=np.arange(6))
        (tmp_path / "folder").mkdir()
        for name, array in ARRAYS.items():
            np.save(tmp_path / f"folder/{name}.npy", array)
        file, folder = (load("npz", dir=str(tmp_path / name)) for name in ("a.npz", "folder"))
        assert file.examples == {"train": 6, "validation": 6, "test": 2}
        assert folder.examples == {"train": 6, "validation": 0, "test": 2}
        assert file.classes == 6
        jax.tree.map(np.testing.assert_array_equal, file.train, folder.train)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"y_test": None}, "has no array y_test"),
            ({"x_train": np.array([{}] * 6, object)}, "x_train holds no numbers, but objects"),
            ({"x_validation": FLOATS}, "without the other"),
            ({"y_train": np.arange(5)}, r"x_train of shape \(6, 2\), but y_train of shape \(5,\)"),
            (
                {"x_test": FLOATS[:2, :1]},
                r"x_train of shape \(6, 2\), but x_test of shape \(2, 1\)",
            ),
        ],
    )
    def test_what_is_missing_or_pickled_is_refused(self, tmp_path, changes, match):
        arrays = {k: v for k, v in {**ARRAYS, **changes}.items() if v is not None}
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(UserError, match=match):
            load("npz", dir=str(tmp_path / "a.npz"))

    def test_other_files_and_other_keys_are_refused(self, tmp_path):
        (tmp_path / "bad.npz").write_bytes(b"PK nothing")
        for section, match in [
            (dict(dir=""), "data.source=npz needs data.dir"),
            (dict(dir=str(tmp_path / "no.npz")), "no.npz does not exist"),
            (
                dict(dir=str(tmp_path / "bad.npz")),
                "bad.npz is no readable file of arrays: it is damaged",
            ),
            (dict(dir=str(tmp_path), kwargs={"x": 1}), "source 'npz' has no 'x'"),
            (dict(dir=str(tmp_path), image_size=8), "data.image_size has no use"),
            (dict(dir=str(tmp_path)), r"no array x_train: .* are needed, and it has bad\.npz"),
        ]:
            with pytest.raises(UserError, match=match):
                load("npz", **section)


def picture(path, size=(4, 3), mode="L", value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


class TestFolder:
    @pytest.fixture
    def root(self, tmp_path):
        for number, name in enumerate(("dog", "cat")):  # sorted: cat, dog
            picture(tmp_path / f"train/{name}/b.png", value=10 * number)
            picture(tmp_path / f"train/{name}/a.png", value=10 * number + 1)
            picture(tmp_path / f"test/{name}/x.png", value=10 * number + 2)
        return tmp_path

    def test_classes_and_files_are_sorted_and_pixels_are_theirs(self, root):
        dataset = load("folder", dir=str(root))
        assert dataset.shape == (3, 4, 1)
        assert dataset.train.inputs.dtype == np.uint8
        assert dataset.train.inputs[:, 0, 0, 0].tolist() == [11, 10, 1, 0]
        assert dataset.train.labels.tolist() == [0, 0, 1, 1]
        assert dataset.test.inputs[:, 0, 0, 0].tolist() == [12, 2]
        assert (dataset.classes, dataset.examples["validation"]) == (2, 0)

    def test_one_image_in_colour_makes_all_so_and_a_validation_folder_is_read(self, root):
        picture(root / "validation/dog/x.png", mode="RGB", value=(1, 2, 3))
        dataset = load("folder", dir=str(root))
        assert dataset.shape == (3, 4, 3)
        assert dataset.validation.inputs[0, 0, 0].tolist() == [1, 2, 3]
        assert dataset.validation.labels.tolist() == [1]

    def test_images_of_other_sizes_are_scaled_where_a_size_is_given(self, root):
        picture(root / "test/cat/wide.png", size=(9, 3))
        with pytest.raises(
            UserError, match=r"wide.png has 3×9 pixels, .*3×4: give data.image_size"
        ):
            load("folder", dir=str(root))
        assert load("folder", dir=str(root), image_size=2).shape == (2, 2, 1)

    def test_what_is_wrong_is_named(self, root):
        with pytest.raises(UserError, match=r"data.source=folder needs data.dir"):
            load("folder")
        with pytest.raises(UserError, match=r"nowhere/train does not exist"):
            load("folder", dir=str(root / "nowhere"))
        with pytest.raises(UserError, match=r"dog/train does not exist"):
            load("folder", dir=str(root / "train/dog"))
        (root / "test/fox").mkdir()
        with pytest.raises(UserError, match=r"test/fox has no image"):
            load("folder", dir=str(root))
        picture(root / "test/fox/a.png")
        with pytest.raises(UserError, match=r"test has the class 'fox', which .*train lacks"):
            load("folder", dir=str(root))
        picture(root / "train/fox/a.png")
        (root / "train/fox/b.png").write_bytes(b"no image")
        with pytest.raises(UserError, match=r"fox/b.png cannot be read"):
            load("folder", dir=str(root))
        (root / "empty/train").mkdir(parents=True)
        with pytest.raises(UserError, match=r"empty/train has no folders of classes"):
            load("folder", dir=str(root / "empty"))

    @pytest.mark.parametrize("length", [0, 20, -30, -5])
    def test_an_image_that_is_cut_off_is_refused(self, root, length):
        whole = (root / "train/dog/a.png").read_bytes()
        (root / "train/dog/a.png").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"dog/a.png cannot be read \(") as caught:
            load("folder", dir=str(root))
        assert "\n" not in str(caught.value)

    def test_bombs_are_refused_by_what_they_declare(self, root):
        path = root / "train/dog/a.png"
        whole = path.read_bytes()

        def declare(width, height):
            size = b"IHDR" + struct.pack(">2I", width, height) + whole[24:29]
            path.write_bytes(whole[:12] + size + struct.pack(">I", zlib.crc32(size)) + whole[33:])

        declare(40_000, 40_000)
        with pytest.raises(UserError, match=r"a.png cannot be read \(Image size .* exceeds"):
            load("folder", dir=str(root), image_size=4)
        declare(10_000, 10_000)  # a scan, of which Pillow only warns
        with pytest.raises(UserError, match=r"a.png cannot be read .*truncated"):
            load("folder", dir=str(root), image_size=4)
        declare(9_000, 9_000)
        tracemalloc.start()
        with pytest.raises(UserError, match=r"3×4 pixels, .*cat/a.png 3×4|9000×9000 pixels"):
            load("folder", dir=str(root))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()

    def test_an_image_that_is_a_line_is_not_scaled(self, root):
        picture(root / "train/dog/a.png", size=(1, 1000))
        with pytest.raises(UserError, match=r"has 1000×1 pixels, which cannot be scaled"):
            load("folder", dir=str(root), image_size=8)

    def test_links_in_a_circle_and_pipes_are_named_and_never_waited_for(self, root):
        (root / "train/dog/again").symlink_to(root / "train/dog")
        (root / "train/around").symlink_to(root / "train/around")
        assert load("folder", dir=str(root)).examples["train"] == 4
        (root / "train/dog/c.png").symlink_to(root / "train/dog/c.png")
        with pytest.raises(UserError, match=r"dog/c.png is no file, but .* a link to nowhere"):
            load("folder", dir=str(root))
        (root / "train/dog/c.png").unlink()
        os.mkfifo(root / "train/dog/c.png")
        with pytest.raises(UserError, match=r"dog/c.png is no file, but a pipe"):
            load("folder", dir=str(root))


class Rows:
    """A split, as Hugging Face's `datasets` has it."""

    def __init__(self, columns, classes=None):
        self._columns = columns
        self.column_names = list(columns)
        self.features = {"label": SimpleNamespace(num_classes=classes)} if classes else columns

    def __getitem__(self, name):
        return self._columns[name]


class TestHuggingFace:
    @pytest.fixture
    def saved(self, monkeypatch):
        def use(sets):
            monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_from_disk=sets.get))

        return use

    def test_without_the_package_the_error_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(UserError, match="pip install datasets"):
            load("huggingface", dir="somewhere")

    def test_images_and_classes_are_read(self, saved):
        images = [Image.new("L", (4, 3), value) for value in (1, 2)]
        rows = Rows({"image": images, "label": [1, 0]}, classes=5)
        saved({"here": {"train": rows, "test": rows}})
        dataset = load("huggingface", dir="here")
        assert dataset.train.inputs[:, 0, 0, 0].tolist() == [1, 2]
        assert dataset.train.labels.tolist() == [1, 0]
        assert (dataset.classes, dataset.shape) == (5, (3, 4, 1))

    def test_columns_and_splits_of_other_names_are_named(self, saved):
        rows = Rows({"tokens": [[1, 2], [3, 4]], "next": [[2, 3], [4, 5]]})
        saved({"here": {"train": rows, "held": rows}})
        kwargs = {"image": "tokens", "label": "next", "test": "held"}
        dataset = load("huggingface", dir="here", kwargs=kwargs)
        assert dataset.train.inputs.tolist() == [[1, 2], [3, 4]]
        assert dataset.test.labels.dtype == np.int32
        for missing, match in [
            ("image", r"no column 'image'; name it: data.kwargs=.*'tokens', 'next'"),
            ("test", r"no split 'test' \(it has \['train', 'held'\]\)"),
        ]:
            rest = {key: value for key, value in kwargs.items() if key != missing}
            with pytest.raises(UserError, match=match):
                load("huggingface", dir="here", kwargs=rest)

    @pytest.mark.parametrize(
        ("columns", "kwargs", "match"),
        [
            ({"label": [[1], [1, 2]]}, {}, "here: train cannot be read"),
            ({"image": [Image.new("L", (4, 3)), None]}, {}, "image 1 cannot be read .*but None"),
            ({"image": [[1], [1, 2]]}, {}, "image of here: train: its rows differ in length"),
            ({"label": ["cat", "dog"]}, {}, "are of <U3: numbers are needed"),
            ({"label": [0, None]}, {}, "are of object: numbers are needed"),
            ({}, {"train": ["a"]}, r"data.kwargs: train=.* must be the name of a column"),
        ],
    )
    def test_damaged_columns_are_refused_in_one_line(self, saved, columns, kwargs, match):
        rows = Rows({"image": [[1.0], [2.0]], "label": [1, 0], **columns})
        saved({"here": {"train": rows, "test": rows}})
        with pytest.raises(UserError, match=match) as caught:
            load("huggingface", dir="here", kwargs=kwargs)
        assert "\n" not in str(caught.value)


def test_shipped_sources_take_no_arguments():
    with pytest.raises(UserError, match=r"data.kwargs: source 'digits' has no 'n' \(known: none\)"):
        load("digits", kwargs={"n": 3})


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_images_of_more_than_8_bits_are_refused_instead_of_clipped(tmp_path, kind):
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            pixels = Image.fromarray((np.arange(64).reshape(8, 8) * 1000).astype(kind))
            pixels.save(tmp_path / split / label / "0.tif")
    with pytest.raises(UserError, match=r"0.tif has more than 8 bits per pixel \(mode "):
        load("folder", dir=str(tmp_path))


def test_floats_beyond_32_bits_are_refused(returning):
    far = both(np.full((4, 3), 1e300), np.arange(4) % 2)
    with pytest.raises(UserError, match=r"the number 1e\+300 is too large for float32"):
        returning(far)
    with pytest.raises(UserError, match=r"the number 1e\+300 is too large for float32"):
        returning(both(np.ones((4, 3)), np.full((4, 1), 1e300)))
