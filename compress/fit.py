"""One network of a run: its programs and its training, under a mask, with teachers or without."""

# R replicates

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from compress import distill
from compress import form as form_lib
from compress.form import Form
from compress.made import Experiment, Made
from compress.spec import CompressSpec, Node
from compress.stages.teachers import Ensemble, ensemble
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.sections import TrainSpec
from groundwork.train import networks as training
from groundwork.train import optim, programs, replicates
from groundwork.train.optim import OptimizerSpec
from groundwork.train.programs import Programs
from groundwork.train.step import Model, TrainState
from pruning import masks


class Compiled(NamedTuple):
    """All that a kind of network needs."""

    programs: Programs
    start: Callable[..., TrainState]  # step, key, variables, mask → state before the first step


def compiler(spec: CompressSpec, dataset: AnyDataset, mesh: Mesh) -> Callable[..., Compiled]:
    """What compiles networks: those of a kind once, however many levels or replicates are trained.

    Of the function that it gives, `form` and `kind` say which networks are of a kind.
    """
    known: dict[str, Compiled] = {}

    def compiled(
        network: Model,
        form: Form,
        kind: str,
        steps: TrainSpec,
        optimizer: optax.GradientTransformation,
        taught: Ensemble | None = None,
    ) -> Compiled:
        before = taught and taught.before and described(taught.before)
        what = [kind, steps.steps, taught is not None, before, described(form)]
        key = json.dumps(what, default=str)
        if key not in known:
            own = replicates.default_form(form.model, jnp.zeros((1, *dataset.shape)))
            loss = None
            if taught:
                rules = spec.distill
                loss = distill.make_loss(
                    network,
                    taught.teacher,
                    temperature=rules.temperature,
                    weight=rules.weight,
                    mean=rules.mean,
                )
            masked = masks.enforce(optimizer, None)
            made = programs.make(
                network,
                masked,
                dataset,
                mesh,
                batch_size=steps.batch_size,
                stride=spec.checkpoint.poll_steps,
                form="single" if taught and taught.mapped == "single" else own,
                loss=loss,
            )
            known[key] = Compiled(
                made, replicates.each_replicate(mesh, _starter(masked), once=True)
            )
        return known[key]

    return compiled


def described(form: Form) -> list[Any]:
    """What tells forms apart."""
    return [repr(form.model), dict(form.plan), form.groups, *map(dict, form[3:])]


def fit(
    experiment: Experiment,
    node: Node,
    network: Model,
    form: Form,
    variables: Any,
    mask: masks.Mask,
    *,
    kind: str,
    steps: TrainSpec,
    optimizer_spec: OptimizerSpec,
    taught: Ensemble | None = None,
    wrap: Callable[[optax.GradientTransformation], optax.GradientTransformation] | None = None,
) -> Any:
    """The variables [R, …] after training, on the host; goes on where the node's unit stood.

    Args:
      experiment: what all share.
      node: what is trained.
      network: how it computes.
      form: the form behind the network.
      variables: [R, …], from which it starts.
      mask: path → [R, …] of parameters that stay zero where it is False; may be empty.
      kind: networks of a kind and a form have the same programs.
      steps: how many, of how many examples.
      optimizer_spec: of the config.
      taught: by whom, if anybody.
      wrap: what else is done to the optimiser.
    """
    optimizer = optim.make(optimizer_spec, steps.steps)
    optimizer = wrap(optimizer) if wrap else optimizer
    compiled = experiment.compiled(network, form, kind, steps, optimizer, taught)
    if taught and taught.carried:
        variables = distill.carry(variables, *taught.carried)
    place = (
        mesh_lib.put(experiment.mesh, tree, mesh_lib.BY_REPLICATE) for tree in (variables, mask)
    )
    state = compiled.start(training.at_step_zero(experiment), experiment.roots, *place)
    unit = experiment.run.unit(node.unit)
    end = training.train(experiment, compiled.programs, unit, steps.steps, state)
    return mesh_lib.fetch(distill.without_teachers(end))


def as_original(
    experiment: Experiment,
    node: Node,
    form: Form,
    variables: Any,
    mask: masks.Mask,
    taught: Ensemble | None = None,
) -> Any:
    """The variables [R, …] after as many steps as the original's; see `fit`."""
    spec = experiment.spec
    return fit(
        experiment,
        node,
        form_lib.network(form),
        form,
        variables,
        mask,
        kind=f"train {node.stage}" if taught else "train",
        steps=spec.train,
        optimizer_spec=spec.optimizer,
        taught=taught,
    )


def fine_tune(
    experiment: Experiment,
    node: Node,
    form: Form,
    variables: Any,
    mask: masks.Mask,
    network: Model | None = None,
    kind: str = "fine_tune",
    **options: Any,
) -> Any:
    """The variables [R, …] after the config's `fine_tune`; see `fit`."""
    spec = experiment.spec
    return fit(
        experiment,
        node,
        network or form_lib.network(form),
        form,
        variables,
        mask,
        kind=f"{node.stage} {kind}",
        steps=spec.fine_tune,
        optimizer_spec=spec.fine_tune_optimizer,
        **options,
    )


def taught_by(experiment: Experiment, node: Node, before: Made) -> Ensemble | None:
    """The teachers of a stage; None where nobody teaches it."""
    rules = experiment.spec.distill
    if node.stage != "distill" and node.stage not in rules.during:
        return None
    return ensemble(rules, experiment.dataset, before.form, before.variables)


def accuracies(experiment: Experiment, network: Model, form: Form, variables: Any) -> Mapping:
    """Split → accuracy [R], of the splits there are; evaluated in the network's own arithmetic."""
    spec = experiment.spec
    optimizer = optim.make(spec.optimizer, spec.train.steps)
    compiled = experiment.compiled(network, form, "plain", spec.train, optimizer)
    placed = mesh_lib.put(experiment.mesh, variables, mesh_lib.BY_REPLICATE)
    return training.accuracies(experiment, compiled.programs, placed)


def _starter(optimizer: optax.GradientTransformation) -> Callable[..., TrainState]:
    """Of one replicate: the state before the first step, under a mask."""

    def start(step, key, variables, mask):
        params = masks.apply(mask, variables["params"])
        state = optimizer.init(params)._replace(mask=mask)
        return TrainState(step, key, {**variables, "params": params}, state)

    return start
