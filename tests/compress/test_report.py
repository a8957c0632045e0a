"""Choices, tables and figures of a run whose folder is made up by hand."""

import dataclasses
import json

import numpy as np
import pytest

from compress import plots, report, results, tables
from compress.results import Network, Results, Stream, pareto
from groundwork.errors import UserError
from groundwork.report import comparison
from groundwork.report import page as page_lib
from groundwork.runs.run import Run
from tests import browser

CONFIG = {"replicates": 2, "stages": ["prune", "quantize"]}
HEADER = Stream("", "header", [100, 100], [0, 0], [0.0] * 2, [0.0] * 2, [0.0] * 2)
NUMBERS = Stream("", "other", [10, 30], [3, 3], [32.0] * 2, [27.0] * 2, [20.0] * 2)
FULL = Network(
    name="original",
    parent="",
    stage="original",
    setting=0,
    leaf=False,
    bits={},
    activations={},
    validation=[0.8, 0.9],
    test=[0.75, 0.85],
    bytes=[940, 960],
    float_bytes=1000,
    load_seconds=0.25,
    milliseconds={},
    sizes={"fc/kernel": 6, "fc/bias": 3},
    kept={"fc/kernel": [6, 6], "fc/bias": [3, 3]},
    streams=[HEADER, NUMBERS],
    masked=[],
)
PRUNED = dataclasses.replace(
    FULL,
    name="prune-02",
    parent="prune-01",
    stage="prune",
    setting=2,
    bytes=[500, 500],
    kept={"fc/kernel": [3, 2], "fc/bias": [3, 3]},
    masked=["fc/kernel"],
)
QUANTISED = dataclasses.replace(
    PRUNED,
    name="prune-02+quantize-2",
    parent="prune-02",
    stage="quantize",
    setting=2,
    leaf=True,
    bits={"fc/kernel": 2},
    bytes=[123, 147],
    milliseconds={"1": [0.5, 0.25], "128": [8.0, 2.0]},
    streams=[
        HEADER,
        Stream("params/fc/kernel", "index", [2, 2], [4, 4], [5.0] * 2, [4.0] * 2, [2.0] * 2),
        Stream("params/fc/kernel", "weights", [1, 2], [3, 1], [2.0] * 2, [2.5, 4.5], [1.5, 0.5]),
        Stream("params/fc/kernel", "codebook", [8, 9], [2, 2], [32.0] * 2, [32.0] * 2, [1.0] * 2),
        NUMBERS,
        Stream("params/fc/bias", "index", [1, 1], [0, 0], [0.0] * 2, [0.0] * 2, [0.0] * 2),
        Stream("batch_stats/bn/mean", "other", [1, 3], [0, 0], [0.0] * 2, [0.0] * 2, [0.0] * 2),
    ],
)


def first_level(**changes):
    return dataclasses.replace(PRUNED, **{"name": "prune-01", "parent": "original"} | changes)


def made(*networks, folder="run"):
    return Results("run", results.Path(folder), {}, {}, [FULL, *networks])


def write(folder, *networks):
    """A run folder as the command leaves it."""
    about = {"command": "compress", "config": CONFIG, "commit": "0"}
    (folder / "config.json").write_text(json.dumps(about))
    for network in networks:
        metadata = dataclasses.asdict(network)
        masked = metadata.pop("masked")
        if not network.validation:
            del metadata["validation"]
        kernel = np.array([[[0.9, 0, 1.1], [0, -0.8, 0]], [[2, 0, 2], [0, 0, 0]]], np.float32)
        if network.bits:
            kernel = np.sign(kernel)
        params = {"fc": {"kernel": kernel, "bias": np.zeros((2, 3), np.float32)}}
        tree = {"variables": {"params": params}, "mask": dict.fromkeys(masked, kernel != 0)}
        Run(folder).unit(f"networks/{network.name}").finish(tree, metadata)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, FULL, first_level(), PRUNED, QUANTISED)


