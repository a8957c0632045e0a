"""The command line, and a run of the command from a file of weights."""

import json
import re

import numpy as np
import pytest

from deploy import main, results, spec, work
from deploy.sources.networks import TRAINED
from groundwork import architectures, trees
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from groundwork.runs import run as run_lib
from groundwork.runs import trained
from groundwork.study import checked
from tests import browser, in_process, steps

MODEL = {"name": "lenet_300_100", "width": 0.05}
QUICK = [
    "--config.model.width=0.05",
    "--config.threads=(1,)",
    "--config.batches=(3,)",
    "--config.calibration.examples=200",
    "--config.measure.rounds=1",
    "--config.measure.seconds=0",
    "--config.measure.warmup_seconds=0",
    "--config.measure.examples=40",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run of the command, and how it was typed."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("runs") / "run"
    arguments = main.arguments(
        [
            "--config=configs/deploy/base.py",
            "--config.train.steps=0",
            "--engines=onnxruntime",
            "--graph",
            f"--workdir={folder}",
            *QUICK,
        ]
    )
    in_process.train(main.STUDY, arguments)
    return folder, arguments


def test_a_run_writes_measures_and_judges(folder):
    run = results.read(folder[0])
    (network,) = run.networks
    assert network.name == "trained"
    assert [(f.name, f.batch) for f in network.files] == [
        ("onnxruntime-float", 3),
        ("onnxruntime-int8", 3),
    ]
    for file in network.files:
        (path,) = file.paths
        assert (folder[0] / path).stat().st_size == file.bytes > file.gzip_bytes > 0
    measured = {(t.engine, t.kind, t.threads, t.batch): t.measured for t in network.times}
    assert len(measured) == 3
    assert all(m.milliseconds and m.peak_bytes for m in measured.values())
    dataset = data_lib.load(run.config)
    model = architectures.build(MODEL, 10)
    inputs = data_lib.normalize(dataset, dataset.test.inputs[:40])
    variables = trees.replicate(trained.load(folder[0], TRAINED), 0)
    logits = np.asarray(model.apply(variables, inputs, train=False))
    right = float(np.mean(logits.argmax(-1) == dataset.test.labels[:40]))
    floats, integers = (network.answers["onnxruntime", kind] for kind in ("float", "int8"))
    assert network.answers["jax", "float"].values == floats.values == (pytest.approx(right),)
    assert floats.agreement == 1
    assert floats.error < 1e-5 < integers.error < 0.1
    assert {precision for _, _, precision in floats.operations} == {"float32"}
    assert "fc1" in network.graph
    assert (folder[0] / "figures/graph_trained.png").exists()


def test_a_lost_file_is_written_again_as_it_was(folder, capsys, chromium):
    workdir, arguments = folder
    path = workdir / "files/trained/onnxruntime-float-3.onnx"
    before = path.read_bytes()
    path.unlink()
    in_process.train(main.STUDY, arguments)
    assert "files/trained is done again" in capsys.readouterr().err
    assert path.read_bytes() == before
    printed = in_process.run(main.STUDY, arguments)
    assert "onnxruntime int8" in printed
    assert "energy is not measured" in printed
    assert "trained: graph" in (workdir / "report.html").read_text()
    browser.check(chromium, workdir / "report.html")


def test_a_file_that_has_changed_is_lost(folder):
    workdir, _ = folder
    path = workdir / "files/trained/onnxruntime-int8-3.onnx"
    before = path.read_bytes()
    assert not work.lost(run_lib.Run(workdir))
    path.write_bytes(before[:-5] + b"\0" + before[-4:])  # of the same length
    assert work.lost(run_lib.Run(workdir)) == {"files/trained": f"{path} has changed"}
    path.unlink()
    assert work.lost(run_lib.Run(workdir)) == {"files/trained": f"{path} is gone"}
    path.write_bytes(before)


def _run_folder(tmp_path, command="lottery", **data):
    config = config_lib.resolve(config_lib.load("configs/lottery/digits.py"))
    config["data"] |= data
    config["model"]["width"] = 0.5
    about = {"command": command, "config": config, "versions": {}, "commit": "", "id": "x"}
    (tmp_path / "config.json").write_text(json.dumps(about))
    final = tmp_path / "checkpoints/levels/00/ticket/final"
    final.mkdir(parents=True)
    (final / "manifest.json").write_text("{}")
    return tmp_path


def test_a_source_alone_brings_its_data_and_its_model(tmp_path):
    path = _run_folder(tmp_path, pad=4, validation_examples=100)
    given = main.arguments([f"--source={path}", "--engines", "litert,ncnn", "--config.seed=1"])
    assert sorted(given) == sorted(
        [
            "--config=configs/deploy/base.py",
            f"--workdir=runs/deploy_{path.name}",
            "--config.data.validation_examples=100",
            "--config.data.pad=4",
            "--config.model.width=0.5",
            f"--config.source.path={path}",
            "--config.engines=('litert', 'ncnn')",
            "--config.seed=1",
        ]
    )
    config = config_lib.resolve(config_lib.parse(given, "")[0])
    assert config["data"]["pad"] == 4
    assert config["engines"] == ("litert", "ncnn")


def test_a_users_own_network_is_a_source():
    given = main.arguments(["--source=mine.nets:make", "--config=configs/deploy/digits.py"])
    config = config_lib.resolve(config_lib.parse(given, "")[0])
    assert config["model"]["name"] == "mine.nets:make"
    assert config["train"]["steps"] == 0
    assert config["source"]["path"] == ""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--engines=litert"], "no network: give --source=RUN_OR_FILE or --config=FILE"),
        (["--source=nowhere"], "source.path: nowhere does not exist"),
        (["--source=a.npz"], "--source=a.npz does not say which data it takes"),
        (["--source=mine:net"], "--source=mine:net does not say which data it takes"),
    ],
)
def test_a_command_line_without_a_network_or_its_data_is_refused(argv, words):
    with pytest.raises(UserError, match=re.escape(words)):
        main.arguments(argv)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("engines", ("tensorrt",), r"^engines: no engine 'tensorrt': take one of onnxruntime, "),
        ("engines", ("litert", "litert"), "must name each engine once"),
        ("kinds", ("int4",), r"^unknown kind in kinds 'int4'.*known: float, int8"),
        ("kinds", (), "kinds=.* must name at least one"),
        ("threads", (0,), r"^threads=\(0,\) must be counts from 1"),
        ("threads", (1, 10**6), r"^threads=\(1, 1000000\) must be at most 1024$"),
        ("source.replicate", 1, "^source.replicate=1 must be below replicates=1$"),
        ("batches", (1, 1), "and each once"),
        ("calibration.range", "widest", r"^unknown calibration.range 'widest'"),
        ("calibration.examples", 0, "calibration.examples=0 must be at least 1"),
        ("measure.limit_seconds", 0.0, "measure.limit_seconds=0.0 must be above 0"),
        ("source.path", "nowhere", r"^source.path: nowhere does not exist"),
        ("source.path", "pyproject.toml", r"is no run's folder, no .cna file, and no file of wei"),
        ("data.stream", True, r"^data.stream: calibration needs examples in memory"),
    ],
)
def test_mistakes_in_a_config_are_one_line(key, value, words):
    config = config_lib.resolve(config_lib.load("configs/deploy/base.py"))
    *section, last = key.split(".")
    (config[section[0]] if section else config)[last] = value
    with pytest.raises(UserError, match=words):
        spec.unit_names(checked(main.STUDY, config))


def test_an_engine_that_is_not_installed_says_how_to_get_it(monkeypatch):
    config = config_lib.resolve(config_lib.load("configs/deploy/base.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^engines: none is installed here: `pip install -r"):
        checked(main.STUDY, config)
    config["engines"] = ("ncnn",)
    with pytest.raises(UserError, match=r"engine 'ncnn' is not installed: `pip install ncnn`"):
        checked(main.STUDY, config)


def test_without_effect():
    config = config_lib.resolve(config_lib.load("configs/deploy/base.py"))
    made = checked(main.STUDY, config | {"kinds": ("float",)})
    lines = spec.without_effect(made, config, ["calibration.range", "source.unit"])
    assert lines == [
        "calibration.range has no effect: kinds=('float',) has no int8",
        "source.unit has no effect: source.path is empty",
    ]


def test_the_steps_that_were_said_beforehand_are_those_of_each_unit(folder):
    assert steps.agree(main.STUDY, folder[0]) == set()
