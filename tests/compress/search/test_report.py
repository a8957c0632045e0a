"""Tables, figures and remarks of a search whose candidates are made up."""

import dataclasses

import numpy as np
import pytest

from compress.results import Network
from compress.search import plots, results, tables
from compress.search.results import Results
from compress.search.settings import Setting
from tests.compress.search.small import candidate
from tests.compress.test_report import FULL, PRUNED

CONFIG = {
    "budget": dict.fromkeys(results.COSTS, 0) | {"bytes": 200},
    "accuracy": {"loss": -1.0, "cost": "bytes"},
    "search": {"baselines": [], "seconds": 0.0, "steps": 10},
}
ORIGINAL = dataclasses.replace(FULL, validation=[0.9, 0.9])
HALF = {"fc": Setting(density=0.5, bits=3)}
MADE = [
    candidate(0, HALF, (0.9, 500), origin="analytic"),
    candidate(1, HALF, (0.8, 600), origin="uniform"),
    candidate(2, failed="ValueError: no such luck"),
    candidate(3, HALF, (0.85, 100), (0.88, 100), origin="nsga2"),
]


def made(folder, candidates=MADE, chosen: Network | None = PRUNED):
    return Results(
        "run", folder, CONFIG, {}, original=ORIGINAL, candidates=candidates, chosen=chosen,
        candidate=3, longer=True, before=2.0,
    )  # fmt: skip


def test_the_hypervolume_is_counted_from_the_originals_float32_numbers(tmp_path):
    run = made(tmp_path)
    # 1000 bytes and 0.86 are the corner: 0.04 at 500, and 0.02 more times at 100
    expected = 0.02 * np.log10(10) + 0.02 * np.log10(2)
    assert run.volume("bytes") == pytest.approx(expected)
    assert run.volume("bytes", 3) == pytest.approx(0.04 * np.log10(2))
    assert run.volume("bytes", 0) == 0


def test_the_table_of_candidates_has_those_that_failed(tmp_path):
    header, rows = tables.candidates(made(tmp_path))
    assert header[:4] == ["candidate", "from", "proposed by", "rounds"]
    assert rows[2] == ["0002", "original", "random", "", "", "failed", "1.0"]
    assert rows[3] == ["0003", "original", "nsga2", "2", "100", "0.8800", "1.0"]
    header, rows = tables.front(made(tmp_path))
    assert [row[0] for row in rows] == ["0003", "0000"]


def test_remarks_say_what_was_found_failed_and_spent(tmp_path):
    lines = tables.remarks(made(tmp_path))
    assert lines[0].startswith("chosen: candidate 0003 and more training: 500 bytes, 2.0 times")
    assert f"--config.search.choice={tmp_path}/choice.json" in lines[1]
    assert "candidate 0002 failed: ValueError: no such luck" in lines
    assert lines[-1] == "3 candidates took 6 seconds, 2 of them to know the layers"
    late = [*MADE[:2], candidate(2, failed="search.seconds=5 are over")]
    lines = tables.remarks(made(tmp_path, late, None))
    assert lines[-2].startswith("2 of 3 candidates were evaluated before search.seconds=")
    assert not any("failed" in line for line in lines)


def test_a_layer_has_what_is_done_to_it_and_what_is_left(tmp_path):
    _, rows = tables.layers(made(tmp_path))
    assert rows == [["fc", "density 0.5, 3 bits", "2", "6"]]  # 3 and 2 of the replicates


def test_figures_are_drawn_and_captions_name_what_is_there(tmp_path):
    run = made(tmp_path)
    path, caption = plots.fronts(run, tmp_path / "front.png")
    assert path.stat().st_size > 1000
    assert "Validation accuracy" in caption
    path, caption = plots.layers(run, tmp_path / "layers.png")
    assert path.stat().st_size > 1000
    path, caption = plots.progress(
        {"run": run, "other": made(tmp_path, MADE[:2])}, tmp_path / "p.png"
    )
    assert path.stat().st_size > 1000
    assert plots.layers(made(tmp_path, chosen=None), tmp_path / "none.png") is None


def test_the_files_of_a_run_are_its_front_and_its_choice(tmp_path):
    results.write(made(tmp_path))
    assert (tmp_path / "front.csv").read_text() == (
        "network,accuracy,bytes\ncandidates/0003,0.880000,100\ncandidates/0000,0.900000,500\n"
    )
    from compress.search import lineage

    found = lineage.read(str(tmp_path / "choice.json"))
    assert found == lineage.Lineage((lineage.Ancestor(HALF, 2),), longer=True)