def test_the_front_is_what_no_other_point_beats():
    costs = [5, 1, 3, 3, 2, 1, 5, 4]
    worth = [9, 2, 5, 6, 1, 2, 9, 6]
    #        ✓  ✓  .  ✓  .  =  =  .     "=" equals an earlier one
    assert pareto(costs, worth) == [1, 3, 0]
    assert pareto([], []) == []


def test_the_smallest_is_chosen_by_validation_among_those_that_lose_no_more():
    changes = {"bytes": [9, 9], "validation": [0.84, 0.84], "test": [1.0, 1.0]}
    worse = dataclasses.replace(QUANTISED, name="worse", **changes)
    run = made(PRUNED, QUANTISED, worse)
    assert run.smallest(0.0) is QUANTISED
    assert run.smallest(0.01) is worse  # 0.85 − 0.01
    assert run.smallest(0.009) is QUANTISED
    assert run.chosen() == [QUANTISED, worse]
    better = dataclasses.replace(QUANTISED, validation=[0.9, 0.9])
    assert made(QUANTISED, better).chosen() == [better]
    assert made(dataclasses.replace(worse, validation=[0.8, 0.8])).chosen() == []


def test_without_validation_the_test_split_chooses_and_the_report_says_so():
    original = dataclasses.replace(FULL, validation=[])
    small = dataclasses.replace(QUANTISED, validation=[], test=[0.9, 0.9])
    smaller = dataclasses.replace(small, name="worse", bytes=[1, 1], test=[0.7, 0.7])
    run = dataclasses.replace(made(), networks=[original, small, smaller])
    assert run.chosen() == [small]
    assert tables.remarks(run)[2].startswith("there is no validation split")
    assert [row[5] for row in tables.networks(run)[1]] == ["", "", ""]


def test_what_to_take_is_said_with_its_files_and_that_there_is_none():
    said = tables.remarks(made(QUANTISED))
    assert said == [
        f"smallest {words}: prune-02+quantize-2: 135 bytes, 7.4 times smaller; test accuracy "
        "0.8000±0.0707, the original's 0.8000±0.0707; files: "
        "run/files/prune-02+quantize-2/0.cna … 1.cna"
        for words in ("at no loss", "within one point")
    ]
    (none, _) = tables.remarks(made(dataclasses.replace(QUANTISED, validation=[0.5, 0.5])))
    assert none == (
        "smallest at no loss: none of 1 networks; the original has 0.8500±0.0707 on validation"
    )


def test_networks_are_shown_with_what_is_kept_bits_bytes_and_accuracy():
    mixed = dataclasses.replace(QUANTISED, bits={"a": 8, "b": 3, "c": 4}, bytes=[2000, 3000])
    header, rows = tables.networks(made(PRUNED, QUANTISED, mixed))
    assert header == ["network", "kept", "bits", "bytes", "×", "validation", "test"]
    accuracies = ["0.8500±0.0707", "0.8000±0.0707"]
    assert rows == [
        ["original", "", "", "950", "1.05", *accuracies],
        ["prune-02", "0.4167", "", "500", "2.00", *accuracies],  # 5 of 2 × 6
        ["prune-02+quantize-2", "0.4167", "2", "135", "7.41", *accuracies],
        ["prune-02+quantize-2", "0.4167", "3–8", "2,500", "0.40", *accuracies],
    ]


def test_density_counts_the_leaves_that_have_a_mask():
    both = dataclasses.replace(PRUNED, masked=["fc/bias", "fc/kernel"])
    assert both.density() == pytest.approx(11 / 18)  # 3 + 2 of 12, 3 + 3 of 6
    assert both.density("fc/bias") == 1.0
    assert PRUNED.density("fc/bias") is None


def test_stages_are_those_of_the_name_from_float32_on():
    first = dataclasses.replace(PRUNED, name="prune-1", parent="original")
    tenth = dataclasses.replace(PRUNED, name="prune-10", parent="prune-1")
    last = dataclasses.replace(QUANTISED, name="prune-10+quantize-2", parent="prune-10")
    _, rows = tables.stages(made(first, tenth, last), last)
    assert [row[0] for row in rows] == ["float32 numbers", "original", "prune-10", "quantize-2"]
    assert [row[3] for row in rows] == ["1,000", "950", "500", "135"]


