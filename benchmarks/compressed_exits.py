"""python -m benchmarks.compressed_exits RUN: smaller networks with exits on engines.

RUN is a finished run of `msdnet.main`, whose multi-scale network is made smaller twice: half of the
units of each group go (L2 norms), and layers get low ranks (spatial factors and SVD) with half of
the multiply-adds. Each form learns for `--steps` steps with all exits (Adam, 1e-3, cosine; 128
images), becomes files with all exits for each engine, as floats and as 8-bit integers, and labels
the test split there. The table is Markdown, as that of `benchmarks.engines_table`; × counts from
JAX's floats of RUN's network, which is measured here, too.
"""

import argparse
import functools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import PartitionSpec as P

from benchmarks import setting
from benchmarks.engines_table import MIB
from benchmarks.exits_on_engines import trained
from compress.form import Form, apply_of
from deploy import engines, exported, exports, grids, measure
from deploy.files import parts
from deploy.graphs import trace
from deploy.measure import Answered, Measured
from groundwork import terminal
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from groundwork.train.step import Batch
from groundwork.trees import Variables
from lowrank import factorization
from lowrank.choose.planner import Planner
from lowrank.choose.rules import Rules
from msdnet import objective
from pruning import structured

CALIBRATION = 500  # training examples for integers
BATCH = 128
THREADS = (1, 2)
RULES = Rules(
    methods=("spatial",), ranks="budget", shares=(0.5,), measure="macs", leave=(), keep_slow=True
)


class Made(NamedTuple):
    """A network and its variables, of one replicate."""

    model: Any
    variables: Variables


def half(whole: Made, inputs: jax.Array) -> Made:
    """Returns the network with half of the units of each group."""
    units = structured.groups(whole.model, whole.variables, inputs[:2])
    scores = structured.scores(units, whole.variables, "l2")
    keep = structured.choose(units, scores, 0.5)
    return Made(*structured.narrow(units, whole.variables, keep))


def low_rank(whole: Made, inputs: jax.Array) -> Made:
    """Returns the network whose layers have low ranks, with half of their multiply-adds."""
    planner = Planner(
        model=whole.model,
        variables=jax.tree.map(lambda leaf: np.asarray(leaf)[None], whole.variables),
        example=inputs[:1],
        rules=RULES,
        inputs=lambda: inputs,
    )
    plan = planner.plan("spatial", 0.5)["plan"]
    _, variables = factorization.factorize(whole.model, whole.variables, plan, inputs[:1])
    return Made(Form(whole.model, plan), variables)


