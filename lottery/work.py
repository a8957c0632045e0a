"""From a checked config to the levels of a run: plan, devices, networks. Read `prepare` first."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import optax

from groundwork import architectures, trees
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.architectures.own import Own
from groundwork.context import Context
from groundwork.data.dataset import AnyDataset
from groundwork.errors import UserError, about
from groundwork.study import Prepared
from groundwork.train import footprint, loss_spec, networks, optim, own, programs, replicates
from groundwork.train.losses import Loss
from groundwork.train.optim import OptimizerSpec
from groundwork.trees import Shapes
from lottery import branches, tickets, transfer
from lottery.branches import scratch_b
from lottery.spec import LotterySpec
from pruning import enforce, masks, pruner, rates, schedule
from pruning.criteria import CRITERIA
from pruning.dynamic import movement
from pruning.schedule import Plan

Config = Mapping[str, Any]


def make_plan(spec: LotterySpec, config: Config, dataset: AnyDataset) -> Plan:
    """Returns the counts of all levels, from the network's shapes alone.

    Raises:
      UserError: nothing is prunable, the levels cannot be reached, or the network is too large.
    """
    module = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(module, dataset.example)
    footprint.check("this model", shapes, spec.optimizer, spec.replicates)
    leaves = spec.prune.leaves(shapes["params"])
    stacked = rates.stacks(module, shapes, trees.example(dataset.example), leaves)
    if spec.ticket.source:
        return schedule.unpruned(leaves, spec.prune.scope, spec.levels, stacked)
    instead = "levels=0 for the dense network alone"
    return spec.prune.plan(leaves, spec.levels, "levels=", instead, stacked)


def prepare(spec: LotterySpec, config: Config, dataset: AnyDataset) -> Prepared:
    """Returns the devices, and the work on all levels.

    Raises:
      UserError: `make_plan` or `networks.mesh_for` refuses the config.
    """
    plan = make_plan(spec, config, dataset)
    module = architectures.build(config, dataset.classes)
    if isinstance(module, Own) and any(spec.branches.get("small_dense", ())):
        raise UserError(
            "branches.small_dense narrows shipped networks by model.width, which "
            f"{module.name} has not: set branches.small_dense=()"
        )
    shapes = architectures.shapes(module, dataset.example)
    if any(spec.branches.get("scratch_b", ())):
        try:
            scratch_b.costs(module, shapes, dataset.example)
        except ValueError as error:
            raise UserError(f"branches.scratch_b: {error}") from error
    loss, code = own.checked_loss(spec.loss, dataset, module, shapes)
    criterion = CRITERIA[spec.prune.criterion]
    with about("prune.criterion"):
        networks.check_examples("prune.examples", spec.prune.examples, dataset)
        seen = networks.seen(dataset, module, spec.prune.seen, loss)
        pruner.check(criterion, spec.prune.leaves(shapes["params"]), shapes, **seen)
    sizes = {"train": spec.train.batch_size}
    mesh = networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset)
    taken = _taken(spec, config, dataset, shapes)

    def work(context: Context) -> None:
        levels = make_levels(spec, config, plan, context)
        if taken:
            transfer.train_tickets(levels, taken, branches.train)
        else:
            tickets.find_tickets(levels, branches.train)

    def begin() -> None:
        if taken:
            transfer.check(taken)

    return Prepared(
        mesh=mesh,
        convolutions=computed_by(module, dataset.example),
        work=work,
        begin=begin,
        metric=loss.metric,
        own=code,
    )


def _taken(
    spec: LotterySpec, config: Config, dataset: AnyDataset, shapes: Shapes
) -> transfer.Taken | None:
    """Returns what is taken of the run that `ticket.source` names, if it names one."""
    if not spec.ticket.source:
        return None
    more = {}
    if dataset.classes:
        module = architectures.build(config, dataset.classes + 1)
        more = architectures.shapes(module, dataset.example)
    head = transfer.head(shapes, more)
    if spec.ticket.head == "replace" and not head:
        raise UserError(
            "ticket.head=replace: no array of this network depends on the number of classes; set "
            "ticket.head=auto"
        )
    return transfer.Taken(
        spec=spec.ticket,
        levels=spec.trained_levels,
        replicates=spec.replicates,
        shapes=shapes,
        prunable=tuple(spec.prune.leaves(shapes["params"])),
        head=head,
    )


def make_levels(spec: LotterySpec, config: Config, plan: Plan, context: Context) -> tickets.Levels:
    """Returns what is the same at all levels; nothing is compiled yet."""
    dataset = context.dataset

    def narrowed(parameters: int) -> tickets.Network:
        section = architectures.narrowed(config, dataset.classes, dataset.shape, parameters)
        return _make_network(spec, context, section, optimizer, steps)

    def longer(times: float) -> tickets.Network:
        return _make_network(
            spec, context, config["model"], *optim.stretched(optimizer, steps, times)
        )

    def settled() -> tickets.Network:
        return _make_network(spec, context, config["model"], optim.settled(optimizer, steps), steps)

    optimizer, steps = spec.optimizer, spec.train.steps
    criterion = CRITERIA[spec.prune.criterion]
    module = architectures.build(config, dataset.classes)
    loss = loss_spec.build(spec.loss, dataset.target)
    seen = networks.evidence(context, module, spec.prune.seen, loss)
    return tickets.Levels(
        context=context,
        network=_make_network(spec, context, config["model"], optimizer, steps),
        narrowed=narrowed,
        settled=functools.cache(settled),
        longer=longer,
        plan=plan,
        prune=pruner.make_pruner(context.mesh, criterion, plan.paths, plan.slices, **seen),
        levels=spec.levels,
        steps=spec.train.steps,
        score_step=spec.score_step,
        saves_scored=spec.saves_scored,
        before_training=spec.prune.before_training,
        needs=criterion.needs,
        rewind_step=spec.rewind.step,
        restore=spec.rewind.restore,
        branches=spec.branches,
        scratch_b_at_most=spec.scratch_b_at_most,
    )


def _make_network(
    spec: LotterySpec,
    context: Context,
    section: Mapping[str, Any],
    trained_by: OptimizerSpec,
    steps: int,
) -> tickets.Network:
    """Returns the network of a `model` section, and how it is trained for so many steps."""
    optimizer = optim.make(trained_by, steps)
    if "movement" in spec.prune.needs:
        optimizer = movement.accumulate(optimizer, spec.prune.is_prunable)
    return make_network(
        context,
        architectures.build(section, context.dataset.classes),
        optimizer,
        batch_size=spec.train.batch_size,
        loss=loss_spec.build(spec.loss, context.dataset.target),
        prunable=spec.prune.is_prunable,
    )


def make_network(
    context: Context,
    model: Any,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    loss: Loss,
    prunable: Callable[[str], bool],
) -> tickets.Network:
    """Returns a network that is trained under masks; nothing is compiled yet.

    Args:
      context: of the run.
      model: the architecture.
      optimizer: which is wrapped so that it holds masks.
      batch_size: of a step.
      loss: of the run.
      prunable: path → whether a mask has it.
    """
    compiled = programs.make(
        model,
        enforce.enforce(optimizer, None),
        context.dataset,
        context.mesh,
        batch_size=batch_size,
        stride=context.poll_steps,
        objective=loss,
    )
    return tickets.Network(
        model=model,
        programs=compiled,
        start=networks.make_start(context, enforce.begin(optimizer)),
        ones=replicates.each_replicate(context.mesh, lambda params: masks.ones(params, prunable)),
    )
