"""From a checked config to trained networks with exits: a unit of work a network."""

# R replicates, N examples, K exits

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from groundwork import keys
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run
from groundwork.study import Prepared
from groundwork.train import loop, optim, outputs, programs, replicates
from groundwork.train import networks as training
from groundwork.train.step import TrainState
from msdnet import calibration, exits, networks, objective
from msdnet.cost import costs, milliseconds, parameters
from msdnet.spec import MSDNetSpec, unit_name

TIMED = 256  # images a batch when blocks are timed
SHOWN = 12  # images of a kind in the report


class Experiment(NamedTuple):
    """What all networks of a run share."""

    spec: MSDNetSpec
    dataset: AnyDataset
    mesh: Mesh
    run: Run
    reporter: Reporter
    interruption: Interruption


def prepare(spec: MSDNetSpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Devices, and the networks that are to be trained, all of them checked.

    Raises:
      UserError: a network that cannot take the data, weights that do not match the exits, or too
        few validation examples to choose thresholds on.
    """
    del config
    models = {name: build(spec, name, dataset) for name in spec.networks}
    for name, model in models.items():
        costs(model, dataset.shape)
        _check_exits(spec, name, model.exits, dataset.examples["validation"])
    mesh = mesh_lib.for_run(spec.mesh, spec.replicates, spec.train.batch_size, dataset.examples)

    def work(run: Run, reporter: Reporter, interruption: Interruption) -> None:
        training.say_mesh(reporter, mesh)
        experiment = Experiment(spec, dataset, mesh, run, reporter, interruption)
        for name, model in models.items():
            if not run.unit(unit_name(name)).done:
                train_network(experiment, name, model)

    first = next(iter(models.values()))
    return Prepared(mesh, computed_by(first, dataset.shape), work)


def build(spec: MSDNetSpec, name: str, dataset: AnyDataset) -> nn.Module:
    """A network of the config for the data's classes."""
    return networks.build(name, spec.sections[name], dataset.classes)


def train_network(experiment: Experiment, name: str, model: nn.Module) -> None:
    """Train R replicates, answer both splits at every exit, and save all of it."""
    spec, dataset = experiment.spec, experiment.dataset
    unit = experiment.run.unit(unit_name(name))
    fields = {"network": name, "parameters": parameters(model, dataset.shape)}
    form = replicates.default_form(model, jnp.zeros((1, *dataset.shape)))
    compiled, state = _start(experiment, name, model, form)
    schedule = loop.Schedule(spec.train.steps, spec.eval_every, spec.checkpoint.every_seconds)
    state, _ = loop.train(
        compiled,
        state,
        schedule,
        unit,
        fields,
        experiment.reporter,
        loop.Splits(validation=True, test=True),
        experiment.interruption,
    )
    answers, temperatures = answer(experiment, model, state.variables, form)
    images = np.asarray(data_lib.normalize(dataset, jnp.asarray(_some_images(dataset))))
    one = jax.tree.map(lambda leaf: leaf[0], mesh_lib.fetch(state.variables))
    spent = costs(model, dataset.shape)
    metadata = {
        **fields,
        "costs": [cost._asdict() for cost in spent],
        "milliseconds": milliseconds(model, one, images),
    }
    tree = {"variables": state.variables, "temperatures": temperatures, **answers}
    tree["sheet"] = easy_and_hard(dataset, answers, [cost.macs_cumulative for cost in spent])
    unit.finish(tree, metadata)
    last = np.mean(answers["test"]["predictions"][..., -1] == answers["test"]["labels"])
    experiment.reporter.end(f"test accuracy at the last exit {last:.4f}")


def answer(
    experiment: Experiment, model: nn.Module, variables: Any, form: replicates.Form
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """What every exit says of the validation and the test split.

    Returns:
      A dictionary a split: `confidences` [R, N, K] of the config's kind, `probabilities` [R, N, K]
      of the predicted class, `predictions` [R, N, K] int32, `labels` [N]; and the temperatures
      [R, K] that logits were divided by.
    """
    spec = experiment.spec
    collect = outputs.make(model, experiment.dataset, experiment.mesh, form)
    found: dict[str, dict[str, np.ndarray]] = {}
    temperatures = np.ones((spec.replicates, model.exits))
    for split in ("validation", "test"):
        logits, labels = collect(variables, split)
        logits = np.stack([np.asarray(exit_logits, np.float32) for exit_logits in logits], 2)
        if spec.exits.calibrate and split == "validation":
            temperatures = np.stack([calibration.temperatures(own, labels) for own in logits])
        scaled = logits / temperatures[:, None, :, None].astype(np.float32)
        found[split] = {
            "confidences": _confidences(scaled, spec.exits.confidence),
            "probabilities": _confidences(scaled, "softmax"),
            "predictions": scaled.argmax(-1).astype(np.int32),
            "labels": labels,
        }
    return found, temperatures


def easy_and_hard(
    dataset: AnyDataset, answers: Mapping[str, Any], macs: Sequence[float]
) -> dict[str, np.ndarray]:
    """Test images that replicate 0 has right at the first exit, and some that reach its last.

    At thresholds that spend half of the last exit's multiply-adds (the first exit's, where those
    are more), at most `SHOWN` of each kind. Nothing of a stream, whose images are not at hand.
    """
    if isinstance(dataset, FileDataset):
        return {}
    test = answers["test"]
    limits = exits.thresholds(
        answers["validation"]["confidences"][0], macs, max(macs[0], macs[-1] / 2)
    )
    routed = exits.route(test["confidences"][0], limits)
    right = test["predictions"][0, :, 0] == test["labels"]
    chosen = {"easy": (routed == 0) & right, "hard": routed == len(macs) - 1}
    images = dataset.test.inputs
    return {kind: images[which][:SHOWN] for kind, which in chosen.items() if which.any()}


def _start(
    experiment: Experiment, name: str, model: nn.Module, form: replicates.Form
) -> tuple[programs.Programs, TrainState]:
    """Compiled programs, and the state at step 0 of all replicates."""
    spec, mesh = experiment.spec, experiment.mesh
    weights = spec.exits.weights if name == "msdnet" and spec.exits.weights else None
    weights = weights or (1.0,) * model.exits
    optimizer = optim.make(spec.optimizer, spec.train.steps)
    compiled = programs.make(
        model,
        optimizer,
        experiment.dataset,
        mesh,
        batch_size=spec.train.batch_size,
        form=form,
        stride=spec.checkpoint.poll_steps,
        loss=objective.make_loss(
            model,
            weights,
            distillation=spec.exits.distillation,
            temperature=spec.exits.distillation_temperature,
            equilibrium=spec.exits.equilibrium,
        ),
        evaluate=objective.make_evaluate(model, weights),
    )
    roots = keys.roots(spec.seed, spec.replicates)
    init = jax.vmap(functools.partial(keys.stream, name=f"init/{name}"))(roots)
    roots, init = mesh_lib.put(mesh, (roots, init), mesh_lib.BY_REPLICATE)
    variables = compiled.init(init)
    zero = mesh_lib.put(mesh, np.zeros(spec.replicates, np.int32), mesh_lib.BY_REPLICATE)

    def start(step, key, variables):
        return TrainState(step, key, variables, optimizer.init(variables["params"]))

    return compiled, replicates.each_replicate(mesh, start)(zero, roots, variables)


def _confidences(logits: np.ndarray, kind: str) -> np.ndarray:
    return np.asarray(exits.confidence(jnp.asarray(logits), kind))


def _some_images(dataset: AnyDataset) -> np.ndarray:
    """Stored images to time the blocks with; of a stream, black ones."""
    if isinstance(dataset, FileDataset):
        return np.zeros((TIMED, *dataset.shape), np.uint8)
    return dataset.validation.inputs[:TIMED]


def _check_exits(spec: MSDNetSpec, name: str, number: int, validation: int) -> None:
    weights = spec.exits.weights
    if name == "msdnet" and weights and len(weights) != number:
        raise UserError(
            f"exits.weights={weights} has {len(weights)} entries, the network has {number} exits"
        )
    least = exits.LEAST_EXAMPLES * number
    if validation < least:
        raise UserError(
            f"data.validation_examples={validation} is too small a split to choose thresholds of "
            f"{number} exits on: at least {least}"
        )
