"""What keeps a command running on a host: which exit codes start it again."""

import subprocess

import pytest

from tests.conftest import ROOT


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
    supervisor = str(ROOT / "launch/supervise.sh")
    subprocess.run([supervisor, "--loop", "sh", "command.sh"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "starts").read_bytes().count(b"\n") == starts
    assert (tmp_path / "exit-code").read_text() == f"{end}\n"
