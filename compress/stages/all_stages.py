"""What each stage makes of a network: from one `Made` to the next. Read `STAGES` first."""

# R replicates

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from compress import distill, fit, share
from compress import form as form_lib
from compress import made as made_lib
from compress.form import Form
from compress.made import Experiment, Made
from compress.spec import NO_ZERO, Node
from compress.stages import latent as quantizing
from compress.stages.bits import choose_bits
from compress.stages.latent import Quantizer
from compress.stages.stage_specs import in_own_words
from groundwork import architectures, keys
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.errors import UserError
from groundwork.train import networks as shared
from groundwork.train import replicates
from lowrank import setup as lowrank_setup
from lowrank import work
from lowrank.choose import planner
from lowrank.factorization import Plan
from pruning import masks
from pruning.criteria import CRITERIA

SEEN = 256  # training images that grids of activations are calibrated on


def original(experiment: Experiment, node: Node) -> Made:
    """The network as it is: trained here, or taken from `source`."""
    spec, form = experiment.spec, Form(experiment.model)
    if spec.source.path:
        shapes = architectures.shapes(experiment.model, experiment.dataset.shape)
        return as_given(form, made_lib.given(spec, shapes))
    start = shared.initial(experiment, experiment.model)
    return Made(form, fit.as_original(experiment, node, form, start, {}), {}, {})


def share_layers(experiment: Experiment, node: Node, before: Made) -> Made:
    """Groups of layers become one, and are trained so; what was pruned in all of them stays so."""
    own = experiment.spec.share
    params = share.tie(before.variables["params"], own.groups, own.values)
    form = before.form._replace(groups=own.groups)
    variables = {**before.variables, "params": jax.tree.map(np.asarray, params)}
    mask = made_lib.zeros(variables["params"]) if before.mask else {}
    taught = fit.taught_by(experiment, node, before)
    tuned = fit.fine_tune(experiment, node, form, variables, mask, taught=taught)
    return before._replace(form=form, variables=tuned, mask=mask)


def factorize(experiment: Experiment, node: Node, before: Made) -> Made:
    """Layers become products of smaller ones, of ranks that are chosen on all replicates.

    Factors of pruned kernels are dense; the other layers stay pruned.
    """
    form, params = before.form, before.variables["params"]
    whole = {**before.variables, "params": share.materialize(params, form.groups)}
    lowrank = made_lib.low_rank(experiment, form, params)
    plan = _plan(experiment, node, lowrank, whole)
    variables, _ = work.decomposed(lowrank, plan, whole)
    variables["params"] = share.without(variables["params"], form.groups)
    form = form._replace(plan=plan)
    still = masks.flatten(variables["params"], before.mask.__contains__)
    mask = {path: before.mask[path] for path in still}
    taught = fit.taught_by(experiment, node, before)
    tuned = fit.fine_tune(experiment, node, form, variables, mask, taught=taught)
    return before._replace(form=form, variables=tuned, mask=mask)


def prune(experiment: Experiment, node: Node, before: Made) -> Made:
    """One more level: the weights that score least go, the others train on, rewound or not."""
    spec, level = experiment.spec, int(node.setting)
    rules, params = spec.prune, before.variables["params"]
    prunable = made_lib.prunable(spec, params)
    mask: Any = {p: np.ones(leaf.shape, bool) for p, leaf in prunable.items()} | before.mask
    paths, counts = made_lib.remaining(spec, {p: mask[p] for p in prunable}, level)
    prune_to = _pruner(experiment.mesh, rules.criterion, tuple(paths.items()))
    placed = made_lib.put(experiment, (mask, params, counts))
    mask = mesh_lib.fetch(prune_to(experiment.roots, *placed, level))
    taught = fit.taught_by(experiment, node, before)
    if rules.rewind == "none":
        variables = fit.fine_tune(
            experiment, node, before.form, before.variables, mask, taught=taught
        )
    else:
        start = shared.initial(experiment, before.form.model)
        params = share.tie(start["params"], before.form.groups)
        start = {**start, "params": params}
        variables = fit.as_original(experiment, node, before.form, start, mask, taught=taught)
    return before._replace(variables=variables, mask=mask)


def distil(experiment: Experiment, node: Node, before: Made) -> Made:
    """A student, of this architecture or another, learns from its teachers."""
    rules, form = experiment.spec.distill, before.form
    taught = fit.taught_by(experiment, node, before)
    if rules.init == "keep":
        kept = fit.as_original(experiment, node, form, before.variables, before.mask, taught=taught)
        return before._replace(variables=kept)
    model = form.model
    if rules.model:
        model = architectures.build(rules.model, experiment.dataset.classes)
    if rules.init == "shrink":
        start = _shrunk(experiment, before, model)
    else:
        start = shared.initial(experiment, model)
    student = Form(model)
    return Made(
        student, fit.as_original(experiment, node, student, start, {}, taught=taught), {}, {}
    )


