"""Jobs of submitit, for real: signals reach the command, 75 is queued again, failures stay."""

import os
import signal
import subprocess
import sys
import time

import pytest
from submitit.core.utils import DelayedSubmission, FailedJobError
from submitit.local.local import LocalExecutor

from launch.child import Child
from tests.conftest import ROOT

PREEMPTED = """
import os, signal, sys, time
def save(*_):
    open(sys.argv[1] + ".saved", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
open(sys.argv[1] + ".ready", "w").close()
if os.path.exists(sys.argv[1] + ".saved"):
    print("continued")
    sys.exit(0)
for _ in range(600):
    time.sleep(0.1)  # a signal that comes just before a sleep is heard after it
"""


@pytest.fixture
def fake(tmp_path):
    """A main in short: it saves when told to, and its second start ends well."""
    path = tmp_path / "fake.py"
    path.write_text(PREEMPTED)
    return Child((sys.executable, str(path), str(tmp_path / "run")))


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def submit(child, folder, **parameters):
    executor = LocalExecutor(folder=folder / "logs")
    executor.update_parameters(timeout_min=1, **parameters)
    return executor.submit(child)


def result(job):
    """What submitit would look for once a second."""
    wait_for(job.done)
    return job.result()


def test_a_job_that_runs_out_of_time_saves_and_is_finished_by_its_second_start(fake, tmp_path):
    """Submitit sends its signal 57 seconds before the minute is over."""
    job = submit(fake, tmp_path, signal_delay_s=57)
    assert result(job) == 0
    assert (tmp_path / "run.saved").exists()
    assert job.stdout().count("+ ") == 2
    assert "continued" in job.stdout()
    assert "Requeued job" in job.stdout()


def test_a_job_whose_command_fails_has_failed(tmp_path):
    command = (sys.executable, "-c", "import sys; print('oh', file=sys.stderr); sys.exit(3)")
    job = submit(Child(command), tmp_path)
    with pytest.raises(FailedJobError, match="ChildFailedError: 3"):
        result(job)
    assert "oh" in job.stderr()
    assert "Traceback" not in job.stderr()


def test_each_task_is_told_which_devices_of_its_node_are_its_own(tmp_path):
    script = "import os; print('devices', os.environ['JAX_LOCAL_DEVICE_IDS'])"
    child = Child((sys.executable, "-Sc", script), ("0,1", "2,3"))
    job = submit(child, tmp_path, tasks_per_node=2)
    wait_for(job.done)
    for task, devices in enumerate(child.devices):
        assert f"devices {devices}\n" in job.task(task).stdout()


class Slurm:
    """A task of a Slurm job, as srun starts it; squeue and scontrol write down what they get."""

    def __init__(self, folder, state="RUNNING"):
        self.folder = folder
        self.calls = folder / "calls"
        programs = folder / "bin"
        programs.mkdir()
        for name, answer in (("squeue", f"echo {state}"), ("scontrol", "true")):
            (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{answer}\n')
            (programs / name).chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"

    def start(self, child, rank=0):
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        delayed = DelayedSubmission(child)
        delayed.set_timeout(60, 3)
        delayed.dump(logs / "7_submitted.pkl")
        environment = {
            **os.environ,
            "PATH": self.path,
            "SUBMITIT_EXECUTOR": "slurm",
            "SLURM_JOB_ID": "7",
            "SLURM_PROCID": str(rank),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "submitit.core._submit", str(logs)], cwd=ROOT, env=environment
        )

    def told(self):
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def result(self, rank=0):
        return self.folder / "logs" / f"7_{rank}_result.pkl"


ASKED = "squeue --noheader --format=%T --jobs=7"
REQUEUED = "scontrol requeue 7"


@pytest.mark.parametrize(
    ("rank", "number", "state", "told"),
    [
        (0, signal.SIGUSR2, "RUNNING", [REQUEUED]),
        (0, signal.SIGTERM, "RUNNING", [ASKED, REQUEUED]),
        (0, signal.SIGTERM, "COMPLETING", [ASKED]),  # scancel, or Slurm has queued it again itself
        (1, signal.SIGUSR2, "RUNNING", []),
    ],
    ids=["preempted", "preempted by a plain SIGTERM", "cancelled", "another rank"],
)
def test_slurm_is_asked_to_queue_a_job_again(fake, tmp_path, rank, number, state, told):
    slurm = Slurm(tmp_path, state)
    with slurm.start(fake, rank) as task:
        wait_for((tmp_path / "run.ready").exists)
        task.send_signal(number)
        task.wait(20)
    assert (tmp_path / "run.saved").exists()
    assert slurm.told() == told
    again = REQUEUED in told or rank == 1
    assert slurm.result(rank).exists() != again  # a job that goes on has no result yet
    assert (task.returncode == 0) == (REQUEUED not in told)


def test_a_task_of_slurm_ends_with_the_commands_own_code(tmp_path):
    slurm = Slurm(tmp_path)
    with slurm.start(Child((sys.executable, "-c", "raise SystemExit(3)"))) as task:
        assert task.wait(20) == 3
    assert slurm.told() == []
    assert slurm.result().exists()


@pytest.mark.parametrize(("hangs", "again"), [(0, True), (2, True), (3, False)])
def test_a_command_that_hung_is_queued_again_three_times(tmp_path, hangs, again):
    slurm = Slurm(tmp_path)
    with slurm.start(Child((sys.executable, "-c", "raise SystemExit(76)"), hangs=hangs)) as task:
        assert (task.wait(20) == 76) != again
    assert slurm.told() == ([ASKED, REQUEUED] if again else [])
    queued = DelayedSubmission.load(tmp_path / "logs/7_submitted.pkl").function
    assert queued.hangs == hangs + again


def test_a_signal_that_comes_before_the_command_is_not_lost(fake, tmp_path, monkeypatch):
    """It is passed on as soon as there is somebody to tell."""
    popen = subprocess.Popen

    def slow(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        child = popen(*args, **kwargs)
        wait_for((tmp_path / "run.ready").exists)
        return child

    monkeypatch.setattr(subprocess, "Popen", slow)
    assert fake._run((signal.SIGTERM,), {}) == (75, {signal.SIGTERM})
