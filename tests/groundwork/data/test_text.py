import os

import numpy as np
import pytest

from groundwork.data import dataset
from groundwork.errors import UserError


def load(path="", section=None, **kwargs):
    given = {"name": "text", "source": "text", "path": str(path), **(section or {})}
    return dataset.load({**given, "kwargs": kwargs})


@pytest.fixture
def written(tmp_path):
    def write(content, name="a.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(split, alphabet):
    """Each window as text, with the character that follows its last one."""
    pairs = zip(split.inputs, split.labels, strict=True)
    return ["".join(alphabet[i] for i in [*inputs, labels[-1]]) for inputs, labels in pairs]


def test_windows_follow_each_other_and_cross_no_border(written):
    content = "the quick brown fox jumps over the lazy dog, twice a day"  # 56 characters
    path = written(content)
    loaded = load(path, length=4, validation=0.25, test=0.125)
    alphabet = sorted(set(content[:35]))
    assert (
        loaded.classes == len(alphabet) + 1
    )  # o, f and others stand in the first part, z does not
    parts = {"train": content[:35], "validation": content[35:49], "test": content[49:]}
    for name, part in parts.items():
        part = "".join(c if c in alphabet else "?" for c in part)
        wanted = [part[at : at + 5] for at in range(0, len(part) - 4, 4)]
        split = getattr(loaded, name)
        assert texts(split, [*alphabet, "?"]) == wanted
        np.testing.assert_array_equal(split.inputs[:, 1:], split.labels[:, :-1])
        assert split.inputs.dtype == split.labels.dtype == np.int32
    assert "?" in "".join(texts(loaded.validation, [*alphabet, "?"]))
    assert loaded.example.dtype == np.int32
    assert loaded.shape == (4,)


def test_bytes_of_any_file_are_themselves(written):
    content = bytes(range(256)) * 2
    loaded = load(written(content), unit="bytes", length=15, validation=0, test=0.25)
    assert loaded.classes == 256
    assert loaded.examples == {"train": 25, "validation": 0, "test": 8}
    assert loaded.train.inputs.tobytes() == np.arange(375, dtype=np.int32).__mod__(256).tobytes()
    np.testing.assert_array_equal(loaded.test.labels[0], np.arange(129, 144))


def test_a_folder_is_its_files_in_the_order_of_their_paths(tmp_path):
    folder = tmp_path / "book"
    (folder / "a").mkdir(parents=True)
    for name, content in {"b.txt": "wxyz", "a/z.txt": "stuv", ".hidden": "!!!!"}.items():
        (folder / name).write_text(content)
    loaded = load(folder, length=1, validation=0, test=0.5)
    assert loaded.examples["train"] == loaded.examples["test"] == 3
    assert texts(loaded.train, "stuv") == ["st", "tu", "uv"]
    assert loaded.classes == 5


def test_the_topics_of_pydoc_are_the_default_and_the_same_each_time():
    from pydoc_data.topics import topics

    first, again = load(), load()
    assert dataset.digest(first) == dataset.digest(again)
    assert sum(first.examples.values()) * 64 <= sum(map(len, topics.values())) + len(topics)
    assert first.examples["train"] > 8 * first.examples["test"] - 64
    assert 50 < first.classes < 300
    counted = np.bincount(first.train.labels.ravel()) / first.train.labels.size
    most = sorted(set("".join(topics.values())))[counted.argmax()]
    assert most == " "


@pytest.mark.parametrize(
    ("content", "kwargs", "said"),
    [
        (b"", {}, "a.txt has 0 characters, 0 of them for training: a window needs 65"),
        (b"abc", {"unit": "bytes"}, "has 3 bytes, 3 of them for training: a window needs 65"),
        (b"a" * 200, {}, "20 of them for validation: a window needs 65"),
        (b"ab\xff" * 99, {}, r"no UTF-8 text \(invalid start byte at byte 2\): .*'unit': 'bytes'"),
        (b"abc", {"unit": "words"}, "data.kwargs.unit"),
        (b"abc", {"length": 0}, "data.kwargs.length=0 must be at least 1"),
        (b"abc", {"length": 2.5}, "data.kwargs.length"),
        (b"abc", {"test": 0.0}, "test=0 must be above 0"),
        (b"abc", {"validation": 0.6, "test": 0.4}, "both together below 1"),
        (b"abc", {"size": 1}, "source 'text' has no 'size'"),
    ],
)
def test_texts_that_cannot_serve_are_refused_in_one_line(written, content, kwargs, said):
    with pytest.raises(UserError, match=said) as caught:
        load(written(content), **kwargs)
    assert "\n" not in str(caught.value)


def test_paths_that_cannot_serve_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.path=.*nothing does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="is a folder without files"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(UserError, match="is no file of text"):
            load(path)
    with pytest.raises(UserError, match=r"data\.dir has no use.*give data\.path"):
        load(section={"dir": str(tmp_path)})
    with pytest.raises(UserError, match=r"data\.path='x' is for data\.source=text, not digits"):
        dataset.load({"name": "digits", "source": "digits", "path": "x"})
    with pytest.raises(UserError, match="has a validation split of its own"):
        load(section={"validation_examples": 5})
