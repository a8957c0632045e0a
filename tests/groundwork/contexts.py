"""The context of a run in a folder, for functions that take one."""

import contextlib
from types import SimpleNamespace

from groundwork import study
from groundwork.devices.interruption import Interruption
from groundwork.runs import run as run_lib
from groundwork.runs.identity import Identity
from groundwork.runs.progress import Reporter


@contextlib.contextmanager
def context_of(folder, dataset, mesh, *, replicates, eval_every=10, seed=0):
    """The context of a new run, which nothing interrupts."""
    config = {"log": {"tensorboard": False}}
    run, _ = run_lib.open_run(folder / "run", Identity(command="test", config=config))
    spec = SimpleNamespace(
        seed=seed,
        replicates=replicates,
        eval_every=eval_every,
        checkpoint=SimpleNamespace(every_seconds=60.0, poll_steps=50, hang_seconds=0),
    )
    with Reporter(folder / "run.log", {"a": 1}) as reporter:
        yield study.make_context(spec, dataset, mesh, run, reporter, Interruption())
