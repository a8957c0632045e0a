"""Tables and figures, from results made up by hand."""

import dataclasses
from pathlib import Path

import pytest

from deploy import plots, report, results, tables
from deploy.answers import Answer
from deploy.files import File
from deploy.measure import Measured
from deploy.results import Network, Results, Time

FILE = File(
    engine="litert",
    kind="int8",
    batch=1,
    paths=("files/a/litert-int8-1.tflite",),
    bytes=2048,
    gzip_bytes=1024,
    remarks=("litert: the stored integers of fc are not in the file: floats",),
)
QUICK = Measured(
    milliseconds=[0.9, 1.0, 1.25], calls=9, load_seconds=0.002, peak_bytes=2**21, processors=1
)
SLOW = dataclasses.replace(QUICK, milliseconds=[1.9, 2.0, 2.5])
CRASH = Measured(failure="the process ended at 'block' by signal SIGSEGV")
OPERATIONS = [("a", "conv", "int8"), ("b", "add", "float32"), ("c", "conv", "int8")]


def time(engine, kind, measured, threads=1):
    return Time(engine=engine, kind=kind, threads=threads, batch=1, measured=measured)


def answer(engine, kind, value, **more):
    fields = {"agreement": 0.98765, "error": 0.0123, **more}
    return Answer(engine=engine, kind=kind, values=(0.25, value), **fields)


def network(name="pruned/0.5"):
    failed = dataclasses.replace(FILE, engine="ncnn", paths=(), bytes=0, failure="ncnn has no erf")
    return Network(
        name=name,
        files=[FILE, failed],
        remarks=["inputs of fc: rounded"],
        times=[
            time("jax", "float", SLOW),
            time("litert", "int8", QUICK),
            time("openvino", "int8", CRASH),
            time("litert", "int8", QUICK, threads=4),
        ],
        load={"1 examples, 1 threads": [0.5, 1.5]},
        answers={
            ("jax", "float"): answer("jax", "float", 0.92, agreement=1.0, error=0.0),
            ("litert", "int8"): answer("litert", "int8", 0.915, operations=OPERATIONS),
        },
        graph="",
    )


def made(*networks):
    return Results("run", Path("run"), {"replicates": 1}, {}, list(networks))


def test_times_stand_beside_jaxs_and_a_crash_is_a_line():
    header, rows = tables.times(made(network()), network(), 1)
    assert header == ["engine", "threads", "accuracy", "ms", "quartiles", "×", "KiB"]
    assert rows == [
        ["jax float", "1", "0.9200", "2.000", "1.900–2.500", "1.00", ""],
        ["litert int8", "1", "0.9150", "1.000", "0.900–1.250", "2.00", "2.0"],
        ["openvino int8", "1", "", "failed", "", "", ""],
        ["litert int8", "4", "0.9150", "1.000", "0.900–1.250", "", "2.0"],
    ]


def test_times_of_other_outputs_have_no_accuracy():
    wrong = dataclasses.replace(QUICK, failure="its outputs are not those")
    made_of = dataclasses.replace(network(), times=[time("litert", "int8", wrong)])
    (row,) = tables.times(made(made_of), made_of, 1)[1]
    assert row[:4] == ["litert int8", "1", "", "1.000"]
    assert report._records("a", made(made_of)) == []
    assert plots.settings(made(made_of)) == []


def test_costs_are_in_their_units():
    header, rows = tables.costs(network(), 1)
    assert header[2:] == ["as JAX", "error", "load ms", "peak MiB", "gzip KiB"]
    assert rows[1] == ["litert int8", "1", "0.9877", "1.2e-02", "2.0", "2.0", "1.0"]
    assert rows[2] == ["openvino int8", "1", "", "", "", "", ""]


def test_operations_are_counted_by_their_precision():
    assert tables.integers(network())[1] == [["litert int8", "2", "1", "add 1"]]


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ("a" * 3 + "b", "a 3, b 1"),
        (
            ["Convolution"] * 7 + ["Pooling"] * 5 + ["Split"] * 3 + ["ReLU"],
            "Convolution 7, Pooling 5, 4 more",
        ),
        (["an_operation_with_a_long_name_indeed"] * 2 + ["b"], None),
    ],
)
def test_operations_in_floats_are_named_as_far_as_there_is_room(kinds, words):
    rows = [(str(n), kind, "float32") for n, kind in enumerate(kinds)]
    one = answer("openvino", "int8", 0.9, operations=rows)
    made = dataclasses.replace(network(), answers={("openvino", "int8"): one})
    assert tables.integers(made)[1][0][3] == (words or f"{kinds[0]} 2, 1 more")


@pytest.mark.parametrize(
    ("kind", "error", "is_far"),
    [
        ("float", 0.01, False),
        ("float", 0.1, True),
        ("int8", 0.1, False),
        ("int8", 1.3, True),
        ("int8", float("nan"), True),
    ],
)
def test_outputs_that_are_far_from_jaxs_are_a_remark(kind, error, is_far):
    made = dataclasses.replace(
        network(), answers={("openvino", kind): answer("openvino", kind, 0.9, error=error)}
    )
    said = [line for line in tables.remarks(made) if "far from JAX's" in line]
    assert len(said) == is_far


def test_remarks_tell_all_that_failed_or_was_lost():
    assert tables.remarks(network()) == [
        "pruned/0.5: inputs of fc: rounded",
        "litert: the stored integers of fc are not in the file: floats",
        "ncnn-int8, 1 example: not written: ncnn has no erf",
        "openvino int8, 1 thread, 1 example: the process ended at 'block' by signal SIGSEGV",
        "jax float, exit by exit: 0.2500, 0.9200",
        "litert int8, exit by exit: 0.2500, 0.9150",
        "4 threads ran on 1 processors: there are no more",
        "load of the machine meanwhile (one minute): 0.5 to 1.5",
    ]


def test_a_figure_has_the_points_of_all_networks(tmp_path):
    run = made(network(), network("original"))
    assert plots.settings(run) == [(1, 1), (1, 4)]
    path, caption = plots.quality(run, 1, 1, tmp_path / "accuracy.png")
    assert path.stat().st_size > 1000
    assert "Colours are engines, shapes are networks." in caption


def test_runs_are_compared_by_their_fastest_call():
    records = report._records("a", made(network()))
    assert report._fastest(records) == ["pruned/0.5", "litert int8", "1", "1.000", "0.9150"]
    assert [record["milliseconds"] for record in records] == [2.0, 1.0, 1.0]
    assert records[0]["accuracy_mean"] == pytest.approx(0.92)


def test_tables_fit_a_terminal_of_80_columns():
    for _, (header, rows), _ in report._tables(made(network()), network()):
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        assert sum(widths) + 3 * (len(widths) - 1) <= 80, header


def test_a_file_is_read_back_as_it_was():
    assert results.file({**dataclasses.asdict(FILE), "paths": list(FILE.paths)}) == FILE
