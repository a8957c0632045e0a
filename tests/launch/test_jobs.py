"""The points of a sweep as jobs, here and as an array of Slurm's: how they end, and why."""

import os
import signal
import sys
import threading
import time

import pytest

from groundwork.errors import UserError
from groundwork.runs import place
from launch import jobs, slurm_array, sweep
from launch.child import Child
from tests.conftest import ROOT

DIGITS = "--config=configs/lottery/digits.py"
PYTHON = sys.executable
KILLED = "killed by SIGKILL, perhaps since memory was short"


SBATCH = """#!/bin/bash
# runs an array's elements at once, as soon as submitit has put their pickles where they belong
[[ ! -e {folder}/script ]] || exit 1
cp "$1" {folder}/script
for element in 0 1; do
  SUBMITIT_EXECUTOR=slurm SLURM_JOB_ID=7$element SLURM_ARRAY_JOB_ID=7 \\
    SLURM_ARRAY_TASK_ID=$element {python} -m submitit.core._submit {folder}/jobs \\
    > {folder}/jobs/7_${{element}}_0_log.out 2> {folder}/jobs/7_${{element}}_0_log.err < /dev/null &
done
echo Submitted batch job 7
"""
ENDED = """#!/bin/bash
echo 'JobID|State|NodeList'
"""


def test_on_slurm_points_are_an_array_that_is_waited_for_and_found_again(tmp_path, monkeypatch):
    """A scheduler whose queue is a file."""
    programs = tmp_path / "bin"
    programs.mkdir()
    queue = tmp_path / "queue"
    queue.write_text("")
    texts = {
        "sbatch": SBATCH.format(folder=tmp_path, python=PYTHON),
        "sacct": ENDED,
        "squeue": f"#!/bin/bash\ncat {queue}\n",
        "srun": "#!/bin/bash\n",
    }
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(slurm_array, "POLL_SECONDS", 0.1)
    flags = ["--executor=slurm", "--gpus-per-node=2", "--tasks-per-node=1"]
    options = sweep._parser().parse_args([DIGITS, *flags])
    said = []

    def run_slurm(*names):
        scripts = {
            "good": "import os; os.environ['JAX_LOCAL_DEVICE_IDS'] == '0,1' or 1/0",
            "bad": "raise ValueError('too small')",
        }
        children = {n: Child((PYTHON, "-c", scripts[n])) for n in names}
        return slurm_array.run_array(children, tmp_path / "jobs", options, said.append)

    assert run_slurm("good", "bad") == {
        "good": jobs.Outcome("finished"),
        "bad": jobs.Outcome("failed", "ValueError: too small (exit code 1)"),
    }
    assert "#SBATCH --array=0-1%2" in (tmp_path / "script").read_text()
    assert said[:2] == ["queued good: job 7_0", "queued bad: job 7_1"]
    queue.write_text("7_0\n6\n")  # as if it were still there
    assert run_slurm("good") == {"good": jobs.Outcome("finished")}
    assert said[-2] == "was queued good: job 7_0"


def test_slurm_that_does_not_answer_is_said_in_one_line(tmp_path, monkeypatch):
    (tmp_path / slurm_array.QUEUED).write_text("{")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="cannot ask Slurm what is queued: squeue: No such file"):
        slurm_array.queued(tmp_path)
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'no controller' >&2; exit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    with pytest.raises(UserError, match="cannot ask Slurm what is queued: no controller"):
        slurm_array.queued(tmp_path)
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 7_0\n")
    for text in ("{", "[]", "5"):
        (tmp_path / slurm_array.QUEUED).write_text(text)
        with pytest.raises(UserError, match=r"jobs\.json is damaged: remove it"):
            slurm_array.queued(tmp_path)


