"""Several processes on this machine: what they are told, how they end, and who is blamed."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from groundwork.devices import processes
from tests.conftest import ROOT

GRACE = 0.5  # seconds instead of ten
PATIENT = """
import os, signal, sys, time
from launch import local
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever these tests themselves were started by
sys.exit(local.main(sys.argv[1:]))
"""
LAUNCHER = PATIENT.replace("sys.exit", f"local.GRACE_SECONDS = {GRACE}\nsys.exit")
INDEX = "import os, signal, sys, time; index = int(os.environ['JAX_PROCESS_ID'])\n"


def start(*argv, launcher=LAUNCHER, **options):
    command = [sys.executable, "-c", launcher, *argv]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, **options}
    return subprocess.Popen(command, text=True, **options)


def finish(launcher):
    out, err = launcher.communicate(timeout=20)
    return launcher.returncode, out, err


def children(script, *flags, **options):
    """Two processes that run a script: code, output and messages of the launcher."""
    return finish(start("--processes=2", *flags, "--", "python", "-Sc", INDEX + script, **options))


def test_a_dry_run_prints_commands_that_a_shell_would_run(tmp_path):
    made = tmp_path / "it's made"
    command = ["touch", str(made)]
    flags = ("--processes=2", "--devices=3", "--dry-run", "--")
    bare = {k: v for k, v in os.environ.items() if k != "NPROC"}
    code, out, err = finish(start(*flags, *command, env=bare))
    assert (code, err) == (0, "")
    assert not made.exists()
    port = re.search(r"127\.0\.0\.1:(\d+)", out)[1]
    for index, line in enumerate(out.splitlines()):
        assert shlex.split(line) == [
            f"JAX_COORDINATOR_ADDRESS=127.0.0.1:{port}",
            "JAX_NUM_PROCESSES=2",
            f"JAX_PROCESS_ID={index}",
            f"{processes.LAUNCHER}={GRACE}",
            "JAX_NUM_CPU_DEVICES=3",
            "JAX_PLATFORMS=cpu",
            "NPROC=12",
            *command,
        ]
    assert index == 1


@pytest.mark.parametrize("name", ["python", "python3"])
def test_python_is_the_interpreter_that_runs_the_launcher(name):
    environment = {**os.environ, "PATH": "/nowhere"}
    script = "import sys; print(sys.executable)"
    launcher = start("--processes=1", "--", name, "-c", script, env=environment)
    assert finish(launcher) == (0, f"{sys.executable}\n", "")


def test_the_first_has_the_terminal_and_lines_of_the_others_carry_their_number():
    code, out, err = children("print('one', index); print('two', index, end='')")
    assert (code, out, err) == (0, "one 0\ntwo 0", "[1] one 1\n[1] two 1\n")


def test_what_the_others_complain_of_carries_their_number_too():
    complains = children("if index: print('oh', file=sys.stderr)")
    assert complains == (0, "", "[1] oh\n")


KEYS = ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID", "NUM_CPU_DEVICES", "PLATFORMS")


@pytest.mark.parametrize(("flags", "devices"), [([], ["-", "-"]), (["--devices=4"], ["4", "cpu"])])
def test_processes_are_told_who_they_are(flags, devices):
    bare = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    script = f"print(*(os.environ.get('JAX_' + key, '-') for key in {KEYS}))"
    code, out, err = children(script, *flags, env=bare)
    assert code == 0
    first, second = out.split(), err.removeprefix("[1] ").split()
    assert re.fullmatch(r"127\.0\.0\.1:\d+", first[0])
    assert first[1:] == ["2", "0", *devices]
    assert second == [first[0], "2", "1", *devices]


def test_the_callers_environment_is_kept():
    code, out, _ = children("print(os.environ['OTHER'])", env={**os.environ, "OTHER": "kept"})
    assert (code, out) == (0, "kept\n")


def exit_with(code):
    """How a process ends by itself with a code, or by a signal."""
    return f"sys.exit({code})" if code < 128 else f"os.kill(os.getpid(), {code - 128})"


@pytest.mark.parametrize("code", [0, 2, 75, 137])
def test_the_processes_code_is_the_launchers(code):
    assert children(exit_with(code))[0] == code


FAILS = {
    2: "error: process {} of 2 ended with code 2",
    75: "process {} of 2 ended with code 75",
    137: "error: process {} of 2 was killed by SIGKILL (memory may be short); the same command "
    "continues the run",
}


@pytest.mark.parametrize("code", FAILS)
@pytest.mark.parametrize("index", [0, 1])
def test_the_one_that_fails_is_named_and_the_others_are_ended(index, code):
    begun = time.monotonic()
    other = "subprocess.run(['sleep', '60'])"  # ends with it, though it holds the output open
    ended, out, err = children(
        f"import subprocess\nif index == {index}: {exit_with(code)}\nelse: {other}"
    )
    assert GRACE < time.monotonic() - begun < 15
    assert (ended, out) == (code, "")
    assert err == f"{FAILS[code].format(index)}; the other one may take {GRACE} s to end\n"


def test_a_signal_without_a_name_has_its_number():
    code, _, err = children("os.kill(os.getpid(), 35)")
    assert code == 128 + 35
    assert "was killed by signal 35" in err


BEHIND = """
import subprocess
if index:
    left = subprocess.Popen(["sleep", "60"])
    open(sys.argv[1], "w").write(str(left.pid))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_behind_is_ended(tmp_path):
    begun = time.monotonic()
    command = ["python", "-Sc", INDEX + BEHIND, str(tmp_path / "left")]
    assert finish(start("--processes=2", "--", *command))[0] == 137
    assert time.monotonic() - begun < 15
    left = int((tmp_path / "left").read_text())
    end = time.monotonic() + 20
    while _runs(left) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _runs(left)


