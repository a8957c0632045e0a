"""python -m lottery.main --config=configs/lottery/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

import architectures
from experiment import config as config_lib
from experiment import data, keys, mesh, optim, programs, run
from experiment.data import Dataset
from experiment.errors import UserError, run_main
from experiment.progress import Reporter
from lottery import branches, masks, report, schedule, spec, tickets

USAGE = config_lib.USAGE.format(
    module="lottery.main",
    about="Lottery tickets: train, prune, rewind, repeat, with controls beside, and a report.",
    example="configs/lottery/mnist1d.py",
)


def main(argv: Sequence[str]) -> None:
    """Parse, check, train what is not done yet, report."""
    parsed, workdir = config_lib.parse(argv, USAGE)
    config = config_lib.resolve(parsed)
    checked = spec.from_config(config)
    dataset = data.load(config)
    plan = _plan(checked, config, dataset)
    devices = _mesh(checked, config, dataset)
    opened, warnings = run.open_run(workdir, config, extendable=("levels", "branches"))
    units = tickets.unit_names(checked)
    done = set(units) & set(opened.units())
    with Reporter(workdir / "run.log", len(units), len(done)) as reporter:
        for warning in warnings:
            reporter.say(f"warning: {warning}")
        if len(done) < len(units):
            _train(config, checked, dataset, plan, devices, opened, reporter)
    report.show([workdir])


def _train(config, checked, dataset, plan, devices, opened, reporter) -> None:
    network_of = functools.partial(_network, checked, dataset, devices)

    def narrowed(parameters: int) -> tickets.Network:
        model = config["model"]
        return network_of(architectures.narrowed(model, dataset.classes, dataset.shape, parameters))

    idle = len(jax.devices()) - devices.size
    reporter.say(f"mesh {dict(devices.shape)}" + (f", {idle} devices idle" if idle else ""))
    experiment = tickets.Experiment(
        spec=checked,
        run=opened,
        reporter=reporter,
        mesh=devices,
        network=network_of(config["model"]),
        narrowed=narrowed,
        plan=plan,
        roots=mesh.put(devices, keys.roots(checked.seed, checked.replicates), mesh.BY_REPLICATE),
        validate=len(dataset.validation.labels) > 0,
    )
    tickets.find_tickets(experiment, branches.train_branch)


def _network(checked, dataset, devices, model: Mapping[str, Any]) -> tickets.Network:
    optimizer = optim.make(checked.optimizer, checked.train.steps)
    compiled = programs.make(
        architectures.build(model, dataset.classes),
        masks.enforce(optimizer, None),
        dataset,
        devices,
        batch_size=checked.train.batch_size,
    )
    return tickets.make_network(compiled, optimizer, devices, checked.prunable)


def _plan(checked: spec.LotterySpec, config, dataset: Dataset) -> schedule.Plan:
    module = architectures.build(config["model"], dataset.classes)
    shapes = architectures.shapes(module, dataset.shape)["params"]
    prunable = masks.flatten(shapes, checked.prunable)
    if not prunable:
        raise UserError(f"prune.prunable={checked.prune.prunable} matches no parameter")
    rules = checked.prune
    return schedule.plan(prunable, rules.rate, rules.scope, checked.levels, rules.schedule)


def _mesh(checked: spec.LotterySpec, config, dataset: Dataset) -> jax.sharding.Mesh:
    batch, examples = checked.train.batch_size, len(dataset.train.labels)
    if batch > examples:
        raise UserError(f"train.batch_size={batch} is more than the {examples} training examples")
    return mesh.make(checked.replicates, batch, **config["mesh"])


if __name__ == "__main__":
    run_main(main)
