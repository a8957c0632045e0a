"""LiteRT as a function: batches, threads, what it refuses."""

import subprocess
import sys

import numpy as np
import pytest

from tests.deploy.operations_by_hand import CASES, arguments, graph_of, integer_graph_of

pytest.importorskip("ai_edge_litert")

from deploy import engines
from deploy.runtimes import litert
from deploy.writers import tflite


@pytest.fixture
def path(tmp_path):
    return tflite.write(graph_of(CASES["dense"]), tmp_path / "net.tflite")[0]


def test_any_whole_number_of_batches_and_threads(path):
    (x,) = arguments(CASES["dense"])  # a batch of 3
    once = engines.load(path, "litert")(x)
    twice = engines.load(path, "litert", threads=2)(np.concatenate([x, x[::-1]]))
    np.testing.assert_allclose(twice, np.concatenate([once, once[::-1]]), rtol=1e-6)


def test_results_outlive_the_next_call(path):
    run, (x,) = litert.load(path), arguments(CASES["dense"])
    first = run(x)
    kept = first.copy()
    run(2 * x)
    np.testing.assert_array_equal(first, kept)


def test_other_shapes_and_dtypes_are_refused(path):
    run = litert.load(path)
    with pytest.raises(ValueError, match=r"takes arrays of shapes \[N·3, 20\]"):
        run(np.zeros((4, 20), np.float32))
    with pytest.raises(ValueError, match="takes float32, not complex64"):
        run(np.zeros((3, 20), np.complex64))
    np.testing.assert_array_equal(run(np.ones((3, 20), np.uint8)), run(np.ones((3, 20))))


@pytest.mark.parametrize("damage", ["empty", "text", "half", "start", "zeros"])
def test_what_is_no_file_of_its_own_is_one_line(path, tmp_path, damage):
    data = path.read_bytes()
    made = {
        "empty": b"",
        "text": b"no model at all",
        "half": data[: len(data) // 2],
        "start": data[:100],
        "zeros": data[:8] + bytes(200),
    }
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(made[damage])
    for read in (litert.load, litert.operations):
        with pytest.raises(ValueError, match="LiteRT cannot run") as caught:
            read(broken)
        assert "\n" not in str(caught.value)


def test_neither_files_nor_integers_need_jax():
    code = "import sys, deploy.runtimes.litert, deploy.integers; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_operations_say_what_is_integers(tmp_path):
    (path,) = tflite.write(integer_graph_of(CASES["sum"]), tmp_path / "net.tflite")
    assert [row[1:] for row in litert.operations(path)] == [
        ("QUANTIZE", "float32"),
        ("DEQUANTIZE", "float32"),
        ("SUM", "float32"),
        ("QUANTIZE", "float32"),
        ("DEQUANTIZE", "float32"),
    ]
    (path,) = tflite.write(integer_graph_of(CASES["conv"]), tmp_path / "net.tflite")
    assert ("logits", "CONV_2D", "int8") in litert.operations(path)