def tune(made: Made, dataset: data_lib.Dataset, steps: int) -> Made:
    """Returns the network after `steps` more steps with all exits, on images drawn at random."""
    call = apply_of(made.model) if isinstance(made.model, Form) else made.model.apply
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    images, labels = jnp.asarray(dataset.train.inputs), jnp.asarray(dataset.train.labels)

    def step(state: Any, key: jax.Array) -> Any:
        variables, opt_state = state
        drawn = jax.random.randint(key, (BATCH,), 0, len(images))
        inputs = data_lib.normalize(dataset, images[drawn])
        batch = Batch(inputs, labels[drawn], jnp.ones(BATCH, bool))

        def loss(params: Any) -> Any:
            given = {**variables, "params": params}
            logits, updated = call(given, batch.inputs, train=True, mutable=["batch_stats"])
            counts = objective.count_exits(logits, (1.0,) * len(logits), batch)
            return counts.loss / BATCH, updated

        gradient, updated = jax.grad(loss, has_aux=True)(variables["params"])
        updates, opt_state = optimizer.update(gradient, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return ({**variables, **updated, "params": params}, opt_state), None

    start = (made.variables, optimizer.init(made.variables["params"]))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    all_steps = functools.partial(lax.scan, step)  # BatchNorm averages over the axis "data"
    many = jax.jit(
        jax.shard_map(all_steps, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    )
    return Made(made.model, many(start, jax.random.split(jax.random.key(0), steps))[0][0])


class Subjects(NamedTuple):
    """A network's files.

    Attributes:
      name: of the network.
      paths: (engine, kind) → what the engine loads.
      sizes: likewise → bytes of all files; not of JAX's.
    """

    name: str
    paths: dict[tuple[str, str], Path]
    sizes: dict[tuple[str, str], int]


def subjects(name: str, made: Made, calibration: np.ndarray, folder: Path) -> Subjects:
    """Writes a network for all engines and for JAX."""
    folder.mkdir()
    graph = trace.graph(made.model, made.variables, calibration[:1])
    kinds = {"float": graph, "int8": grids.quantized(graph, calibration)}
    call = trace.evaluation(made.model)
    found = Subjects(name, {}, {})
    found.paths["jax", "float"] = exported.write(
        call, made.variables, calibration[:1], folder / "jax.npz"
    )
    for engine in (name for name in engines.installed() if name != "coreml"):
        for kind, made_of in kinds.items():
            files = exports.write(made_of, engine, folder / f"{engine}-{kind}")
            found.paths[engine, kind] = files[0]
            found.sizes[engine, kind] = sum(part.stat().st_size for part in parts(files))
    return found


def measured(
    given: list[Subjects], inputs: np.ndarray
) -> tuple[dict[Path, list[Measured]], dict[Path, Answered], list[float]]:
    """Returns file → times on each number of threads, file → answers, and the machine's load.

    All files of all networks take turns.
    """
    settings = measure.Settings(rounds=7, seconds=0.1, warmup_seconds=0.2, limit_seconds=600.0)
    times: dict[Path, list[Measured]] = {path: [] for one in given for path in one.paths.values()}
    answers: dict[Path, Answered] = {}
    loads: list[float] = []
    for threads in THREADS:
        asked = [
            measure.subject(*who, threads, 1, path)
            for one in given
            for who, path in one.paths.items()
        ]
        examples = [inputs] if threads == THREADS[-1] else ()
        found, answered, load = measure.measure(
            asked, {1: [inputs[:1]]}, settings, examples=examples, tell=False
        )
        loads += load
        answers |= {subject.path: answer for subject, answer in answered.items()}
        for subject, time_of in found.items():
            times[subject.path].append(time_of)
    return times, answers, loads


def row(
    one: Subjects,
    who: tuple[str, str],
    times: list[Measured],
    right: str,
    first: float,
) -> list[str]:
    """Returns the cells of an engine and kind; `first` are JAX's milliseconds of the whole."""
    cells = [f"{each.milliseconds[1]:.3f}" if each.milliseconds else "failed" for each in times]
    faster = f"{first / times[0].milliseconds[1]:.2f}" if times[0].milliseconds else ""
    peak = f"{times[0].peak_bytes / MIB:.0f}" if times[0].peak_bytes else ""
    size = f"{one.sizes[who]:,}" if who in one.sizes else ""
    return [one.name, " ".join(who), right, *cells, faster, size, peak]


def main() -> None:
    """Make, train, measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run of msdnet.main")
    parser.add_argument("--steps", type=int, default=429, help="of each smaller network")
    flags = parser.parse_args()
    begun = time.perf_counter()
    try:
        network, dataset, _ = trained(flags.run)
    except UserError as error:
        sys.exit(f"error: {error}")
    calibration, _ = map(np.asarray, data_lib.first_examples(dataset, CALIBRATION))
    whole = Made(network.model, jax.tree.map(jnp.asarray, network.variables))
    networks = {
        "all exits": whole,
        "half of the units": tune(half(whole, jnp.asarray(calibration)), dataset, flags.steps),
        "low rank": tune(low_rank(whole, jnp.asarray(calibration)), dataset, flags.steps),
    }
    with tempfile.TemporaryDirectory() as scratch:
        given = [
            subjects(name, made, calibration, Path(scratch) / str(number))
            for number, (name, made) in enumerate(networks.items())
        ]
        times, answers, loads = measured(given, network.inputs)
    first = times[given[0].paths["jax", "float"]][0].milliseconds[1]
    header = ["network", "engine", "accuracy"]
    header += [f"ms, {n} thread{'s' * (n > 1)}" for n in THREADS] + ["×", "bytes", "peak MiB"]
    for cells in (header, ["---"] * len(header)):
        terminal.say(f"| {' | '.join(cells)} |")
    for one in given:
        for who, path in one.paths.items():
            said = answers.get(path)
            labels = said.outputs[-1].argmax(-1) if said and said.outputs else None
            right = "" if labels is None else f"{np.mean(labels == dataset.test.labels):.4f}"
            terminal.say(f"| {' | '.join(row(one, who, times[path], right, first))} |")
    terminal.say(f"machine: {setting.machine()}; load {min(loads):.1f} to {max(loads):.1f}")
    terminal.say(f"{flags.steps} steps; {time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
