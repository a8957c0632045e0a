"""A tiny network, and a small experiment of every kind: the real code path."""

from pathlib import Path

from groundwork import trees
from groundwork.traced.macs import multiply_adds
from pruning import branches, fit, main, work
from tests import in_process

ARGS = [
    "--config=configs/pruning/digits.py",
    "--config.model.width=0.1",
    "--config.replicates=2",
    "--config.train.steps=60",
    "--config.fine_tune.steps=40",
    "--config.eval_every=20",
    "--config.prune.compensate=none",
    "--config.branches.scratch_e=false",
    "--config.branches.scratch_b=false",
    "--config.branches.random_units=false",
    "--config.checkpoint.poll_steps=20",
    "--config.data.validation_examples=297",  # as many as of test: one program counts both
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]
BRANCHES = tuple(f"--config.branches.{b}=true" for b in ("scratch_e", "scratch_b", "random_units"))
COMPENSATED = "--config.prune.compensate=least_squares"


def run(workdir: Path, *overrides: str, ratio: object = 0.5) -> str:
    return in_process.run(main.STUDY, argv(workdir, *overrides, ratio=ratio))


def train(workdir: Path, *overrides: str, ratio: object = 0.5) -> None:
    in_process.train(main.STUDY, argv(workdir, *overrides, ratio=ratio))


def argv(workdir: Path, *overrides: str, ratio: object = 0.5) -> list[str]:
    return [*ARGS, f"--config.prune.ratio={ratio}", f"--workdir={workdir}", *overrides]


def leave_untrained(monkeypatch, *but: str) -> None:
    """Networks are saved as they were made, but for some units: tests of plans need no training."""

    def save(experiment, name, network, variables, phase):
        if name in but:
            fit.fitted(experiment, name, network, variables, phase)
            return
        one, context = trees.replicate(variables, 0), experiment.context
        unknown = {"test": [0.0] * context.replicates}
        about = {
            **unknown,
            "before": unknown,
            "steps": 0,
            "parameters": trees.count(one["params"]),
            "macs": multiply_adds(network.apply, one, context.dataset.example),
            "milliseconds": {},
        }
        context.run.unit(name).finish({"variables": variables}, about)

    for module in (work, branches):
        monkeypatch.setattr(module, "fitted", save)