def test_output_that_something_else_holds_open_is_not_waited_for():
    brief = LAUNCHER.replace("local.GRACE", "local.LAST_SECONDS = 0.2; local.GRACE")
    script = "import subprocess\nif index: subprocess.Popen(['sleep', '10'])"
    begun = time.monotonic()
    launcher = start("--processes=2", "--", "python", "-Sc", INDEX + script, launcher=brief)
    assert launcher.wait(20) == 0
    assert time.monotonic() - begun < 8
    launcher.stdout.close()
    launcher.stderr.close()


def _runs(process):
    """Whether it is there, and no zombie whom nobody asked for its code."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


FULL = """
start = local._start
def failing(flags, port, index):
    if index: raise OSError(24, "Too many open files")
    child = start(flags, port, index)
    print(child.pid, flush=True)
    return child
local._start = failing
sys.exit"""


def test_if_one_cannot_be_started_none_stays():
    launcher = start(
        "--processes=2", "--", "sleep", "60", launcher=PATIENT.replace("sys.exit", FULL)
    )
    code, out, err = finish(launcher)
    assert (code, err) == (2, "error: sleep: Too many open files\n")
    assert not _runs(int(out))


def test_the_others_may_end_by_themselves_and_the_first_failure_counts():
    script = f"if index: sys.exit(3)\ntime.sleep({GRACE / 2}); print('saved'); sys.exit(4)"
    said = f"error: process 1 of 2 ended with code 3; the other one may take {GRACE} s to end\n"
    assert children(script) == (3, "saved\n", said)


def test_it_is_named_where_all_have_ended_at_once():
    slow = LAUNCHER.replace("local.GRACE", "local.POLL_SECONDS = 1; local.GRACE")
    code, _, err = children("sys.exit(3 * index)", launcher=slow)
    assert (code, err) == (3, "error: process 1 of 2 ended with code 3\n")


@pytest.mark.parametrize(
    ("command", "reason"), [("nonsense", "No such file or directory"), ("/", "Permission denied")]
)
def test_a_wrong_command_is_one_line(command, reason):
    launcher = start("--processes=2", "--", command)
    assert finish(launcher) == (2, "", f"error: {command}: {reason}\n")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--processes=0", "--", "true"], "--processes must be 1 to 1000"),
        (["--processes=1", "--devices=-1", "--", "true"], "--devices 0 to 1000"),
        (["--", "true"], "required: --processes"),
        (["--processes=1"], "required: command"),
    ],
)
def test_wrong_flags_are_refused(flags, said):
    code, out, err = finish(start(*flags))
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


SAVING = """
def stop(number, frame):
    if os.path.exists(sys.argv[1] + f"/{index}.told"): os._exit(1)
    open(sys.argv[1] + f"/{index}.told", "w").write(signal.Signals(number).name)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, stop)
