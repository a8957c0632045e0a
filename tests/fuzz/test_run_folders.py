"""However the folder of a run is damaged: one line, or a warning, and never a wrong number."""

import dataclasses
import errno
import json
import shutil
from pathlib import Path

import pytest

from compress import main as compress_main
from compress import report as compress_report
from compress import results as compress_results
from groundwork import study as study_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.runs import metrics
from groundwork.runs import run as run_lib
from lottery import main as lottery_main
from lottery import report as lottery_report
from lottery import results as lottery_results
from lottery import tickets
from tests.compress import small as compress_small
from tests.conftest import ROOT
from tests.fuzz import damage
from tests.fuzz.cases import generators
from tests.lottery import small as lottery_small

LOTTERY = (
    "--config.levels=1",
    "--config.replicates=1",
    "--config.train.steps=12",
    "--config.eval_every=4",
    "--config.rewind.step=4",
    "--config.branches.small_dense=()",
    "--config.branches.random_mask=()",
    "--config.branches.random_reinit=()",
)
COMPRESS = (
    "--config.replicates=1",
    "--config.train.steps=10",
    "--config.fine_tune.steps=5",
    "--config.eval_every=5",
    "--config.stages=('prune',)",
    "--config.prune.levels=(1,)",
)
WRONG_KINDS = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOENT, errno.EEXIST)
COMMANDS = {
    "lottery": (lottery_main.STUDY, lottery_results, lottery_report, lottery_small, LOTTERY),
    "compress": (compress_main.STUDY, compress_results, compress_report, compress_small, COMPRESS),
}


@dataclasses.dataclass(frozen=True)
class Honest:
    """A run that nobody has damaged, another of the same kind, and all that the first says."""

    command: str
    folder: Path
    other: Path
    config: dict
    numbers: dict
    manifests: dict
    rows: dict


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each command, and an unfinished one."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        _train("lottery", root / "lottery")
        _train("lottery", root / "other", "--config.seed=1")
        _train("compress", root / "compress")
        looks = iter(range(1000))
        patch.setattr(Interruption, "reached", lambda self: next(looks) == 4)
        with pytest.raises(Interrupted, match=r"levels/01/ticket, step 8"):
            _train("lottery", root / "unfinished")
    return {
        name: _honest(name, root / name, root / other)
        for name, other in (("lottery", "other"), ("unfinished", "other"), ("compress", "lottery"))
    }


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    """Pages and figures, which take seconds, are not drawn, and git is not asked for the commit."""
    monkeypatch.setattr(run_lib, "software", dict)
    for report in (lottery_report, compress_report):
        monkeypatch.setattr(report, "_write_page", lambda run: run.folder / "report.html")


def _train(command, folder, *more):
    *_, small, few = COMMANDS[command]
    small.train(folder, *few, lottery_small.OFTEN, "--config.checkpoint.poll_steps=4", *more)


def _honest(name, folder, other):
    command = "compress" if name == "compress" else "lottery"
    rows = metrics.read(folder / "metrics.jsonl")
    return Honest(
        command=command,
        folder=folder,
        other=other,
        config=json.loads((folder / "config.json").read_text())["config"],
        numbers=_numbers(command, folder, shown=False),
        manifests={
            p.parent.resolve(): json.loads(p.read_bytes()) for p in folder.rglob("manifest.json")
        },
        rows=metrics.by_unit(rows),
    )


def _numbers(command, folder, shown=True):
    """What a report says, by the names of networks."""
    _, results, report, *_ = COMMANDS[command]
    run = results.read(folder)
    if shown:
        report.show([folder])
    if command == "compress":
        return {network.name: network for network in run.networks}
    curves = {
        (*key, step): values for key, curve in run.curves.items() for step, values in curve.items()
    }
    return {**run.points, **curves}


def _opened(honest, folder):
    """Opens a run as its command does, up to where it would train."""
    study = COMMANDS[honest.command][0]
    spec = study.check(honest.config)
    units = study.units(spec)
    with run_lib.locked(folder):
        identity = study_lib._identity(study, honest.config)
        run, _ = run_lib.open_run(folder, identity)
        study_lib._mend(study, run, units)
    return run, [name for name in units if name in run.units()], units


def _check_opened(honest, folder):
    """All that the command would take for done, or would go on from, is as it was made.

    Returns nothing more to compare.
    """
    run, done, units = _opened(honest, folder)
    rows = metrics.by_unit(metrics.read(run.metrics))
    for name in units:
        unit = run.unit(name)
        place = "final" if name in done else unit._newest()[0]
        if not place:
            continue
        made = json.loads((unit.folder / place / "manifest.json").read_bytes())
        key = (honest.folder / "checkpoints" / name / place).resolve()
        assert made == honest.manifests[key]
        if honest.command == "lottery":
            count = made["body"]["origin"]["rows"]
            assert rows.get(name, [])[:count] == honest.rows.get(name, [])[:count]
    return {}


def _attempt(function, *arguments):
    """The result of a function, or None if it ends in one line."""
    try:
        return function(*arguments)
    except UserError:
        return None
    except OSError as error:  # `entry` says in one line which file it is about
        if error.errno in WRONG_KINDS and error.filename:
            return None
        raise


def _opened_and_shown(honest, folder):
    """Shows a run, opens it and shows it again; returns whether each ended well."""
    shown = _attempt(_numbers, honest.command, folder)
    opened = _attempt(_check_opened, honest, folder)
    again = shown if opened is None else _attempt(_numbers, honest.command, folder)
    for name, numbers in [*(shown or {}).items(), *(again or {}).items()]:
        assert numbers == honest.numbers[name]
    return [found is not None for found in (shown, opened, again)]


def test_damaged_folders(runs, tmp_path, capsys):
    ends = []
    for number, rng in enumerate(generators(100)):
        honest = runs["compress" if number % 10 == 9 else ("lottery", "unfinished")[number % 2]]
        folder = damage.copied(honest.folder, tmp_path / str(number) / "run")
        how = damage.one(rng, folder, honest.other)
        try:
            ends.append(_opened_and_shown(honest, folder))
        except Exception as error:
            error.add_note(f"case {number}: {honest.folder.name}: {how}")
            raise
        shutil.rmtree(tmp_path / str(number))
        capsys.readouterr()
    for outcomes in zip(*ends, strict=True):
        assert {*outcomes} == {True, False}
    assert [False, True, True] in ends  # what cannot be shown is mended by its command


def test_a_damaged_run_ends_as_the_honest_one(runs, tmp_path, capsys):
    """Rows lost, a unit on another disk, and a file where checkpoints were: all at once."""
    honest = runs["lottery"]
    folder = damage.copied(honest.folder, tmp_path / "run")
    rows = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(b"".join([b"[[[5\n", *rows[1:]]))
    damage.moved_and_linked(None, folder / "checkpoints/levels/01", None)
    damage.as_file(next(generators(1)), folder / "checkpoints/levels/00/ticket/final", None)
    _train("lottery", folder)
    assert "1 of 2 rows are there; start is done again" in (folder / "run.log").read_text()
    assert (folder / "checkpoints/levels/01").is_symlink()
    for level in (0, 1):
        lottery_small.assert_same_tree(*(tickets.load(f, level) for f in (honest.folder, folder)))
    assert _numbers("lottery", folder) == honest.numbers
