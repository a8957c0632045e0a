"""The command, end to end, on a tiny network: files, stages, continuing, errors."""

import csv
import errno
import functools
import json
import re
import shutil

import jax
import numpy as np
import pytest

import compress
from compress import made, main, results, sensitivity
from compress.search import change
from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.runs import metrics, trained
from groundwork.runs.run import Run
from groundwork.runs.unit import Unit
from tests import steps
from tests.compress import small
from tests.conftest import ROOT
from tests.lottery.small import assert_same_tree

pytestmark = pytest.mark.slow

LAST = "prune-02+quantize-3"


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compress") / "run"
    return folder, small.run(folder)


def original(folder, name="original"):
    """Arguments that take a network of a run as the original."""
    return f"--config.source.path={folder}", f"--config.source.unit=networks/{name}"


def metadata(folder, name):
    return Run(folder).unit(f"networks/{name}").result()[1]


def accuracy(folder, apply, variables):
    """Of one network, counted by hand."""
    dataset = data_lib.load(json.loads((folder / "config.json").read_text())["config"])
    inputs = data_lib.normalize(dataset, jax.numpy.asarray(dataset.test.inputs))
    return (np.asarray(apply(variables, inputs)).argmax(-1) == dataset.test.labels).mean()


def test_the_files_are_what_the_report_says(finished):
    folder, printed = finished
    for name in ("original", "prune-01", "prune-02", LAST):
        assert name in printed
        found = metadata(folder, name)
        for r in range(2):
            path = folder / f"files/{name}/{r}.cna"
            assert path.stat().st_size == found["bytes"][r]
            apply, variables = compress.load(path)
            assert accuracy(folder, apply, variables) == pytest.approx(found["test"][r], abs=1e-6)
            assert sum(row["bytes"][r] for row in found["streams"]) == found["bytes"][r]
    assert (folder / "report.html").exists()


def test_a_run_holds_what_its_files_hold(finished):
    folder, _ = finished
    saved = results.load(folder, LAST)
    for r in range(2):
        _, variables = compress.load(folder / f"files/{LAST}/{r}.cna")
        assert_same_tree(jax.tree.map(lambda leaf, r=r: leaf[r], saved), to_numpy(variables))


def test_the_file_of_each_replicate_is_as_good_as_its_training_ended(finished):
    folder, _ = finished
    ends = [row for row in rows(folder) if row["split"] == "test" and row.get("at") == "end"]
    for name in ("original", "prune-01", "prune-02"):
        own = [row["accuracy"] for row in ends if row["unit"] == f"networks/{name}"]
        assert own == pytest.approx(metadata(folder, name)["test"], abs=1e-6)