def test_layers_show_bits_before_and_after_and_all_bytes():
    header, rows = tables.layers(QUANTISED)
    assert header == ["layer", "weights", "kept", "bits per weight", "bits per index", "bytes", "×"]
    # of 3 and 1 symbols: (3 × 2.5 + 4.5) / 4 and (3 × 1.5 + 0.5) / 4
    bits = ["2.00 → 3.00 (1.25)", "5.00 → 4.00 (2.00)"]
    assert rows == [
        ["fc/kernel", "6", "0.4167", *bits, "12", "2.00"],
        ["fc/bias", "3", "", "", "", "1", ""],
        ["batch_stats/bn/mean", "", "", "", "", "2", ""],
        ["numbers of several arrays", "", "", "", "", "20", ""],
        ["header", "", "", "", "", "100", ""],
        ["total", "9", "0.4167", *bits, "135", "7.41"],
    ]


def test_replicates_that_store_an_array_in_different_ways_have_a_row_each():
    gaps = Stream("params/fc/kernel", "index", [2, 0], [4, 0], [5.0, 0.0], [4.0, 0.0], [2.0, 0.0])
    weights = Stream("params/fc/kernel", "weights", [3, 4], [3, 6], [2, 2], [8.0, 5.5], [1.5, 0.5])
    both = dataclasses.replace(QUANTISED, streams=[HEADER, gaps, weights, NUMBERS])
    _, rows = tables.layers(both)
    assert rows[:3] == [
        ["fc/kernel (replicate 0)", "6", "0.5000", "2.00 → 8.00 (1.50)", "5.00 → 4.00 (2.00)", "5",
         "4.80"],
        ["fc/kernel (replicate 1)", "6", "0.3333", "2.00 → 5.50 (0.50)", "", "4", "6.00"],
        ["fc/bias", "3", "", "", "", "", ""],
    ]  # fmt: skip
    assert rows[-1][3:5] == ["", "5.00 → 4.00 (2.00)"]  # kept weights and all have no mean


def test_times_are_the_originals_then_its_own():
    counted = dataclasses.replace(QUANTISED, multiply_adds=1234567)
    header, rows = tables.times([counted, PRUNED])
    assert header[1:3] == ["load, s", "1 example: original, ms"]
    assert rows[0] == [
        "prune-02+quantize-2",
        "0.250",
        "0.500",
        "0.250",
        "0.50",
        "8.000",
        "2.000",
        "0.25",
        "1,234,567",
    ]
    assert rows[1] == ["prune-02", "0.250", *[""] * 7]


def test_lines_are_of_one_setting():
    def network(name, stage, parent="original", size=1):
        return dataclasses.replace(FULL, name=name, stage=stage, parent=parent, bytes=[size] * 2)

    found = plots.lines(
        made(
            network("prune-01", "prune", size=5),
            network("prune-02", "prune", "prune-01", size=4),
            network("prune-01+quantize-4", "quantize", "prune-01", size=3),
            network("prune-02+quantize-4", "quantize", "prune-02", size=2),
            network("prune-02+quantize-5", "quantize", "prune-02"),
            network("quantize-4", "quantize"),
            network("quantize-5", "quantize", size=2),
            network("factorize-0.5", "factorize"),
            network("factorize-0.5+prune-03", "prune", "factorize-0.5"),
        )
    )
    assert {label: [n.name for n in own] for label, own in found.items()} == {
        "prune": ["prune-02", "prune-01"],
        "prune + quantize-4": ["prune-02+quantize-4", "prune-01+quantize-4"],
        "prune + quantize-5": ["prune-02+quantize-5"],
        "quantize": ["quantize-4", "quantize-5"],
        "factorize": ["factorize-0.5"],
        "factorize-0.5 + prune": ["factorize-0.5+prune-03"],
    }