def test_points_on_this_machine_end_in_one_of_three_ways_and_keep_their_logs(tmp_path):
    scripts = {
        "good": "print('fine')",
        "bad": "raise ValueError('too small')",
        "saved": "raise SystemExit(75)",
        "early": "import os; os.kill(os.getpid(), 15)",
        "killed": "import os; os.kill(os.getpid(), 9)",
    }
    children = {name: Child((PYTHON, "-c", script)) for name, script in scripts.items()}
    expected = {
        "good": jobs.Outcome("finished"),
        "bad": jobs.Outcome("failed", "ValueError: too small (exit code 1)"),
        "saved": jobs.Outcome("stopped"),
        "early": jobs.Outcome("stopped"),
        "killed": jobs.Outcome("failed", f"it said nothing (exit code 137: {KILLED})"),
    }
    said = []
    assert jobs.run_local(children, tmp_path, 5, said.append) == expected
    assert said[0] == f"started good: {tmp_path}/good/log.out"
    again = {"bad": children["killed"], "good": children["good"]}
    assert jobs.run_local(again, tmp_path, 1, said.append) == {
        "bad": expected["killed"],  # and not for what an earlier start has said
        "good": expected["good"],
    }
    assert "too small" in (tmp_path / "bad/log.err").read_text()
    assert (tmp_path / "good/log.out").read_text().count("fine\n") == 2


def test_a_point_that_is_in_use_is_waited_for(tmp_path):
    """As after a sweep was killed, and its points were not."""
    finish = f"from pathlib import Path; Path({str(tmp_path)!r}, 'order').open('a').write('NAME ')"
    children = {n: Child((PYTHON, "-c", finish.replace("NAME", n))) for n in "ab"}
    folders = {name: tmp_path / name for name in "ab"}
    held = place.lock(folders["a"])
    said = []

    def say(text):
        said.append(text)
        if text.startswith("waiting"):
            threading.Timer(0.5, os.close, [held]).start()

    ended = jobs.run_local(children, tmp_path / "jobs", 1, say, folders)
    assert ended == dict.fromkeys("ab", jobs.Outcome("finished"))
    assert said[0] == f"waiting for a: {folders['a']} is in use by another process"
    assert (tmp_path / "order").read_text() == "a b "  # one at a time, with the one that was there


def test_a_point_whose_run_is_taken_while_it_starts_is_started_again(tmp_path):
    """The other command had not locked the folder yet."""
    taken = tmp_path / "taken"
    script = f"from pathlib import Path; p = Path({str(taken)!r}); gone = p.exists(); p.touch()"
    child = Child((PYTHON, "-c", f"{script}; raise SystemExit(0 if gone else 2)"))
    held = [place.lock(tmp_path / "a")]

    def say(text):
        if text.startswith("waiting"):
            assert taken.exists()
            os.close(held.pop())

    seen = iter([False])
    real = place.in_use
    with pytest.MonkeyPatch.context() as scope:
        scope.setattr(place, "in_use", lambda folder: next(seen, True) and real(folder))
        ended = jobs.run_local({"a": child}, tmp_path / "jobs", 1, say, {"a": tmp_path / "a"})
    assert ended == {"a": jobs.Outcome("finished")}
    assert held == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_sweep_that_is_told_to_stop_stops_as_by_ctrl_c(number, monkeypatch):
    """The terminal may be lost, too: its points are in sessions of their own."""
    monkeypatch.setattr(jobs, "run_local", lambda *_: signal.raise_signal(number))
    before = signal.signal(number, lambda *_: None)
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep._run({}, sweep._parser().parse_args([DIGITS]), print)
        signal.raise_signal(number)  # is again what it was
    finally:
        signal.signal(number, before)


def test_no_point_is_left_alone_where_nobody_hears_what_is_said(tmp_path):
    """As with `| head`: the output breaks while a point runs."""

    def broken(text):
        raise BrokenPipeError

    child = Child((PYTHON, "-c", "import time; time.sleep(60)"))
    before = time.monotonic()
    with pytest.raises(BrokenPipeError):
        jobs.run_local({"a": child}, tmp_path, 1, broken)
    assert time.monotonic() - before < 20


LOGS = {
    "warning: x\nerror: no data\nsubmitit ERROR (…) - it raised\n": (2, "no data"),
    "Traceback\n  File\nValueError: too small\n": (1, "ValueError: too small (exit code 1)"),
    "jax.errors.JaxRuntimeError: full\nat the end\n": (
        1,
        "jax.errors.JaxRuntimeError: full (exit code 1)",
    ),
    "": (137, f"it said nothing (exit code 137: {KILLED})"),
    "Fatal\n": (139, "Fatal (exit code 139: killed by SIGSEGV)"),
    "at the end\n": (255, "at the end (exit code 255)"),
}


@pytest.mark.parametrize("log", LOGS)
def test_the_reason_is_one_line_of_the_log(log):
    code, reason = LOGS[log]
    assert jobs.why(log, code) == reason
