"""A tiny search, by the real code path; candidates that are made up."""

from collections.abc import Mapping
from pathlib import Path

from compress.search import main
from compress.search.history import ORIGINAL, Candidate, Judged
from compress.search.settings import Setting
from groundwork import config as config_lib
from tests import in_process
from tests.conftest import ROOT

ARGS = [
    "--config=configs/search/digits.py",
    "--config.model.width=0.05",
    "--config.replicates=2",
    "--config.train.steps=60",
    "--config.eval_every=60",
    "--config.data.validation_examples=297",  # as many as of test: one program counts both
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
    "--config.evaluations=6",
    "--config.budget.bytes=800",
    "--config.space.densities=(0.5,0.2)",
    "--config.space.bits=(4,2)",
    "--config.search.sampler=random",  # Optuna's are tested by themselves
    "--config.search.around=(1.5,1.0)",
    "--config.search.uniform=1",
    "--config.search.steps=20",
    "--config.search.rungs=(1,2)",
    "--config.search.examples=100",
    "--config.search.screened=2",
    "--config.search.finalists=1",
    "--config.search.parallel=2",
    "--config.quantize.rate=0.05",
    "--config.fine_tune.steps=20",
]


def run(workdir: Path, *overrides: str) -> str:
    return in_process.run(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])


def train(workdir: Path, *overrides: str) -> None:
    in_process.train(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])


def config(**sections) -> dict:
    """A resolved config with other values in some sections."""
    resolved = config_lib.resolve(config_lib.load(str(ROOT / "configs/search/digits.py")))
    resolved["search"]["sampler"] = "random"
    for section, values in sections.items():
        whole = not isinstance(values, dict)
        resolved[section] = values if whole else {**resolved[section], **values}
    return resolved


def candidate(
    number: int,
    choice: Mapping[str, Setting] | None = None,
    *rungs: tuple[float, float],
    origin: str = "random",
    failed: str = "",
) -> Candidate:
    """A candidate with an accuracy and bytes after each of its rungs."""
    judged = [
        Judged(rounds=place + 1, validation=[a], costs={"bytes": [cost]}, bytes=[int(cost)])
        for place, (a, cost) in enumerate(rungs)
    ]
    return Candidate(
        number=number,
        choice=choice or {},
        origin=origin,
        parent=ORIGINAL,
        step=0,
        judged=tuple(judged),
        failed=failed,
        seconds=1.0,
    )
