"""python -m benchmarks.run_cost: what a whole run costs beyond its bare training steps.

Runs `lottery.main` on Fashion-MNIST (without branches, few levels) in a fresh folder, and times
the bare training step of the same program: whole run / (units × steps × bare step).
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

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `python benchmarks/run_cost.py`

CONFIG = "configs/lottery/lenet_fashion_mnist.py"
STEPS, REPLICATES = 6 * 429, 3  # a unit's, and a run's, by that config
BLOCK_STEPS = 400
BRANCHES = ("random_reinit", "random_mask", "small_dense")


class RunTimes(NamedTuple):
    """Seconds of one run."""

    whole: float  # the command, from the shell
    opened: float  # from the opening of the run folder to the end: no imports, no reading of data
    units: list[float]  # of run.log, training and evaluation with the first one's compilation


def time_run(folder: str, levels: int) -> RunTimes:
    """A run in a fresh folder, in a process of its own."""
    with tempfile.TemporaryDirectory() as made:
        workdir = Path(made) / "run"
        command = [sys.executable, "-m", "lottery.main", f"--config={CONFIG}"]
        command += [f"--workdir={workdir}", f"--config.levels={levels}"]
        command += ["--config.data.source=idx", f"--config.data.dir={folder}"]
        command += [f"--config.branches.{branch}=()" for branch in BRANCHES]
        begun = time.time()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        ended = time.time()
        opened = (workdir / "config.json").stat().st_mtime  # run.log has whole seconds only
        said = re.findall(r"done in ([\d.]+) s", (workdir / "run.log").read_text())
        return RunTimes(ended - begun, ended - opened, [float(seconds) for seconds in said])


def time_step(folder: str, blocks: int) -> float:
    """Seconds of a bare training step of all replicates, the median over blocks."""
    from benchmarks import jax_steps

    advance = jax_steps.make(folder, REPLICATES)
    advance(BLOCK_STEPS)  # compiles
    seconds = []
    for _ in range(blocks):
        begun = time.perf_counter()
        advance(BLOCK_STEPS)
        seconds.append((time.perf_counter() - begun) / BLOCK_STEPS)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print."""
    from benchmarks.lottery_epoch import FASHION_MNIST, fashion_mnist, machine

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", default=FASHION_MNIST, help="folder of the IDX files")
    parser.add_argument("--levels", type=int, default=3, help="rounds of pruning")
    parser.add_argument("--blocks", type=int, default=7, help=f"of {BLOCK_STEPS} bare steps")
    flags = parser.parse_args()
    with fashion_mnist(flags.data_dir) as (folder, said):
        run = time_run(folder, flags.levels)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        step = time_step(folder, flags.blocks)
    bare = len(run.units) * STEPS * step
    shown = Table(title=f"{len(run.units)} units × {STEPS} steps, {REPLICATES} replicates")
    for column in ("", "s", "× bare steps"):
        shown.add_column(column, justify="right" if column else "left")
    for name, seconds in (
        (f"bare steps, {step * 1e3:.3f} ms each", bare),
        ("whole run", run.whole),
        ("whole run without process start", run.opened),
        ("its units, without saving, pruning and the report", sum(run.units)),
        ("its median unit, as many times", len(run.units) * statistics.median(run.units)),
    ):
        shown.add_row(name, f"{seconds:.1f}", f"{seconds / bare:.3f}")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(shown)
    for line in (f"data: {said}", f"machine: {machine()}", f"peak memory: {peak / 1e9:.2f} GB"):
        console.print(line, soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
