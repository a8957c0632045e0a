"""From a checked config to trained networks with exits, each a unit of work."""

# R replicates, N examples, K exits

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures, keys, named, trees
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.errors import UserError
from groundwork.study import Prepared
from groundwork.train import footprint, loop, optim, outputs, own, programs, replicates
from groundwork.train import networks as networks_lib
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from msdnet import calibration, exits, networks, objective
from msdnet.cost import costs, milliseconds, parameters, shapes
from msdnet.spec import ExitsSpec, MSDNetSpec, unit_name

TIMED = 256  # images per batch when blocks are timed
SHOWN = 12  # images of each kind in the report


def prepare(spec: MSDNetSpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices, and the training of all networks, which are checked here.

    Raises:
      UserError: a network cannot take the data, weights do not match the exits, or there are too
        few validation examples to choose thresholds on.
    """
    del config
    if not dataset.classes or not isinstance(dataset.shape, tuple) or len(dataset.shape) != 3:
        raise UserError(f"networks with exits classify images [H, W, C]: {dataset.name} has none")
    models = {name: build(spec, name, dataset) for name in spec.networks}
    for name, model in models.items():
        footprint.check(
            f"this {name}", shapes(model, dataset.shape), spec.optimizer, spec.replicates
        )
        costs(model, dataset.shape)
        _check_exits(spec, name, model.exits, dataset.examples["validation"])
    sizes = {"train": spec.train.batch_size}
    mesh = networks_lib.mesh_for(spec.mesh, spec.replicates, sizes, dataset)

    def work(context: Context) -> None:
        for name, model in models.items():
            if not context.run.unit(unit_name(name)).done:
                train_network(context, spec, name, model)

    first = next(iter(models.values()))
    convolutions = computed_by(first, dataset.shape)
    return Prepared(mesh=mesh, convolutions=convolutions, work=work, own=_code(spec, dataset))


def _code(spec: MSDNetSpec, dataset: AnyDataset) -> dict[str, str]:
    """Returns the digests of users' own networks that `model` sections name.

    Those of networks that are not trained count, since `networks` may be extended.
    """
    digests: dict[str, str] = {}
    for name, section in spec.sections.items():
        model = section.get("model", {})
        if named.is_own(model.get("name")):
            key = f"{networks.section_of(name)}.model.name"
            digests |= own.digests_of(key, architectures.build(model, dataset.classes), dataset)
    return digests


def build(spec: MSDNetSpec, name: str, dataset: AnyDataset) -> nn.Module:
    """Returns a network of the config, for the classes of the data."""
    return networks.build(name, spec.sections[name], dataset.classes)


def train_network(context: Context, spec: MSDNetSpec, name: str, model: nn.Module) -> None:
    """Trains R replicates, lets every exit answer both splits, and saves all of it."""
    shape = context.dataset.shape
    unit = context.run.unit(unit_name(name))
    fields = {"network": name, "parameters": parameters(model, shape)}
    form = replicates.default_form(model, jnp.zeros((1, *shape)))
    compiled, state = _start(context, spec, name, model, form)
    job = loop.Job(programs=compiled, unit=unit, stop=spec.train.steps, fields=fields)
    variables = loop.train(context, job, state)[0].variables
    answers, temperatures, found = answer(context, spec.exits, model, variables, form)
    _say_unfound(context, name, found)
    tree, metadata = _result(context, model, variables, answers)
    tree |= {"variables": variables, "temperatures": temperatures, **answers}
    unit.finish(tree, {**fields, **metadata})
    last = np.mean(answers["test"]["predictions"][..., -1] == answers["test"]["labels"])
    context.reporter.end(f"test accuracy at the last exit {last:.4f}")


def _result(
    context: Context, model: nn.Module, variables: Variables, answers: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what is saved besides variables and answers: some images; costs and times."""
    dataset = context.dataset
    images = np.asarray(data_lib.normalize(dataset, jnp.asarray(_some_images(dataset))))
    one = trees.replicate(mesh_lib.fetch(variables), 0)
    spent = costs(model, dataset.shape)
    sheet = easy_and_hard(dataset, answers, [cost.macs_cumulative for cost in spent])
    metadata = {
        "costs": [cost._asdict() for cost in spent],
        "milliseconds": milliseconds(model, one, images),
    }
    return {"sheet": sheet}, metadata


def answer(
    context: Context,
    spec: ExitsSpec,
    model: nn.Module,
    variables: Variables,
    form: replicates.Form,
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray, np.ndarray]:
    """Returns the answers of every exit to the validation and the test split.

    Returns:
      A dictionary for each split: `confidences` [R, N, K] of the config's kind, `probabilities`
      [R, N, K] of the predicted class, `predictions` [R, N, K] int32, `labels` [N]; the
      temperatures [R, K] by which logits were divided; and whether each was found, if they were to
      be fitted, [R, K] bool.
    """
    collect = outputs.make(model, context.dataset, context.mesh, form)
    answers: dict[str, dict[str, np.ndarray]] = {}
    shape = context.replicates, model.exits
    temperatures, found = np.ones(shape), np.ones(shape, bool)
    for split in ("validation", "test"):
        logits, labels = collect(variables, split)
        logits = np.stack([np.asarray(leaf, np.float32) for leaf in logits], 2)
        if spec.calibrate and split == "validation":
            fits = [calibration.fit(of_replicate, labels) for of_replicate in logits]
            temperatures, found = (np.stack(parts) for parts in zip(*fits, strict=True))
        scaled = logits / temperatures[:, None, :, None].astype(np.float32)
        answers[split] = {
            "confidences": _confidences(scaled, spec.confidence),
            "probabilities": _confidences(scaled, "softmax"),
            "predictions": scaled.argmax(-1).astype(np.int32),
            "labels": labels,
        }
    return answers, temperatures, found


def _say_unfound(context: Context, name: str, found: np.ndarray) -> None:
    """Warns of exits that keep the temperature 1 though one was to be fitted: found [R, K]."""
    kept = [
        f"exit {k + 1} of replicate {replicate}" for replicate, k in np.argwhere(~found).tolist()
    ]
    if kept:
        context.reporter.say(f"warning: {name}: {', '.join(kept)}: {calibration.UNFOUND}")


def easy_and_hard(
    dataset: AnyDataset, answers: Mapping[str, Any], macs: Sequence[float]
) -> dict[str, np.ndarray]:
    """Returns test images that replicate 0 gets right at its first exit, and some for its last.

    Thresholds spend half of the last exit's multiply-adds (the first exit's, where those are more).
    At most `SHOWN` images of each kind are returned, and none of a `FileDataset`.
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
    context: Context, spec: MSDNetSpec, name: str, model: nn.Module, form: replicates.Form
) -> tuple[programs.Programs, TrainState]:
    """Returns compiled programs, and the state of all replicates at step 0."""
    weights = spec.exits.weights if name == "msdnet" and spec.exits.weights else None
    weights = weights or (1.0,) * model.exits
    optimizer = optim.make(spec.optimizer, spec.train.steps)
    compiled = programs.make(
        model,
        optimizer,
        context.dataset,
        context.mesh,
        batch_size=spec.train.batch_size,
        form=form,
        stride=context.poll_steps,
        loss=objective.make_loss(
            model,
            weights,
            distillation=spec.exits.distillation,
            temperature=spec.exits.distillation_temperature,
            equilibrium=spec.exits.equilibrium,
        ),
        evaluate=objective.make_evaluate(model, weights),
    )
    stream = functools.partial(keys.stream, name=f"init/{name}")
    variables = compiled.init(jax.vmap(stream)(context.roots))
    start = networks_lib.make_start(context, networks_lib.unmasked(optimizer))
    return compiled, start(variables)


def _confidences(logits: np.ndarray, kind: str) -> np.ndarray:
    return np.asarray(exits.confidence(jnp.asarray(logits), kind))


def _some_images(dataset: AnyDataset) -> np.ndarray:
    """Returns stored images to time the blocks with; for a `FileDataset`, black ones."""
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
