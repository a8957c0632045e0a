"""A tiny network through the pipeline: the real code path."""

import io
from contextlib import redirect_stdout
from pathlib import Path

from compress import main
from groundwork import config as config_lib

ARGS = [
    "--config=configs/compress/digits.py",
    "--config.model.width=0.1",
    "--config.replicates=2",
    "--config.train.steps=60",
    "--config.fine_tune.steps=20",
    "--config.eval_every=20",
    "--config.checkpoint.every_seconds=0",
    "--config.checkpoint.poll_steps=10",
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
    "--config.prune.levels=(2,)",
    "--config.prune.rate=0.5",
    "--config.quantize.bits=(3,)",
]


def run(workdir: Path, *overrides: str) -> str:
    """Run in this process, from the repository's root; what it printed."""
    with redirect_stdout(io.StringIO()) as printed:
        main.main([*ARGS, f"--workdir={workdir}", *overrides])
    return printed.getvalue()


def config(name: str = "digits", **sections: dict) -> dict:
    """A resolved config with other values in some sections."""
    found = config_lib.resolve(config_lib.load(f"configs/compress/{name}.py"))
    for section, values in sections.items():
        found[section] = {**found[section], **values} if isinstance(values, dict) else values
    return found
