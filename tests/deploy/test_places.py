"""Where files may be, what `load` takes, and examples without examples."""

import re

import numpy as np
import pytest

import deploy
from deploy import engines
from deploy.runtimes import batches

KERNEL = np.ones((3, 2), "f4")
EXAMPLE = np.zeros((1, 3), "f4")


def _apply(kernel, inputs):
    return inputs @ kernel


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("none/a", FileNotFoundError, "there is no folder .*none: make it first"),
        ("file/a", NotADirectoryError, "file is a file, not a folder"),
        ("folder", IsADirectoryError, r"folder\.onnx is a folder: give another path"),
    ],
)
def test_a_path_where_no_file_can_be_is_refused_before_anything_is_traced(
    tmp_path, place, error, words
):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(error, match=words):
        deploy.export(None, KERNEL, EXAMPLE, "onnxruntime", tmp_path / place)


def test_an_example_without_examples_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the example has no examples"):
        deploy.export(_apply, KERNEL, EXAMPLE[:0], "onnxruntime", tmp_path / "a")


@pytest.mark.parametrize("threads", [0, 1.0, True, "2", engines.MOST_THREADS + 1])
def test_threads_are_a_count(threads):
    with pytest.raises(ValueError, match=re.escape(f"threads={threads!r} must be a count from 1")):
        deploy.load("a.onnx", "onnxruntime", threads)


def test_a_folder_is_no_file_of_an_engine(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="is a folder, where onnxruntime reads one file"):
        deploy.load(tmp_path, "onnxruntime", np.int64(1))


def test_any_number_of_batches_and_nothing_else():
    calls = []

    def call(*arrays):
        calls.append([array.shape for array in arrays])
        return [2 * arrays[0], arrays[1]]

    run = batches.over(call, [(2, 3), (2, 1)], single=False)
    first, second = np.arange(12.0).reshape(4, 3), np.arange(4.0)[:, None]
    for count in (2, 4):
        doubled, same = run(first[:count], second[:count])
        np.testing.assert_array_equal(doubled, 2 * first[:count])
        np.testing.assert_array_equal(same, second[:count])
    assert calls == 3 * [[(2, 3), (2, 1)]]
    for wrong in (
        (),
        (first,),
        (first[:3], second[:3]),
        (first, second[:2]),
        (first[:, :2], second),
    ):
        given = ", ".join(str(list(array.shape)) for array in wrong) or "none"
        with pytest.raises(ValueError, match=re.escape(f"for a whole N, not {given}")):
            run(*wrong)
