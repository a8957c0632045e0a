"""A network's files on all engines, beside JAX: times, and what they answer. Read `measured`."""

# B batch

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from deploy import answers, exported, measure, results
from deploy.answers import Judge
from deploy.deployment import Deployment
from deploy.files import File
from deploy.graphs import trace
from deploy.measure import Answered, Measured, Subject
from deploy.sources.network import Network
from deploy.spec import JAX, files_unit, measures_unit
from groundwork.data import dataset as data_lib
from groundwork.data.file_dataset import FileDataset
from groundwork.metric import ACCURACY

COMPARED = 64  # examples of which all calls give outputs, besides those that are judged


class Taken(NamedTuple):
    """What was measured of all files of a network.

    Attributes:
      times: of each subject.
      answers: of each that answered.
      load: "B examples, T threads" → the machine's, at the beginning of each round.
    """

    times: dict[Subject, Measured]
    answers: dict[Subject, Answered]
    load: dict[str, list[float]]


def measured(made: Deployment, name: str, network: Network) -> None:
    """Measures a network's files beside JAX, judges what they answer, and ends the unit."""
    context, spec = made.context, made.spec
    inputs, labels = _examples(made)
    judge = _judge(made, network, inputs, labels)
    taken = _taken(made, name, network, inputs)
    setting = (spec.batches[-1], spec.threads[-1])
    final = {one: a for one, a in taken.answers.items() if (one.batch, one.threads) == setting}
    times = _compared(taken.times, taken.answers, final)
    judged = [judge.answer(JAX, "float", Answered(outputs=judge.reference))]
    judged += [judge.answer(o.engine, o.kind, a) for o, a in final.items() if o.engine != JAX]
    metadata = {
        "times": [_time_row(one, found) for one, found in times.items()],
        "load": taken.load,
        "answers": [dataclasses.asdict(one) for one in judged],
    }
    seen_load = np.array([value for each in taken.load.values() for value in each])
    context.run.unit(measures_unit(name)).finish({"load": seen_load}, metadata)
    context.reporter.end(_fastest(times))


def _examples(made: Deployment) -> tuple[Any, Any]:
    """Returns the inputs and labels of the test split by which answers are judged."""
    dataset = made.context.dataset
    assert not isinstance(dataset, FileDataset)  # `work.prepare` refuses them
    count = made.spec.measure.examples or dataset.examples["test"]
    inputs, labels = jax.tree.map(lambda leaf: leaf[:count], tuple(dataset.test))
    return jax.tree.map(np.asarray, data_lib.normalize(dataset, inputs)), labels


def _taken(made: Deployment, name: str, network: Network, inputs: Any) -> Taken:
    """Returns times and answers for each number of examples in a call and of threads."""
    spec, taken = made.spec, Taken({}, {}, {})
    rows = made.context.run.unit(files_unit(name)).result()[1]["files"]
    written = [results.file(row) for row in rows if not row["failure"]]
    pause = _pause(made, name)
    with tempfile.TemporaryDirectory() as scratch:
        for batch, threads in itertools.product(spec.batches, spec.threads):
            calls = _batch(inputs, batch)
            jax_file = Path(scratch) / f"{batch}.npz"
            if not jax_file.exists():
                given = jax.tree.unflatten(jax.tree.structure(inputs), calls)
                apply = trace.evaluation(network.model)
                exported.write(apply, network.variables, given, jax_file)
            subjects = [measure.subject(JAX, "float", threads, batch, jax_file)]
            subjects += _subjects(made, written, threads, batch, taken.times)
            last = (batch, threads) == (spec.batches[-1], spec.threads[-1])
            examples = [leaf if last else leaf[:COMPARED] for leaf in jax.tree.leaves(inputs)]
            times, answered, load = measure.measure(
                subjects, {batch: calls}, spec.measure.settings, pause, examples, tell=last
            )
            taken.times.update(times)
            taken.answers.update(answered)
            taken.load[f"{batch} examples, {threads} threads"] = load
    return taken


def _pause(made: Deployment, name: str) -> Callable[[], None]:
    """Returns what is called between two blocks of calls, and ends a run that is asked to stop."""

    def pause() -> None:
        if made.context.interruption.reached():
            raise made.context.interruption.stop(f"the unit before {measures_unit(name)}")

    return pause


def _compared(
    times: Mapping[Subject, Measured],
    answered: Mapping[Subject, Answered],
    final: Mapping[Subject, Answered],
) -> dict[Subject, Measured]:
    """Returns the times, which say where outputs are not those of the final answers."""
    last = {(one.engine, one.kind): answer for one, answer in final.items()}
    found = dict(times)
    for one, answer in answered.items():
        if (one.engine, one.kind) in last:
            wrong = answers.difference(one.kind, answer, last[one.engine, one.kind])
            failure = found[one].failure or wrong
            found[one] = dataclasses.replace(found[one], failure=failure)
    return found


def _subjects(
    made: Deployment,
    written: list[File],
    threads: int,
    batch: int,
    before: Mapping[Subject, Measured],
) -> list[Subject]:
    """Returns the files of a batch on their engines, but for those that were refused before."""
    refused = {(one.engine, one.kind) for one, found in before.items() if found.refused}
    return [
        measure.subject(file.engine, file.kind, threads, batch, made.folder / file.paths[0])
        for file in written
        if file.batch == batch and (file.engine, file.kind) not in refused
    ]


def _judge(made: Deployment, network: Network, inputs: Any, labels: Any) -> Judge:
    apply = trace.evaluation(network.model)
    reference, structure = answers.of_jax(apply, network.variables, inputs)
    classes = made.loss.metric == ACCURACY and getattr(labels, "ndim", 0) == 1
    return Judge(
        loss=made.loss, classes=classes, labels=labels, structure=structure, reference=reference
    )


def _batch(inputs: Any, batch: int) -> list[np.ndarray]:
    """Returns the leaves of the first B test examples, which begin again where there are fewer."""
    leaves = jax.tree.leaves(inputs)
    return [leaf[np.arange(batch) % len(leaf)] for leaf in leaves]


def _time_row(one: Subject, found: Measured) -> dict[str, Any]:
    about = {key: getattr(one, key) for key in ("engine", "kind", "threads", "batch")}
    return {**about, **dataclasses.asdict(found)}


def _fastest(times: Mapping[Subject, Measured]) -> str:
    """Returns the fastest of one example and the fewest threads, and the failures, in words."""
    running = {one: m for one, m in times.items() if not m.failure}
    lines = [f"{o.engine} {o.kind}: {m.failure}" for o, m in times.items() if m.failure]
    if running:
        best = min(running, key=lambda o: (o.batch, o.threads, running[o].milliseconds[1]))
        median = running[best].milliseconds[1]
        lines.insert(0, f"fastest: {best.engine} {best.kind}, {median:.3f} ms")
    return "; ".join(lines)
