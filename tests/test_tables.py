"""The tables of every command, on terminals of any width, in pipes, and in other encodings."""

import dataclasses
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

import compress.report
import compress.results
import deploy.report
import deploy.results
import lottery.report
import lottery.results
import lowrank.report
import lowrank.results
import msdnet.report
import msdnet.results
import pruning.report
import pruning.results
import pruning.weights.report
import pruning.weights.results
from lowrank.spec import Point
from pruning import weights
from tests import screens
from tests.compress import test_report as compressed
from tests.deploy import test_report as deployed
from tests.lowrank import test_report as factorised
from tests.msdnet import test_results as exited
from tests.pruning import test_report as pruned

NAME = "runs/[bold]a[/y]"  # as rich would read it: markup, and an end without a beginning
ALONE = ("smallest", "report:", "conv", "fc", "openvino")  # beginnings of lines that may run over
LONG = "encoder/block_11/attention/self/query/kernel"


def _lottery():
    point = lottery.results.Point(
        branch="ticket",
        level=0,
        density=1.0,
        parameters=138_357_544,
        accuracy=[0.8125, 0.875],
        stopped_accuracy=[0.81, 0.87],
        stopped_step=[123_456, 123_460],
        kept={LONG: [138_000_000] * 2},
        sizes={LONG: 138_000_000},
        requested={LONG: 1.0},
    )
    branches = ("ticket", "random_reinit", "random_mask", "small_dense")
    points = {
        (branch, level): dataclasses.replace(
            point, branch=branch, level=level, density=0.8**level, parameters=138_357_544 - level
        )
        for branch in branches
        for level in range(0 if branch == "ticket" else 1, 3)
    }
    published = {"source": "a paper", "level": 2, "ticket": [0.75, 0.7], "random_mask": [0.5]}
    config = {"replicates": 2, "published": {**published, "dense": [0.6]}}
    return lottery.results.Results(NAME, Path(NAME), config, {}, points, {})


def _lowrank():
    big = dataclasses.replace(
        factorised.POINT, parameters=138_357_544, macs=15_470_264_320, point=Point("svd", 0.333)
    )
    run = factorised.made(big, factorised.POINT)
    return dataclasses.replace(run, name=NAME, folder=Path(NAME))


def _msdnet():
    run = exited.results(Path(NAME), exited.network(), exited.network("resnet_exits"))
    return dataclasses.replace(run, name=NAME)


def _compress():
    changes = {
        "sizes": {LONG: 102_760_448, "fc/bias": 3},
        "kept": {LONG: [1, 2], "fc/bias": [3] * 2},
    }
    big = dataclasses.replace(
        compressed.QUANTISED,
        **changes,
        masked=[LONG],
        bytes=[123_456_789, 123_456_788],
        float_bytes=553_430_176,
        streams=[
            dataclasses.replace(stream, path=stream.path.replace("fc/kernel", LONG))
            for stream in compressed.QUANTISED.streams
        ],
    )
    run = compressed.made(compressed.PRUNED, big)
    return dataclasses.replace(run, name=NAME, folder=Path(NAME))


def _pruning():
    times = {"1": [123.456, 23.456], "128": [12345.678, 2345.678]}
    costs = {"parameters": 138_357_544, "macs": 15_470_264_320, "bytes": 553_431_000}
    big = dataclasses.replace(pruned.SMALL, **costs, milliseconds=times)
    one = dataclasses.replace(
        pruned.PRUNED, label="0.333", network=big, branches=dict.fromkeys(pruned.NAMES, big)
    )
    run = pruned.made(one, dataclasses.replace(pruned.PRUNED, label="target"))
    run.config["prune"]["target"]["multiply_adds"] = 7_000_000_000.0
    return dataclasses.replace(run, name=NAME, folder=Path(NAME), original=big)


