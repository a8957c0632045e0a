"""What would be submitted, to the letter; mistakes are one line."""

import shlex
import sys

import pytest

from groundwork.errors import UserError
from launch import cli, slurm, slurm_gpus

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

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {logs}/%j_%t_log.out --error {logs}/%j_%t_log.err \
--kill-on-bad-exit=0 {python} -u -m submitit.core._submit {logs}

# each task then runs
# with JAX_LOCAL_DEVICE_IDS by its number on the node: 0 1 2 3 4 5 6 7
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


def options(*flags):
    parser = cli.Parser("launch.slurm", "", "")
    slurm.add_flags(parser)
    return parser.parse_args(flags)


LAYOUTS = {
    "no GPUs": ([], (1, ())),
    "no GPUs, three tasks": (["--tasks-per-node=3"], (3, ())),
    "none of them": (["--gpus-per-node=0"], (1, ())),
    "a task for each": (["--gpus-per-node=2"], (2, ("0", "1"))),
    "one task has all": (["--gpus-per-node=8", "--tasks-per-node=1"], (1, ("0,1,2,3,4,5,6,7",))),
    "two tasks share": (["--gpus-per-node=4", "--tasks-per-node=2"], (2, ("0,1", "2,3"))),
    "as gres": (["--sbatch=gres=gpu:2"], (2, ("0", "1"))),
    "of a kind, for one task": (
        ["--sbatch=--gres=gpu:a100:2", "--tasks-per-node=1"],
        (1, ("0,1",)),
    ),
    "one of a kind": (["--sbatch=gres=tmp:9,gres/gpu:a100(S:0)"], (1, ("0",))),
    "of two kinds": (["--sbatch=gres=gpu:a100:1,gpu:v100:1"], (2, ("0", "1"))),
    "other resources": (["--sbatch=gres=tmp:9"], (1, ())),
    "each task sees its own alone": (
        ["--sbatch=gpus_per_task=a100:2", "--tasks-per-node=3"],
        (3, ("0,1",) * 3),
    ),
    "and they fill the node": (
        ["--sbatch=gpus-per-task=2", "--gpus-per-node=8"],
        (4, ("0,1",) * 4),
    ),
    "one task": (["--sbatch=gpus-per-task=4"], (1, ("0,1,2,3",))),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_every_gpu_of_a_node_has_one_task(case):
    flags, expected = LAYOUTS[case]
    assert slurm_gpus.layout(options(*flags)) == expected


UNEVEN = {
    "three of eight": (["--gpus-per-node=8", "--tasks-per-node=3"], "must divide 8"),
    "more tasks than GPUs": (["--gpus-per-node=1", "--tasks-per-node=2"], "must divide 1"),
    "counted twice": (["--gpus-per-node=8", "--sbatch=gres=gpu:8"], "not both"),
    "too many": (
        ["--gpus-per-node=4", "--sbatch=gpus-per-task=2", "--tasks-per-node=3"],
        "need 6 GPUs of a node, which has 4",
    ),
    "no GPU": (["--sbatch=gpus-per-task=0"], "at least one GPU"),
    "a flag of the launcher's": (["--sbatch=ntasks_per_node=2"], "give --tasks-per-node$"),
    "a flag in sbatch's spelling": (["--sbatch=--cpus-per-task=2"], "give --cpus-per-task$"),
}


@pytest.mark.parametrize("case", UNEVEN)
def test_gpus_that_no_task_would_take_are_refused(case):
    flags, said = UNEVEN[case]
    with pytest.raises(UserError, match=said):
        slurm_gpus.layout(options(*flags))


def test_cores_reach_srun_and_a_wckey_is_given_when_asked_for_alone(capsys):
    slurm.main(["--cpus-per-task=6", "--sbatch=wckey=ours", "--dry-run", *COMMAND])
    out = capsys.readouterr().out
    assert "#SBATCH --cpus-per-task=6\n" in out
    assert "--kill-on-bad-exit=0 --cpus-per-task=6 " in out
    assert "#SBATCH --wckey=ours\n" in out
    slurm.main(["--dry-run", *COMMAND])
    out = capsys.readouterr().out
    assert "cpus-per-task" not in out
    assert "wckey" not in out


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
    "hours of ages": (["--hours=1e6", *COMMAND], "above 0 and below 10"),
    "no time to work": (["--hours=0.05", *COMMAND], "=120 must be .* --hours=0.05 are 180 s"),
    "no signal so early": (["--hours=99", "--save-seconds=65536", *COMMAND], "at most 65535"),
    "lines in a name": (["--name=a\nb", *COMMAND], "--name: .* must be one line of text"),
    "lines of sbatch's": (["--sbatch=comment=a\nb", *COMMAND], "must be one line of text"),
    "no partition": (["--partition= ", *COMMAND], "--partition: ' ' must be one line of text"),
    "an array": (["--sbatch=array=0-3", *COMMAND], "give python -m launch.sweep$"),
    "no way back": (["--sbatch=no-requeue", *COMMAND], "give --times=0$"),
    "blanks in a key": (["--sbatch=a b=1", *COMMAND], "'a b=1' must be KEY=VALUE or KEY"),
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
