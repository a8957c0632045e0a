"""python -m benchmarks.run_cost: what a whole run costs beyond its bare training steps.

Runs `lottery.main` on Fashion-MNIST (without branches, few levels) in a fresh folder, and times
the bare training step of the same program before and after it, in a process of its own. The result
is whole run / (units × steps × bare step).
"""

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/run_cost.py`

from benchmarks import lottery_epoch as epoch
from benchmarks import setting
from groundwork import terminal
from groundwork.report import tables

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/lottery/lenet_fashion_mnist.py"
STEPS, REPLICATES = 6 * 429, 3  # of each unit and of the run, by that config
BLOCK_STEPS = 400  # of the bare program, in one call
BRANCHES = ("random_reinit", "random_mask", "small_dense")


class RunTimes(NamedTuple):
    """Seconds of one run."""

    whole: float  # the command, from the shell
    opened: float  # from the opening of the run's folder to the end: no imports, no reading of data
    units: list[float]  # by run.log: training and evaluation, and in the first one compilation


def time_run(folder: str, levels: int) -> RunTimes:
    """Times a run in a fresh folder, in a process of its own."""
    with tempfile.TemporaryDirectory() as made:
        workdir = Path(made) / "run"
        command = [sys.executable, "-m", "lottery.main", f"--config={CONFIG}"]
        command += [f"--workdir={workdir}", f"--config.levels={levels}"]
        command += ["--config.data.source=idx", f"--config.data.dir={folder}"]
        command += [f"--config.branches.{branch}=()" for branch in BRANCHES]
        begun = time.time()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        ended = time.time()
        opened = (workdir / "config.json").stat().st_mtime  # run.log has whole seconds only
        units = re.findall(r" levels/\S+  done in ([\d.]+) s", (workdir / "run.log").read_text())
        return RunTimes(ended - begun, ended - opened, [float(seconds) for seconds in units])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", default=setting.FASHION_MNIST, help="folder of the IDX files")
    parser.add_argument("--levels", type=int, default=3, help="rounds of pruning")
    parser.add_argument("--blocks", type=int, default=4, help="of bare steps, before and after")
    flags = parser.parse_args()
    load = setting.load()
    options = {"replicates": REPLICATES}
    stepper = epoch.Contestant("ours", "bare steps", "jax_steps", "make", options, BLOCK_STEPS)
    with (
        setting.fashion_mnist(flags.data_dir) as (folder, data),
        epoch.started(stepper, folder) as once,
    ):
        blocks = [once() for _ in range(flags.blocks)]
        run = time_run(folder, flags.levels)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        blocks += [once() for _ in range(flags.blocks)]
    step = statistics.median(seconds for seconds, _ in blocks) / epoch.EPOCH_STEPS
    bare = len(run.units) * STEPS * step
    rows = []
    for name, seconds in (
        (f"bare steps, {step * 1e3:.3f} ms each", bare),
        ("whole run", run.whole),
        ("whole run without process start", run.opened),
        ("its units: no saving, pruning, report", sum(run.units)),
        ("its median unit, as many times", len(run.units) * statistics.median(run.units)),
    ):
        rows.append([name, f"{seconds:.1f}", f"{seconds / bare:.3f}"])
    title = f"{len(run.units)} units × {STEPS} steps, {REPLICATES} replicates"
    tables.show(title, (["", "s", "× bare steps"], rows))
    memory = f"peak memory of the run: {peak / 1e9:.2f} GB"
    for line in (f"data: {data}", f"machine: {setting.machine()}; {load}", memory):
        terminal.say(line)


if __name__ == "__main__":
    main()