def test_of_many_leaves_bars_show_the_front_and_the_chosen():
    def leaf(size, accuracy):
        changes = {"bytes": [size] * 2, "test": [accuracy] * 2, "validation": [accuracy] * 2}
        return dataclasses.replace(QUANTISED, name=f"quantize-{size}", **changes)

    few = [leaf(size, 0.9) for size in range(1, 13)]
    assert [n.mean_bytes for n in plots.bars(made(*few))] == list(range(12, 0, -1))
    collapsed = leaf(0.5, 0.1)
    assert collapsed not in plots.bars(made(*few, collapsed))
    many = [leaf(size, 0.9 + size / 1000) for size in range(1, 31)]
    shown = plots.bars(made(*many, leaf(31, 0.9)))
    assert len(shown) == 12
    assert [shown[0].mean_bytes, *(n.mean_bytes for n in shown[-2:])] == [30, 2, 1]


def test_of_many_leaves_the_chosen_alone_are_shown_one_by_one():
    few = [dataclasses.replace(QUANTISED, name=f"quantize-{bits}") for bits in range(12)]
    assert report._few(made(*few), [few[1], PRUNED]) == [few[1], PRUNED, few[0], *few[2:]]
    assert report._few(made(*few, QUANTISED), [few[1], PRUNED]) == [few[1], PRUNED]


def test_kinds_of_bytes_add_up():
    found = {kind: plots._bytes_of(QUANTISED, kind) for kind in plots.KINDS}
    assert found == {"weights": 1.5, "index": 3, "codebook": 8.5, "other": 22, "header": 100}
    assert sum(found.values()) == QUANTISED.mean_bytes


def test_a_run_is_read_back_the_original_first(tmp_path):
    last = dataclasses.replace(QUANTISED, name="quantize-10", parent="original")
    other = dataclasses.replace(last, name="quantize-9")
    student = dataclasses.replace(PRUNED, name="distill", parent="original", masked=[])
    write(tmp_path, last, other, QUANTISED, PRUNED, student, FULL)
    run = results.read(tmp_path)
    assert run.networks == [FULL, student, PRUNED, other, last, QUANTISED]
    assert run.leaves == [other, last, QUANTISED]
    assert (run.config, run.about) == (CONFIG, {"command": "compress", "commit": "0"})


def test_variables_are_loaded_by_a_networks_name(folder):
    kernel = results.parameter(results.load(folder, "prune-02+quantize-2"), "fc/kernel")
    np.testing.assert_array_equal(kernel[1], [[1, 0, 1], [0, 0, 0]])
    with pytest.raises(UserError, match=r"has no finished networks/prune-09 .*networks/prune-01"):
        results.load(folder, "prune-09")


def test_weights_are_those_before_quantisation_and_values_those_after(folder):
    run = results.read(folder)
    before, after = plots._quantised(run, run.networks[-1])["fc/kernel"]
    np.testing.assert_allclose(before, [0.9, 1.1, -0.8])
    assert after.tolist() == [-1, 1]
    assert plots._quantised(run, run.networks[1]) == {}


def test_the_report_prints_tables_draws_figures_and_writes_a_page(folder, capsys, chromium):
    report.show([folder])
    printed = capsys.readouterr().out
    for text in ("networks", "measured times", "stages of", "layers of", "smallest at no loss"):
        assert text in printed
    names = {path.name for path in (folder / "figures").glob("*.png")}
    assert names == {"accuracy.png", "bytes.png", "weights_prune-02+quantize-2.png"}
    page = (folder / "report.html").read_text()
    assert page.count("</figure>") == 3
    assert "Layers of prune-02+quantize-2" in page
    browser.check(chromium, folder / "report.html")


def test_an_unfinished_run_shows_what_is_there(tmp_path, capsys):
    write(tmp_path, dataclasses.replace(FULL, validation=[]))
    report.show([tmp_path])
    assert "none of 0 networks" in capsys.readouterr().out
    assert "</figure>" not in (tmp_path / "report.html").read_text()


def test_a_run_without_an_original_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no readable run"):
        results.read(tmp_path)
    write(tmp_path, PRUNED)
    with pytest.raises(UserError, match="has no finished original network yet"):
        results.read(tmp_path)