def quantize(experiment: Experiment, node: Node, before: Made) -> Made:
    """Weights, and what layers are given, lose bits; what is left is trained."""
    rules = experiment.spec.quantize
    if rules.method == "binary" and before.mask:
        raise UserError(NO_ZERO)
    bits = processes.on_first(choose_bits, experiment, before, node.setting)
    quantizer = Quantizer(rules, bits)
    form, variables = _activations(experiment, before)
    training_form = form
    if rules.gradient_bits:
        layers = form_lib.reached(form, experiment.dataset.shape)
        training_form = form._replace(gradients=dict.fromkeys(layers, rules.gradient_bits))
    latent = made_lib.mapped(
        experiment,
        lambda key, variables, mask: quantizing.begin(quantizer, key, variables, mask),
        experiment.roots,
        variables,
        before.mask,
    )
    if rules.fine_tune:
        coded = quantizer.bits if rules.method == "kmeans" else ()  # codebooks, which no mask fits
        latent = fit.fine_tune(
            experiment,
            node,
            training_form,
            latent,
            {path: kept for path, kept in before.mask.items() if path not in coded},
            network=quantizing.network(quantizer, form_lib.network(training_form)),
            kind=f"quantize {sorted(quantizer.bits.items())}",
            taught=fit.taught_by(experiment, node, before),
            wrap=functools.partial(quantizing.clipped, quantizer),
        )
    stored = made_lib.mapped(
        experiment, lambda latent: quantizing.finish(quantizer, latent), latent
    )
    return Made(form, stored, before.mask, dict(quantizer.bits))


STAGES: dict[str, Callable[[Experiment, Node, Made], Made]] = {
    "share": share_layers,
    "factorize": factorize,
    "prune": prune,
    "distill": distil,
    "quantize": quantize,
}


@functools.cache
def _pruner(
    mesh: Mesh, criterion: str, paths: tuple[tuple[str, tuple[str, ...]], ...]
) -> Callable[..., masks.Mask]:
    """(roots, masks, params, counts by group, level) → masks, compiled once for all levels."""
    score = CRITERIA[criterion]

    def prune(root, mask, params, counts, level):
        key = jax.random.fold_in(keys.stream(root, "criterion"), level)
        return masks.prune_to(mask, score(params, mask, key=key), counts, dict(paths))

    return replicates.each_replicate(mesh, prune, shared=1, once=True)


def as_given(form: Form, variables: Any) -> Made:
    """A trained network; kernels with zeros among their entries are taken as pruned."""
    return Made(form, variables, made_lib.zeros(variables["params"]), {})


def _plan(
    experiment: Experiment, node: Node, lowrank: lowrank_setup.Experiment, variables: Any
) -> Plan:
    """Which layer becomes what. A unit of its own: where measured times decide, the same network
    planned again may get another plan, which its checkpoints do not fit.
    """
    unit = experiment.run.unit(f"plans/{node.name}")
    if not processes.on_first(lambda: unit.done):
        processes.on_first(experiment.run.unit(node.unit).set_aside)
        point = experiment.spec.factorize.point(node.setting)
        make = functools.partial(planner.make_planner, lowrank, variables)
        with in_own_words():
            planned = processes.on_first(lambda: make()(point))
        unit.finish({"share": np.asarray(point.share)}, planned)
    return unit.result()[1]["plan"]


def _shrunk(experiment: Experiment, before: Made, model: Any) -> Any:
    """A narrower network of the units that survived best, [R, …]."""
    shape = experiment.dataset.shape
    links = distill.chain(before.form.model, shape)
    small = architectures.shapes(model, shape)
    return made_lib.mapped(
        experiment,
        lambda variables, mask: distill.shrink(variables, mask, links, small),
        before.variables,
        before.mask,
    )


def _activations(experiment: Experiment, before: Made) -> tuple[Form, Any]:
    """The form whose layers are given few bits, if they are to be; variables with their grids."""
    rules = experiment.spec.quantize
    if not rules.activation_bits:
        return before.form, before.variables
    layers = form_lib.reached(before.form, experiment.dataset.shape)
    bits = dict.fromkeys(layers, rules.activation_bits)
    inputs, found = made_lib.examples(experiment.dataset, SEEN), []
    for r in range(experiment.spec.replicates):
        own = jax.tree.map(lambda leaf, r=r: jnp.asarray(leaf[r]), before.variables)
        found.append(
            form_lib.calibrated(before.form, own, inputs, bits, range=rules.activation_range)
        )
    grids = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    form = before.form._replace(activations=bits)
    return form, {**before.variables, form_lib.ACTIVATIONS: grids}