def _weights():
    layers = {f"encoder/layer_{n}/attention/query/kernel": (123456.5, 16_777_216) for n in "12"}
    network = weights.results.Network(
        label="0.0123457",
        density=[0.0123456, 0.0123457],
        test=[0.98765, 0.97654],
        before=[0.12345, 0.23456],
        steps=1_234_567,
        seconds=123456.78,
        kept=layers,
        untouched={"encoder/embedding/kernel": "its 7 inputs are no multiple of 4"},
    )
    run = pruned.made()
    fields = {"name": NAME, "folder": Path(NAME), "config": run.config, "about": run.about}
    dense = dataclasses.replace(network, label="dense", untouched={})
    return weights.results.Results(**fields, dense=dense, sparse=[network] * 4)


def _deploy():
    run = deployed.made(*(deployed.network(f"pruned/0.{n}") for n in "12"))
    return dataclasses.replace(run, name=NAME, folder=Path(NAME))


COMMANDS = {
    "lottery": (lottery, _lottery),
    "lowrank": (lowrank, _lowrank),
    "msdnet": (msdnet, _msdnet),
    "compress": (compress, _compress),
    "deploy": (deploy, _deploy),
    "pruning": (pruning, _pruning),
    "weights": (weights, _weights),
}


@pytest.fixture(params=COMMANDS)
def command(request, monkeypatch):
    """Shows the tables of a run of each command; its page is only written down in `order`."""
    package, made = COMMANDS[request.param]
    run, order = made(), []

    def page(shown):
        order.append("page")
        return Path("page/of/" + "a_long_folder/" * 8 + "report.html")

    monkeypatch.setattr(package.results, "read", lambda folder: run)
    monkeypatch.setattr(package.report, "_write_page", page)
    monkeypatch.setattr(pruning.report, "of_weights", lambda folder: package is weights)
    if request.param == "lottery":
        monkeypatch.setattr(lottery.report, "_read", lambda folders: [run])
    shown = pruning.report if package is weights else package.report
    return SimpleNamespace(show=lambda: shown.show([Path(NAME)]), order=order)


@pytest.mark.parametrize("columns", [40, 80, 100, 200])
def test_no_number_is_cut_at_any_width(command, columns, monkeypatch):
    piped = screens.shown(monkeypatch, command.show)
    narrow = screens.shown(monkeypatch, command.show, columns)
    assert len(screens.numbers(piped)) > 20
    assert not Counter(screens.numbers(piped)) - Counter(screens.numbers(narrow))
    assert "…" not in narrow.replace("0.cna … 1.cna", "")
    if columns >= 80:
        over = [line for line in narrow.splitlines() if len(line) > columns]
        assert all(line.startswith(ALONE) for line in over)


def test_a_pipe_takes_the_width_that_it_needs(command, monkeypatch):
    piped = screens.shown(monkeypatch, command.show)
    assert screens.shown(monkeypatch, command.show, columns=400) == piped
    monkeypatch.setenv("COLUMNS", "40")
    assert screens.shown(monkeypatch, command.show) == piped
    assert max(map(len, piped.splitlines())) > 100


def test_names_are_shown_as_they_are(command, monkeypatch):
    piped = screens.shown(monkeypatch, command.show)
    assert f"{NAME}: " in piped
    assert "a_long_folder/" * 8 + "report.html\n" in piped


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("columns", [None, 80])
def test_what_an_encoding_lacks_is_spelled(command, encoding, columns, monkeypatch):
    said = screens.shown(monkeypatch, command.show, columns, encoding)
    known = screens.shown(monkeypatch, command.show, columns)
    spelled = known.replace("→", "->")
    for character, ascii_only in (("±", "+-"), ("×", "x"), ("…", "..."), ("–", "-")):
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            spelled = spelled.replace(character, ascii_only)
    assert "+-" in spelled or encoding != "ascii" or "±" not in known
    assert screens.numbers(said) == screens.numbers(spelled)


def test_the_page_is_written_before_anything_is_printed(command, monkeypatch):
    class Full(screens.Screen):
        def write(self, text):
            command.order.append("print")
            raise OSError("the disk is full")

    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(OSError, match="full"):
        command.show()
    assert command.order[:2] == ["page", "print"]


def test_without_a_standard_output_the_page_is_written(command, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    command.show()
    assert command.order == ["page"]