def rows(folder):
    found = metrics.read(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def to_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def test_pruned_weights_are_zero_and_kept_ones_as_many_as_asked(finished):
    folder, _ = finished
    tree, found = Run(folder).unit(f"networks/{LAST}").result()
    for path, size in found["sizes"].items():
        layer, leaf = path.split("/")
        kept = size - round(0.5 * size)
        kept -= round(0.5 * kept)  # two levels
        assert found["kept"][path] == [kept if leaf == "kernel" else size] * 2
        if leaf == "kernel":
            values = tree["variables"]["params"][layer][leaf]
            assert not values[~tree["mask"][path]].any()
            for own in values:
                assert len(np.unique(own)) <= 2**3


def test_kept_weights_are_counted_for_each_replicate():
    kernel = np.float32([[[1, 2], [3, 4]], [[5, 0], [0, 0]]])
    params = {"fc": {"kernel": kernel, "bias": np.zeros((2, 2), np.float32)}}
    assert made.counts(params, {"fc/kernel": kernel != 0}) == {
        "sizes": {"fc/bias": 2, "fc/kernel": 4},
        "kept": {"fc/bias": [2, 2], "fc/kernel": [4, 1]},
    }
    assert made.parameters(params, {"fc/kernel": kernel != 0}) == [6, 3]


def assert_rows_count_what_the_files_keep(folder):
    rows = metrics.read(folder / "metrics.jsonl")
    for network in results.read(folder).networks:
        own = [row for row in rows if row["unit"] == f"networks/{network.name}"]
        said = {(row["replicate"], row["parameters"]) for row in own}
        if own:  # a network of another run is not trained
            assert said == set(enumerate(network.parameters)), network.name


def test_rows_say_how_many_parameters_are_kept(finished):
    folder, _ = finished
    assert_rows_count_what_the_files_keep(folder)
    dense, pruned, quantised = (
        network.parameters
        for network in results.read(folder).networks
        if network.name in ("original", "prune-02", LAST)
    )
    assert pruned == quantised
    assert max(pruned) < 0.4 * min(dense)  # of a rate of 0.5, twice; biases are kept


def test_each_stage_makes_the_file_smaller(finished):
    folder, _ = finished
    sizes = [np.mean(metadata(folder, n)["bytes"]) for n in ("original", "prune-02", LAST)]
    assert sizes[1] < 0.4 * sizes[0]
    assert sizes[2] < 0.6 * sizes[1]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(finished, tmp_path, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    for stop, place in ((10, "prune-01, step 40"), (9, f"{LAST}, step 10")):
        looks = iter(range(1000))
        reached = functools.partialmethod(lambda self, stop, at: next(at) == stop, stop, looks)
        monkeypatch.setattr(Interruption, "reached", reached)
        with pytest.raises(Interrupted, match=rf"networks/{re.escape(place)}"):
            small.train(tmp_path / "run")
    monkeypatch.setattr(Interruption, "reached", lambda self: False)
    monkeypatch.setattr(Unit, "finish", dies)  # when the files are there
    with pytest.raises(KeyboardInterrupt):
        small.train(tmp_path / "run")
    assert (tmp_path / "run" / f"files/{LAST}/1.cna").exists()
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    small.train(tmp_path / "run")
    assert rows(tmp_path / "run") == rows(finished[0])
    for r in range(2):
        path = f"files/{LAST}/{r}.cna"
        assert (tmp_path / "run" / path).read_bytes() == (finished[0] / path).read_bytes()


def test_a_damaged_network_is_made_again_and_more_bits_extend_a_run(finished, tmp_path):
    folder = tmp_path / "run"
    quantised = (*original(finished[0]), "--config.stages=('quantize',)")
    small.train(folder, *quantised)
    before = metadata(folder, "quantize-3")["test"]
    manifest = next((folder / "checkpoints/networks/quantize-3/final").rglob("manifest*"))
    manifest.write_text("{}")
    small.train(folder, *quantised, "--config.quantize.bits=(3, 2)")
    assert metadata(folder, "quantize-3")["test"] == before
    assert metadata(folder, "quantize-2")["bits"] == {
        "fc1/kernel": 2,
        "fc2/kernel": 2,
        "output/kernel": 2,
    }


def test_a_file_that_is_lost_is_made_again(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    gone, damaged = (folder / f"files/{name}/1.cna" for name in (LAST, "prune-01"))
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    small.train(folder)
    for path in (gone, damaged):
        same = finished[0] / path.relative_to(folder)
        assert path.read_bytes() == same.read_bytes()
    log = (folder / "run.log").read_text()
    assert f"{gone}: there is no such file; networks/{LAST} is done again" in log
    assert "networks/prune-01 is done again" in log
    assert sorted(map(str, rows(folder))) == sorted(map(str, rows(finished[0])))


def test_layers_are_tied_factorised_pruned_and_quantised_in_one_run(tmp_path):
    folder = tmp_path / "run"
    small.train(
        folder,
        "--config.model.name=residual_mlp",
        "--config.stages=('share', 'factorize', 'prune', 'quantize')",
        "--config.model.width=0.128",  # 64 units, as many as there are pixels
        "--config.share.groups=(('fc1', 'fc2'),)",
        "--config.prune.rewind=none",
        "--config.prune.levels=(1,)",
        "--config.quantize.activation_bits=8",
        "--config.factorize.method=svd",
    )
    assert_rows_count_what_the_files_keep(folder)
    name = "share+factorize-0.5+prune-01+quantize-3"
    found = metadata(folder, name)
    assert found["plan"]
    assert set(found["activations"].values()) == {8}
    apply, variables = compress.load(folder / f"files/{name}/1.cna")
    assert accuracy(folder, apply, variables) == pytest.approx(found["test"][1], abs=1e-6)


@pytest.mark.parametrize(("method", "values"), [("uniform", 2**3 - 1), ("ternary", 3)])
def test_latent_weights_are_trained_and_stored_in_few_values(method, values, finished, tmp_path):
    folder = tmp_path / "run"
    small.train(
        folder,
        *original(finished[0]),
        "--config.stages=('quantize',)",
        f"--config.quantize.method={method}",
        "--config.quantize.gradient_bits=8",
        "--config.fine_tune.steps=200",
        "--config.fine_tune_optimizer.learning_rate=3e-3",
    )
    assert_rows_count_what_the_files_keep(folder)
    name = "quantize-3" if method == "uniform" else "quantize"
    for leaf in jax.tree.leaves(results.load(folder, name)["params"]):
        if leaf.ndim == 3:
            assert len(np.unique(leaf[0])) <= values
    before, after = (np.mean(metadata(folder, own)["test"]) for own in ("original", name))
    assert after > before - 0.1


def test_a_pruned_network_comes_from_a_run_and_stays_pruned(finished, tmp_path):
    folder = tmp_path / "run"
    small.train(
        folder,
        *original(finished[0], "prune-02"),
        "--config.stages=('quantize',)",
    )
    theirs, own = (metadata(f, n) for f, n in ((finished[0], "prune-02"), (folder, "quantize-3")))
    assert own["kept"] == theirs["kept"]
    assert metadata(folder, "original")["test"] == theirs["test"]


def test_rounds_of_assignment_make_files_smaller_and_continue_where_they_stopped(
    finished, tmp_path, monkeypatch
):
    arguments = (
        *original(finished[0], "prune-02"),
        "--config.stages=('quantize',)",
        "--config.quantize.rate=0.2",
        "--config.quantize.rate_rounds=2",
        "--config.quantize.rate_importance=gradients",
    )
    small.train(tmp_path / "whole", *arguments)
    looks = iter(range(1000))
    reached = functools.partialmethod(lambda self, at: next(at) == 3, looks)
    monkeypatch.setattr(Interruption, "reached", reached)
    with pytest.raises(Interrupted, match="networks/quantize-3, step 10"):
        small.train(tmp_path / "run", *arguments)
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    small.train(tmp_path / "run", *arguments)
    assert_rows_count_what_the_files_keep(tmp_path / "run")
    for r in range(2):
        for name in ("quantize-3-round-1", "quantize-3"):
            one, other = (tmp_path / f / f"files/{name}/{r}.cna" for f in ("run", "whole"))
            assert one.read_bytes() == other.read_bytes()
        usual = finished[0] / f"files/{LAST}/{r}.cna"
        assert one.stat().st_size < 0.9 * usual.stat().st_size
    was, now = (
        results.load(folder, name)["params"]
        for folder, name in ((finished[0], "prune-02"), (tmp_path / "run", "quantize-3"))
    )
    for layer in ("fc1", "fc2", "output"):
        assert not np.asarray(now[layer]["kernel"])[np.asarray(was[layer]["kernel"]) == 0].any()


def test_an_ensemble_of_runs_teaches_a_narrower_student(finished, tmp_path):
    folder = tmp_path / "run"
    small.train(
        folder,
        *original(finished[0], "prune-01"),
        "--config.stages=('distill', 'quantize')",
        f"--config.distill.teachers=('before', '{finished[0]}:networks/prune-01')",
        "--config.distill.model={'name': 'lenet_300_100', 'width': 0.05}",
        "--config.distill.init=shrink",
        "--config.distill.during=('quantize',)",
        "--config.mesh.replicate=2",
        "--config.mesh.data=2",
    )
    name = "distill+quantize-3"
    assert metadata(folder, name)["model"]["width"] == 0.05
    assert metadata(folder, name)["sizes"]["fc1/kernel"] == 64 * 15
    assert metadata(folder, "original")["sizes"]["fc1/kernel"] == 64 * 30


def test_bits_of_a_budget_go_where_they_are_needed(finished, tmp_path):
    folder = tmp_path / "run"
    small.train(
        folder,
        *original(finished[0]),
        "--config.stages=('quantize',)",
        "--config.quantize.mixed=true",
        "--config.quantize.method=uniform",
        "--config.quantize.layers={'output': 8}",
        "--config.quantize.bits=(2.5,)",
    )
    found = metadata(folder, "quantize-2.5")
    bits, sizes = found["bits"], found["sizes"]
    assert bits["output/kernel"] == 8
    free = ("fc1/kernel", "fc2/kernel")
    assert sum(bits[p] * sizes[p] for p in free) <= 2.5 * sum(sizes[p] for p in free)
    assert len({bits[p] for p in free}) == 2


REFUSED = {
    "teacher that is not there": (
        ["--config.stages=('distill',)", "--config.distill.teachers=('nowhere',)"],
        "nowhere",
    ),
    "levels that empty a layer": (["--config.prune.levels=(40,)"], "set prune.levels of "),
    "a rate that prunes nothing": (["--config.prune.rate=0"], "or leave out the stage prune"),
    "groups of other shapes": (
        ["--config.stages=('share',)", "--config.share.groups=(('fc1', 'fc2'),)"],
        "share.groups",
    ),
    "teacher of a student of factors": (
        [
            "--config.stages=('factorize', 'distill')",
            "--config.factorize.method=svd",
            "--config.distill.teachers=('nowhere',)",
        ],
        "nowhere",
    ),
    "a wider student": (
        [
            "--config.stages=('distill',)",
            "--config.distill.init=shrink",
            "--config.distill.model={'name': 'lenet_300_100', 'width': 0.2}",
        ],
        "distill.init='shrink': fc1 has 30 units and cannot shrink to 60: params/fc1/kernel of "
        "shape (64, 30) cannot become (64, 60)",
    ),
    "a student of another family": (
        [
            "--config.stages=('distill',)",
            "--config.distill.init=shrink",
            "--config.distill.model={'name': 'residual_mlp', 'width': 0.05}",
        ],
        "distill.init='shrink': params/fc1/kernel of shape (64, 30) cannot become (64, 25)",
    ),
    "a pattern of no layer": (
        ["--config.stages=('factorize',)", "--config.factorize.leave=('fc9',)"],
        "factorize.leave",
    ),
    "all layers left": (
        ["--config.stages=('factorize',)", "--config.factorize.leave=('*',)"],
        "no layer is left",
    ),
    "layers without bits": (["--config.quantize.layers={'conv*': 4}"], "matches none of"),
    "a budget below rank 1": (
        ["--config.stages=('factorize',)", "--config.factorize.shares=(0.001,)"],
        "factorize.shares",
    ),
    "nothing prunable": (["--config.prune.prunable=('conv*',)"], "matches none of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_trained(case, tmp_path):
    arguments, message = REFUSED[case]
    with pytest.raises(UserError) as refused:
        small.run(tmp_path / "run", *arguments)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run" / "checkpoints").exists()


OTHER_DATA = [
    ("standardize=false", r"data\.standardize=True, not False"),
    ("split_seed=7", r"data\.split_seed=0, not 7"),  # it has seen validation images
]


@pytest.mark.parametrize(("override", "said"), OTHER_DATA)
def test_a_teacher_of_other_data_is_refused(override, said, finished, tmp_path):
    with pytest.raises(UserError, match=rf"^distill\.teachers: .* was trained with {said}"):
        small.run(
            tmp_path / "run",
            "--config.stages=('distill',)",
            f"--config.distill.teachers=('{finished[0]}:networks/original',)",
            f"--config.data.{override}",
        )


@pytest.mark.parametrize(("override", "said"), OTHER_DATA)
def test_a_source_of_other_data_is_refused(override, said, finished, tmp_path):
    with pytest.raises(UserError, match=rf"^source\.path: .* was trained with {said}"):
        small.run(
            tmp_path / "run",
            *original(finished[0]),
            "--config.stages=('quantize',)",
            f"--config.data.{override}",
        )
    assert not (tmp_path / "run").exists()


def test_variables_of_a_file_are_compressed(finished, tmp_path):
    theirs = results.load(finished[0], "original")
    trained.save(tmp_path / "one.npz", jax.tree.map(lambda leaf: leaf[0], theirs))
    small.train(
        tmp_path / "run",
        f"--config.source.path={tmp_path / 'one.npz'}",
        "--config.prune.rewind=none",
        "--config.prune.levels=(1,)",
    )
    own = metadata(tmp_path / "run", "original")["test"]
    assert own == [metadata(finished[0], "original")["test"][0]] * 2


def test_sensitivities_of_a_run_are_drawn_kept_and_extended(
    finished, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    few = {"density": (0.5, 0.02), "bits": (6, 1), "units": (0.5,), "rank": (), "inputs": ()}
    monkeypatch.setattr(sensitivity, "VALUES", few)
    asked = [str(folder), "--examples=200"]
    sensitivity.main([*asked, "--kinds=density,bits"])
    printed = capsys.readouterr().out
    with open(folder / "sensitivity.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["kind"], row["value"]) for row in rows[:4]] == [
        ("fc1", "density", "0.5"),
        ("fc1", "density", "0.02"),
        ("fc1", "bits", "6.0"),
        ("fc1", "bits", "1.0"),
    ]
    by_name = {(row["layer"], row["setting"]): float(row["loss_increase"]) for row in rows}
    assert by_name["fc2", "1 bits"] > 10 * abs(by_name["fc2", "6 bits"])
    assert (folder / "figures/sensitivity.png").stat().st_size > 10_000
    assert "figure: " in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert "\\n" not in printed

    measured = []
    monkeypatch.setattr(
        change,
        "changed",
        lambda one, layer, setting, criterion: measured.append((layer, setting)) or one.variables,
    )
    sensitivity.main([*asked, "--kinds=density,bits,units"])
    assert {(layer, str(setting)) for layer, setting in measured} == {
        ("fc1", "0.5 of the units"),
        ("fc2", "0.5 of the units"),
    }
    for flags, message in (
        (["--kinds=depth"], "--kinds=depth: 'depth' is none of density"),
        (["--unit=networks/none"], "networks/none"),
        (["--examples=100000"], "--examples=100000 is more than the 1203 training examples"),
        (["--loud"], "unrecognized arguments: --loud"),
        (["--loss=nan"], "--loss=nan must be a number"),
        (["--methods=lu"], "unknown --methods 'lu'"),
        (["--criterion=age"], "unknown --criterion 'age'"),
    ):
        with pytest.raises(UserError, match=message):
            sensitivity.main([*asked[:1], *flags])

    def forbidden(path, content):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    capsys.readouterr()
    monkeypatch.setattr(sensitivity.atomic, "write", forbidden)
    sensitivity.main([*asked, "--kinds=density,bits"])
    printed = capsys.readouterr().out
    assert "the least that loses" in printed
    assert "nothing is kept: " in printed
    monkeypatch.undo()
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, "command": "msdnet"}))
    with pytest.raises(UserError, match="is a run of msdnet, not of compress, lottery"):
        sensitivity.main(asked)


def test_the_steps_that_were_said_beforehand_are_those_of_each_unit(finished):
    assert steps.agree(main.STUDY, finished[0]) == set()