open(sys.argv[1] + f"/{index}.tmp", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + f"/{index}.tmp", sys.argv[1] + f"/{index}.ready")
for _ in range(600):
    time.sleep(0.1)
    if os.path.exists(sys.argv[1] + f"/{index}.told"): sys.exit(75)
"""


def start_saving(folder, launcher=PATIENT, **options):
    """Two processes that end when they are told to, long before their launcher would end them."""
    command = ["python", "-Sc", INDEX + SAVING, str(folder)]
    return start("--processes=2", "--", *command, launcher=launcher, **options)


def ready(folder, *indices):
    """Process ids of those that run."""
    files = [folder / f"{index}.ready" for index in indices]
    end = time.monotonic() + 20
    while not all(file.exists() for file in files):
        assert time.monotonic() < end, "they did not come"
        time.sleep(0.02)
    return [int(file.read_text()) for file in files]


def told(folder):
    return [path.read_text() for path in sorted(folder.glob("*.told"))]


@pytest.mark.parametrize(
    ("number", "passed_on"),
    [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGINT"), ("SIGHUP", "SIGTERM")],
)
def test_signals_are_passed_on_to_all_and_all_end(tmp_path, number, passed_on):
    launcher = start_saving(tmp_path)
    ids = ready(tmp_path, 0, 1)
    launcher.send_signal(signal.Signals[number])
    code, _, err = finish(launcher)
    assert code == 75, err
    assert told(tmp_path) == [passed_on, passed_on]
    for process in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_ctrl_c_at_the_terminal_comes_to_each_once(tmp_path):
    """A terminal sends it to every process of the foreground group."""
    launcher = start_saving(tmp_path, start_new_session=True)
    ready(tmp_path, 0, 1)
    os.killpg(launcher.pid, signal.SIGINT)
    code, _, err = finish(launcher)
    assert code == 75, err
    assert told(tmp_path) == ["SIGINT", "SIGINT"]


def test_a_run_under_nohup_outlives_the_terminal(tmp_path):
    ignoring = PATIENT.replace("SIG_DFL", "SIG_IGN")
    launcher = start_saving(tmp_path, ignoring)
    ready(tmp_path, 0, 1)
    launcher.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert told(tmp_path) == []
    launcher.send_signal(signal.SIGTERM)
    assert finish(launcher)[0] == 75
    assert told(tmp_path) == ["SIGTERM", "SIGTERM"]


EARLY = """
start = local._start
def slow(flags, port, index):
    child = start(flags, port, index)
    while not os.path.exists(flags.command[-1] + f"/{index}.ready"): time.sleep(0.02)
    if index == 0: os.kill(os.getpid(), signal.SIGTERM)
    return child
local._start = slow
sys.exit"""


def test_a_signal_that_comes_before_all_are_there_is_not_lost(tmp_path):
    launcher = start_saving(tmp_path, PATIENT.replace("sys.exit", EARLY.strip()))
    code, _, err = finish(launcher)
    assert code == 75, err
    assert told(tmp_path) == ["SIGTERM", "SIGTERM"]


def test_that_nobody_reads_any_more_keeps_nobody(tmp_path):
    """Neither the launcher, which ends the others, nor those whose lines it prints."""
    reader, writer = os.pipe()
    os.close(reader)
    script = f"if index: print('x' * 10**6); open({str(tmp_path / 'on')!r}, 'w'); time.sleep(60)"
    script += f"\nwhile not os.path.exists({str(tmp_path / 'on')!r}): time.sleep(0.02)\nsys.exit(3)"
    begun = time.monotonic()
    launcher = start("--processes=2", "--", "python", "-Sc", INDEX + script, stderr=writer)
    os.close(writer)
    assert finish(launcher)[0] == 3
    assert time.monotonic() - begun < 15
