"""A tiny network, and a small experiment of every kind: the real code path."""

import io
from contextlib import redirect_stdout
from pathlib import Path

from lowrank import main

BOTH = ("svd", "svd_outputs")
SCRATCH = "--config.decompose.scratch=true"
ARGS = [
    "--config=configs/lowrank/digits.py",
    "--config.model.width=0.2",
    "--config.replicates=2",
    "--config.train.steps=120",
    "--config.fine_tune.steps=40",
    "--config.eval_every=20",
    "--config.decompose.keep_slow=true",
    "--config.checkpoint.every_seconds=0",
    "--config.checkpoint.poll_steps=20",
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]


def run(
    workdir: Path,
    *overrides: str,
    methods: object = ("svd",),
    shares: object = (0.5,),
    predict: object = (),
) -> str:
    """Run in this process, from the repository's root; what it printed."""
    with redirect_stdout(io.StringIO()) as printed:
        swept = [f"--config.decompose.methods={methods}", f"--config.decompose.shares={shares}"]
        swept += [f"--config.predict={predict}"]
        main.main([*ARGS, *swept, f"--workdir={workdir}", *overrides])
    return printed.getvalue()
