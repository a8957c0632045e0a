"""What would be submitted, to the letter; mistakes are one line."""

import shlex
import sys

import pytest

from groundwork.errors import UserError
from launch import slurm

COMMAND = ["--", "python", "-m", "lottery.main", "--config=configs/lottery/digits.py"]
COMMAND += ["--config.prune.rate={'*': 0.2}"]

SCRIPT = """\
# sbatch {logs}/JOB_submission.sh
#!/bin/bash

# Parameters
#SBATCH --account=us
#SBATCH --error={logs}/%j_0_log.err
#SBATCH --exclude=n7
#SBATCH --gpus-per-node=8
#SBATCH --job-name=mnist
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output={logs}/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@300
#SBATCH --time=720
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {logs}/%j_%t_log.out --error {logs}/%j_%t_log.err \
--kill-on-bad-exit=0 {python} -u -m submitit.core._submit {logs}

# each task then runs
{python} -m lottery.main --config=configs/lottery/digits.py {rate}
"""


def test_dry_run_prints_the_script_and_the_command(tmp_path, capsys):
    logs = tmp_path / "logs"
    flags = ["--nodes=2", "--gpus-per-node=8", "--hours=12", "--partition=gpu", "--account=us"]
    flags += ["--save-seconds=300", "--sbatch=exclude=n7", "--name=mnist", f"--logs={logs}"]
    slurm.main([*flags, "--dry-run", *COMMAND])
    rate = shlex.quote(COMMAND[-1])
    expected = SCRIPT.format(logs=logs, python=sys.executable, rate=rate)
    assert capsys.readouterr().out == expected
    assert not logs.exists()


def test_what_sbatch_is_given_is_what_was_shown(tmp_path, monkeypatch, capsys):
    """A scheduler that keeps the script."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun"):
        (programs / name).write_text(
            f'#!/bin/sh\ncp "$1" {tmp_path}/given\necho Submitted batch job 7'
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    flags = ["--nodes=2", f"--logs={tmp_path / 'logs'}"]
    slurm.main([*flags, "--dry-run", *COMMAND])
    shown = capsys.readouterr().out
    slurm.main([*flags, *COMMAND])
    assert (tmp_path / "given").read_text().strip() in shown
    out = capsys.readouterr().out
    assert out.startswith(f"job 7: {tmp_path}/logs/7_0_log.out")
    assert "scancel 7" in out
    (programs / "sbatch").write_text("#!/bin/sh\necho 'no such partition' >&2\nexit 1")
    with pytest.raises(UserError, match="sbatch refused: no such partition"):
        slurm.main([*flags, *COMMAND])


REFUSED = {
    "no command": ([], "no command"),
    "no slurm": (COMMAND, "srun is not on the PATH"),
    "an unknown flag": (["--node=2", *COMMAND], "--node=2"),
    "a text for a number": (["--nodes=two", *COMMAND], "--nodes: 'two' must be a whole number"),
    "no hours": (["--hours=nan", *COMMAND], "--hours: 'nan' must be a number above 0"),
    "hours without end": (["--hours=inf", *COMMAND], "'inf' must be a number above 0"),
    "less than a node": (["--nodes=-1", *COMMAND], "--nodes: -1 must be at least 1"),
    "no folder": (["--logs=", *COMMAND], "--logs: it is empty"),
    "no key": (["--dry-run", "--sbatch==2", *COMMAND], "KEY=VALUE"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_one_line(case, monkeypatch):
    argv, said = REFUSED[case]
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=said):
        slurm.main(argv)


def test_help_helps(capsys):
    with pytest.raises(SystemExit) as caught:
        slurm.main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "python -m launch.slurm --nodes=2" in out
    assert "--dry-run" in out