class TestComparison:
    """Two runs beside each other, of which one has no network that is accurate enough."""

    @pytest.fixture
    def folders(self, tmp_path):
        folders = [tmp_path / "one", tmp_path / "two"]
        worse = dataclasses.replace(QUANTISED, validation=[0.5, 0.5])
        for folder, networks in zip(folders, ((PRUNED, QUANTISED), (worse,)), strict=True):
            folder.mkdir()
            write(folder, FULL, *networks)
        return folders

    def test_there_is_a_row_for_each_run(self, folders):
        compared = report.compare(folders)
        assert compared.header == ["original", "at no loss", "within one point"]
        smallest = "135 B, 0.800±0.071"
        assert compared.rows == [
            ["0.800±0.071", smallest, smallest],
            ["0.800±0.071", "none", "none"],
        ]

    def test_there_is_a_record_for_each_network(self, folders):
        records = report.compare(folders).records
        assert [(record["run"], record["network"], record["bytes"]) for record in records] == [
            ("one", "original", 950),
            ("one", "prune-02", 500),
            ("one", "prune-02+quantize-2", 135),
            ("two", "original", 950),
            ("two", "prune-02+quantize-2", 135),
        ]
        assert [record["parameters"] for record in records] == [9, 6, 6, 9, 6]  # 2.5 + 3 → 6
        for record in records:
            assert record["replicates"] == 2
            assert record["accuracy_mean"] == pytest.approx(0.8)
            assert record["accuracy_deviation"] == pytest.approx(0.1 / 2**0.5)

    def test_the_page_lies_beside_the_first_run_and_shows_all(self, folders, tmp_path):
        page = report.compare(folders).page
        assert page == tmp_path / "comparison/report.html"
        text = page.read_text()
        assert text.count("</figure>") == 1
        assert "<th scope='row'>one</th><td>0.800±0.071</td><td>135 B, 0.800±0.071</td>" in text
        for run in map(results.read, folders):
            assert f"<h2>{run.name}</h2>{page_lib.table(*tables.networks(run))}" in text

    def test_the_figure_has_a_curve_for_each_run(self, folders, monkeypatch):
        drawn, drawing = {}, comparison.draw

        def draw(curves, cost, path, metric):
            drawn.update({curve.label: curve for curve in curves})
            return drawing(curves, cost, path, metric)

        monkeypatch.setattr(comparison, "draw", draw)
        report.compare(folders)
        assert {name: curve.costs for name, curve in drawn.items()} == {
            "one": [950, 500, 135],
            "two": [950, 135],
        }
        assert drawn["one"].accuracies == [[0.75, 0.85]] * 3


class TestOfAnError:
    """A run that is judged by an error: the lower, the better."""

    @staticmethod
    def judged(*networks):
        about = {"metric": {"name": "mean_squared_error", "higher_is_better": False}}
        return dataclasses.replace(made(*networks), about=about)

    def test_choices_and_the_front_prefer_less(self):
        half, twice, near = (
            dataclasses.replace(QUANTISED, name=name, bytes=[size] * 2, validation=e, test=e)
            for name, size, e in (
                ("half", 300, [0.4, 0.5]),
                ("twice", 100, [1.6, 1.8]),
                ("near", 200, [0.85, 0.865]),  # 0.9 % more than the original's 0.85
            )
        )
        run = self.judged(half, twice, near)
        assert run.smallest(0.0) is half
        assert list(run.losses) == ["at no loss", "within one per cent"]
        assert run.chosen() == [half, near]
        assert [network.name for network in run.front()] == ["twice", "near", "half"]

    def test_tables_and_figures_name_it(self, tmp_path):
        run = self.judged(QUANTISED)
        assert "test mean squared error 0.8000" in tables.remarks(run)[0]
        _, caption = plots.accuracy(run, tmp_path / "error.png")
        assert caption.startswith("Test mean squared error against")
        assert "accuracy" not in caption
        record = report._record("run", QUANTISED, run.metric)
        assert record["mean_squared_error_mean"] == pytest.approx(0.8)

    def test_it_is_not_compared_with_accuracies(self):
        runs = [self.judged(), made()]
        with pytest.raises(UserError, match=r"different measures \(accuracy, mean squared error\)"):
            comparison.metric_of(runs)
