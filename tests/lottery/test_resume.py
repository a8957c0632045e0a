"""Killed at any moment and started again, a run ends as if nothing had happened, bit for bit."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from groundwork.architectures.cpu import convolution
from groundwork.devices.interruption import Interrupted, Interruption
from tests.conftest import CACHE, ROOT
from tests.lottery import small

DIE_IN_A_CHECKPOINT = """
import os, signal, sys
from groundwork.runs import checkpoint
from lottery import main
digests, saves = checkpoint._digests, []
def die(folder, sync=True):
    saves.append(sync)
    if sum(saves) == 4:  # Orbax's files are written, the manifest is not
        os.kill(os.getpid(), signal.SIGKILL)
    return digests(folder, sync)
checkpoint._digests = die
main.main(sys.argv[1:])
"""


def _start(folder, *python):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
    flags = [*small.ARGS, small.OFTEN, *python[2:], f"--workdir={folder}"]
    command = [sys.executable, *python[:2], *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _kill_when(process, ready, patience=120):
    """SIGKILL as soon as `ready()`; was it in time?"""
    end = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < end:
        if ready():
            process.kill()
            break
        time.sleep(0.001)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_three_kills_change_nothing(tmp_path, monkeypatch):
    """Convolutions, which oneDNN computes where there is a compiler."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    few = ("--config.levels=1", "--config.model.name=conv_2")
    small.train(undisturbed, *few)
    began = json.loads((undisturbed / "config.json").read_text())
    assert began["convolutions"] == convolution.library.about()
    log = disturbed / "metrics.jsonl"

    def training():
        return log.exists() and log.read_bytes().count(b"\n") >= 20

    kills = [_kill_when(_start(disturbed, "-m", "lottery.main", *few), training)]
    inside = _start(disturbed, "-c", DIE_IN_A_CHECKPOINT, *few)
    inside.communicate(timeout=300)
    kills.append(inside.returncode == -signal.SIGKILL)

    def writing():  # os.walk passes over folders that go away meanwhile
        return any("orbax-checkpoint-tmp" in at for at, *_ in os.walk(disturbed / "checkpoints"))

    kills.append(_kill_when(_start(disturbed, "-m", "lottery.main", *few), writing))
    assert kills == [True] * 3

    small.train(disturbed, *few)
    log = (disturbed / "run.log").read_text()
    assert "continues from step" in log
    assert "warning: this run began" not in log
    small.assert_same_run(disturbed, undisturbed, [(0, "ticket"), (1, "ticket")])
    monkeypatch.setattr(convolution.library, "about", lambda: "another library")
    small.train(disturbed, *few)
    warning = f"began with convolutions {began['convolutions']}, now another library"
    assert warning in (disturbed / "run.log").read_text()


def test_ctrl_c_says_in_one_line_how_to_go_on(tmp_path):
    process = _start(tmp_path / "run", "-m", "lottery.main")
    log = tmp_path / "run/metrics.jsonl"
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in printed
    last = printed.splitlines()[-1]
    assert re.fullmatch(r"interrupted; saved at start, step \d+; the same command continues", last)


def test_asked_to_stop_between_two_evaluations_the_next_row_is_the_same(tmp_path, monkeypatch):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    often = ("--config.levels=0", "--config.checkpoint.poll_steps=3")
    small.train(undisturbed, *often)
    looks = iter(range(1000))
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 10)  # steps 3 6 9 10 …
    with pytest.raises(Interrupted, match=r"saved at levels/00/ticket, step 26"):
        small.train(disturbed, *often)
    monkeypatch.undo()
    small.train(disturbed, *often)
    small.assert_same_run(disturbed, undisturbed, [(0, "ticket")])
