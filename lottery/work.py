"""From a checked config to an experiment that can be run: plan, devices, networks."""

import functools
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from groundwork import architectures, keys
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run
from groundwork.study import Prepared
from groundwork.train import networks, optim, programs
from lottery import branches, tickets
from lottery.spec import LotterySpec
from pruning import masks, schedule

Config = Mapping[str, Any]


def make_plan(spec: LotterySpec, config: Config, dataset: AnyDataset) -> schedule.Plan:
    """Counts of every level, from the network's shapes alone.

    Raises:
      UserError: nothing is prunable, or `schedule.plan` refuses the levels.
    """
    module = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(module, dataset.shape)["params"]
    prunable = masks.flatten(shapes, spec.prune.is_prunable)
    if not prunable:
        paths = ", ".join(masks.flatten(shapes, lambda path: True))
        raise UserError(f"prune.prunable={spec.prune.prunable} matches none of {paths}")
    rules = spec.prune
    return schedule.plan(prunable, rules.rate, rules.scope, spec.levels, rules.schedule)


def prepare(spec: LotterySpec, config: Config, dataset: AnyDataset) -> Prepared:
    """Plan, devices, and the levels that are to be gone through.

    Raises:
      UserError: what `make_plan` and `mesh.for_run` refuse.
    """
    plan = make_plan(spec, config, dataset)
    mesh = mesh_lib.for_run(spec.mesh, spec.replicates, spec.train.batch_size, dataset.examples)

    def work(run: Run, reporter: Reporter, interruption: Interruption) -> None:
        experiment = make_experiment(spec, config, dataset, plan, mesh, run, reporter, interruption)
        tickets.find_tickets(experiment, branches.train_branch)

    module = architectures.build(config, dataset.classes)
    return Prepared(mesh, computed_by(module, dataset.shape), work)


def make_experiment(
    spec: LotterySpec,
    config: Config,
    dataset: AnyDataset,
    plan: schedule.Plan,
    mesh: Mesh,
    run: Run,
    reporter: Reporter,
    interruption: Interruption,
) -> tickets.Experiment:
    """Everything that stays the same from level to level; nothing is compiled yet."""
    network_of = functools.partial(_make_network, spec, dataset, mesh)

    def narrowed(parameters: int) -> tickets.Network:
        section = architectures.narrowed(config, dataset.classes, dataset.shape, parameters)
        return network_of(section)

    networks.say_mesh(reporter, mesh)
    return tickets.Experiment(
        spec=spec,
        run=run,
        reporter=reporter,
        interruption=interruption,
        mesh=mesh,
        network=network_of(config["model"]),
        narrowed=narrowed,
        plan=plan,
        roots=mesh_lib.put(mesh, keys.roots(spec.seed, spec.replicates), mesh_lib.BY_REPLICATE),
        validate=dataset.examples["validation"] > 0,
    )


def _make_network(
    spec: LotterySpec, dataset: AnyDataset, mesh: Mesh, model: Mapping[str, Any]
) -> tickets.Network:
    optimizer = optim.make(spec.optimizer, spec.train.steps)
    compiled = programs.make(
        architectures.build(model, dataset.classes),
        masks.enforce(optimizer, None),
        dataset,
        mesh,
        batch_size=spec.train.batch_size,
        stride=spec.checkpoint.poll_steps,
    )
    return tickets.make_network(compiled, optimizer, mesh, spec.prune.is_prunable)
