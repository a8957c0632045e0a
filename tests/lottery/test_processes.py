"""Several processes train one run; whatever ends one of them, the run goes on from its checkpoint.

Digits at toy scale, two processes of two simulated devices: the rehearsal of two hosts. Processes
are dear: each takes seconds to start and to trace, so that every one below is there for a reason,
and only the undisturbed run draws its report.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.train import loop
from lottery import main, tickets
from tests import in_process
from tests.conftest import CACHE, ROOT
from tests.lottery import small
from tests.lottery.test_streams import STREAM

pytestmark = pytest.mark.slow
COMMAND = ("-m", "lottery.main")
RUN = [
    "--config=configs/lottery/digits.py",
    "--config.levels=1",
    "--config.replicates=2",
    "--config.train.steps=60",
    "--config.train.batch_size=48",
    "--config.eval_every=10",
    "--config.model.width=0.1",
    "--config.data.validation_examples=297",  # as many as of test: one program counts both
    "--config.checkpoint.every_seconds=0",
    "--config.branches.random_mask=()",
    "--config.branches.random_reinit=()",
]
ENVIRONMENT = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE), "JAX_PLATFORMS": "cpu"}
ENVIRONMENT["NPROC"] = "8"  # see launch/local.py
SHORT = [
    "--config.train.steps=20",
    "--config.rewind.step=0",
    "--config.checkpoint.every_seconds=600",
]
TWO_DEVICES = ["--config.mesh.replicate=1", "--config.mesh.data=2"]
UNITS = [(0, "ticket"), (1, "ticket")]
# The command without its report.
QUIET = """
import dataclasses, functools
from groundwork import entry, study
from lottery import main
quiet = dataclasses.replace(main.STUDY, show=lambda folders: None)
entry.run_main(functools.partial(study.conduct, quiet))
"""
# Two runs in one group of processes, of one replicate and of two.
TWICE = """
import dataclasses, sys
from groundwork import entry, study
from groundwork.devices import processes
from lottery import main
quiet = dataclasses.replace(main.STUDY, show=lambda folders: None)
def both(argv):
    study.conduct(quiet, [*argv, "--config.replicates=1"])
    processes.start = lambda: None  # they have joined
    study.conduct(quiet, [*argv[:-1], argv[-1][:-1] + "2", "--config.replicates=2"])
entry.run_main(both)
"""
# The same, but SIGUSR1 makes the main thread sleep; JAX's own threads go on, heartbeats too.
CAN_HANG = f"""
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(600))
{QUIET}
"""


def _launch(
    folder: Path, processes: int, devices: int, *flags: str, command: Sequence[str] = ("-c", QUIET)
) -> subprocess.Popen:
    """The launcher, and through it all processes."""
    launcher = [sys.executable, "launch/local.py", f"--processes={processes}"]
    launcher += [f"--devices={devices}", "--", "python", *command]
    return _open([*launcher, *RUN, *flags, f"--workdir={folder}"], {})


def _by_hand(folder: Path, port: int, index: int) -> subprocess.Popen:
    """One of two processes of two devices, as a cluster's scheduler starts them."""
    own = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(index),
        "JAX_NUM_CPU_DEVICES": "2",
    }
    return _open([sys.executable, *COMMAND, *RUN, f"--workdir={folder}"], own)


