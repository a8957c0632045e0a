"""A tiny network through the pipeline, by the real code path; networks that stages are given."""

from pathlib import Path

import jax
import numpy as np

from compress import made, main
from compress.form import Form
from compress.made import Made, Node, Pipeline
from groundwork import architectures
from groundwork import config as config_lib
from tests import in_process
from tests.conftest import ROOT

GROUPS = (("fc1", "fc2"),)  # of a residual network of 64 units, as many as there are pixels

ARGS = [
    "--config=configs/compress/digits.py",
    "--config.model.width=0.1",
    "--config.replicates=2",
    "--config.train.steps=60",
    "--config.fine_tune.steps=20",
    "--config.eval_every=20",
    "--config.checkpoint.poll_steps=10",
    "--config.data.validation_examples=297",  # as many as of test: one program counts both
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
    "--config.prune.levels=(2,)",
    "--config.prune.rate=0.5",
    "--config.quantize.bits=(3,)",
]


def run(workdir: Path, *overrides: str) -> str:
    return in_process.run(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])


def train(workdir: Path, *overrides: str) -> None:
    in_process.train(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])


def config(name: str = "digits", **sections: dict) -> dict:
    """A resolved config with other values in some sections."""
    resolved = config_lib.resolve(config_lib.load(str(ROOT / f"configs/compress/{name}.py")))
    for section, values in sections.items():
        whole = not isinstance(values, dict)
        resolved[section] = values if whole else {**resolved[section], **values}
    return resolved


def node(stage: str, setting: float = 0) -> Node:
    """The network that a stage makes of the original, and with which the pipeline ends."""
    return Node(stage, "original", stage, setting, True)


def drawn(pipeline: Pipeline) -> dict:
    """Normal variables [2, …] of the original."""
    shapes = architectures.shapes(pipeline.model, pipeline.context.dataset.shape)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.normal(size=(2, *s.shape)).astype("f4"), shapes)


def dense(pipeline: Pipeline) -> Made:
    """The original, of which nothing is pruned."""
    return Made(Form(pipeline.model), drawn(pipeline), {}, {})


def pruned(pipeline: Pipeline, *paths: str, density: float = 0.5) -> Made:
    """The original and its mask; some of these kernels' entries are zero."""
    variables = drawn(pipeline)
    rng = np.random.default_rng(1)
    for path in paths:
        layer, leaf = path.split("/")
        kernel = variables["params"][layer][leaf]
        kernel *= rng.uniform(size=kernel.shape) < density
    return Made(Form(pipeline.model), variables, made.zeros(variables["params"]), {})
