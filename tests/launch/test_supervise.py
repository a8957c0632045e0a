"""What keeps a command running on a host: which exit codes start it again."""

import os
import signal
import subprocess
import time

import pytest

from tests.conftest import ROOT

SUPERVISOR = str(ROOT / "launch/supervise.sh")


@pytest.mark.parametrize(
    ("codes", "starts", "end"),
    [
        ("0", 1, 0),
        ("3 0", 1, 3),
        ("75 75 75 75 75 0", 6, 0),  # preempted as often as may be
        ("76 0", 2, 0),
        ("76 75 76 75 76 0", 6, 0),
        ("76 76 76 76 0", 4, 76),
        ("76 2 0", 2, 2),
    ],
)
def test_it_starts_what_was_preempted_again_and_what_hung_three_times(tmp_path, codes, starts, end):
    """The command ends with one code after the other."""
    (tmp_path / "command.sh").write_text(
        f'echo >> starts\nset -- {codes}\nshift $(($(wc -l < starts) - 1))\nexit "$1"\n'
    )
    subprocess.run([SUPERVISOR, "--loop", "sh", "command.sh"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "starts").read_bytes().count(b"\n") == starts
    assert (tmp_path / "exit-code").read_text() == f"{end}\n"


def start(folder, *command):
    done = subprocess.run([SUPERVISOR, *command], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_one_command_at_a_time_and_a_number_that_is_anothers_now_does_not_count(tmp_path):
    (tmp_path / "run.pid").write_text(str(os.getpid()))  # as after a restart of the host
    assert start(tmp_path, "sleep", "60") == (0, "")
    code, said = start(tmp_path, "sleep", "60")
    assert code == 2
    assert said.endswith("still runs an earlier command; --stop it first\n")
    os.killpg(int((tmp_path / "run.pid").read_text()), signal.SIGTERM)
    end = time.monotonic() + 20
    while not (tmp_path / "exit-code").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert start(tmp_path) == (2, "error: no command: launch/supervise.sh COMMAND\n")