def _open(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(process: subprocess.Popen, code: int = 0) -> str:
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == code, printed
    return printed


def _wait_for_rows(folder: Path, count: int, *processes: subprocess.Popen) -> None:
    log = folder / "metrics.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < count:
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def _rows(folder: Path) -> int:
    return (folder / "metrics.jsonl").read_bytes().count(b"\n")


def _of_unit(folder: Path, unit: str) -> int:
    return sum(row["unit"] == unit for row in small.rows(folder))


@pytest.fixture(scope="module")
def dying(tmp_path_factory):
    """A run one of whose processes has just been killed; what became of the other one, later."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    port = 20000 + os.getpid() % 10000
    survivor, victim = (_by_hand(folder, port, index) for index in (0, 1))
    _wait_for_rows(folder, 8, survivor, victim)
    victim.kill()
    begun = time.monotonic()

    def wait():
        printed, _ = survivor.communicate(timeout=90)
        return survivor.returncode, printed, time.monotonic() - begun

    with ThreadPoolExecutor(1) as pool:
        yield folder, pool.submit(wait)
    victim.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, dying):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    printed = _finish(_launch(folder, 2, 2, command=COMMAND))
    assert "Gloo" not in printed
    assert printed.count("report: ") == 1  # one process alone reports
    return folder


@pytest.fixture(scope="module")
def killed(dying, undisturbed):
    """Folder, exit code of the survivor, what it printed, after how many seconds."""
    folder, ended = dying  # meanwhile the undisturbed run has used the wait
    return folder, *ended.result()


def test_the_others_end_within_a_minute_and_name_the_one_that_was_killed(killed):
    _, code, printed, seconds = killed
    assert code != 0
    assert seconds < 60
    assert re.search(r"tasks are unhealthy \(stopped sending heartbeats\):\s+1\n", printed), printed


def test_processes_that_share_no_run_folder_are_refused(tmp_path):
    port = 40000 + os.getpid() % 10000
    for process in [_by_hand(tmp_path / str(index), port, index) for index in (0, 1)]:
        said = "error: process 1 has another run folder than process 0: --workdir must be on a disk"
        assert said in _finish(process, 2)


def test_fewer_or_more_processes_and_devices_go_on(killed, undisturbed, tmp_path, monkeypatch):
    """Two processes of two devices, then one of two, then two of one: the same run.

    In float32 another number of devices adds up gradients in another order. Over these 120 steps
    losses differed by 3e-7 at most when this was written; 1e-4 is room for other machines. An
    example whose two best classes are that close may change sides, so may a weight at the
    pruning threshold.
    """
    folder = tmp_path / "run"
    shutil.copytree(killed[0], folder)
    looks = iter(range(1000))
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 2)
    with pytest.raises(Interrupted):
        in_process.train(main.STUDY, [*RUN, *TWO_DEVICES, f"--workdir={folder}"])
    monkeypatch.undo()
    between = _rows(folder)
    printed = _finish(_launch(folder, 2, 1))
    assert _rows(killed[0]) < between < _rows(folder)
    assert "warning: this run began with devices" in printed
    for a, b in zip(small.rows(undisturbed), small.rows(folder), strict=True):
        for key in ("unit", "step", "split", "replicate", "density", "parameters"):
            assert a[key] == b[key]
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
        assert abs(a["accuracy"] - b["accuracy"]) < 0.005  # one example of 200 or 297
    for level, branch in UNITS:
        one, two = (tickets.load(run, level, branch).mask for run in (undisturbed, folder))
        for path, mask in one.items():
            assert (mask != two[path]).mean() < 1e-3


def test_killed_stopped_and_hung_the_run_ends_the_same_bit_for_bit(killed, undisturbed, tmp_path):
    """The killed run goes on; SIGTERM to one of two processes stops both at one step.

    It goes on again; one process sleeps, the other one waits for it in a collective, and both end.
    """
    folder = tmp_path / "run"
    shutil.copytree(killed[0], folder)
    _stop_by_one_sigterm(folder)
    before = _rows(folder)
    _hang(folder, _of_unit(undisturbed, "levels/00/ticket"))
    _finish(_launch(folder, 2, 2))
    assert before < _rows(folder)
    assert (folder / "run.log").read_text().count("continues from step") == 3
    small.assert_same_run(folder, undisturbed, UNITS)


def _stop_by_one_sigterm(folder: Path) -> None:
    port, before = 30000 + os.getpid() % 10000, _rows(folder)
    one, other = (_by_hand(folder, port, index) for index in (0, 1))
    _wait_for_rows(folder, before + 8, one, other)
    begun = time.monotonic()
    other.send_signal(signal.SIGTERM)
    printed = [_finish(process, 75) for process in (one, other)]
    assert time.monotonic() - begun < 10
    said = r"asked to stop; saved at (\S+, step \d+); the same command"
    stops = [re.findall(said, text) for text in printed]
    assert stops[0] == stops[1]
    assert len(stops[0]) == 1


def _hang(folder: Path, first_unit: int) -> None:
    """In the middle of the second unit, once it has saved: between units nobody watches."""
    before, flag = _rows(folder), "--config.checkpoint.hang_seconds=15"
    launcher = _launch(folder, 2, 2, flag, command=("-c", CAN_HANG))
    _wait_for_rows(folder, max(before, first_unit) + 12, launcher)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGUSR1)  # the one that writes run.log
    printed = _finish(launcher, 76)
    assert "has not moved for 15 s" in printed
    assert f'File "{loop.__file__}", line' in printed  # where it hangs
    assert f'File "{loop.__file__}", line' in (folder / "run.log").read_text()


def test_two_processes_read_their_own_shares_of_a_stream(tmp_path):
    """Of one replicate's batches each process reads half, of two replicates each has its own."""
    stream = [*STREAM, "--config.levels=0", *SHORT]
    _finish(_launch(tmp_path / "1", 2, 1, *stream, command=("-c", TWICE)))
    for replicates in (1, 2):
        alone = tmp_path / f"alone-{replicates}"
        split = f"--config.mesh.data={3 - replicates}"
        small.train(alone, *RUN[1:], *stream, f"--config.replicates={replicates}", split)
        two, one = (small.rows(folder) for folder in (tmp_path / str(replicates), alone))
        assert len(two) == len(one) > 0
        for a, b in zip(two, one, strict=True):
            np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
            assert a["accuracy"] == b["accuracy"]
